"""Pieces of held-out data evaluated by several threads give the results of one thread, for any network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federations import fit, table
from lightning import Trainer
from torch import Tensor, nn

from fedlit.data import Tensors
from fedlit.engines import WorkersEngine
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.federated.pieces import map_pieces
from fedlit.models import EmnistCNN, joined
from fedlit.runs import MetricsTable

#: Threads, and how many each may use, that evaluated a piece since the last ``evaluate``.
seen: set[tuple[int, int]] = set()


class Net(nn.Module):
    """A linear layer; subclasses do more than that."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(5, 3)
        self.register_buffer("met", torch.zeros(3))
        self.calls, self.last, self.kept = 0, None, []

    def forward(self, inputs: Tensor) -> Tensor:
        seen.add((threading.get_ident(), torch.get_num_threads()))
        return self.more(self.layer(inputs))

    def more(self, logits: Tensor) -> Tensor:
        return logits


class LaysAsideAndTakes(Net):
    """Like a U-Net that stores features on the way down in an attribute for the way up."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.kept.append(inputs)
        return super().forward(inputs) + self.kept.pop().sum()


class Draws(Net):
    def more(self, logits: Tensor) -> Tensor:
        return F.dropout(logits)  # forgets to say when it trains


class Counts(Net):
    def more(self, logits: Tensor) -> Tensor:
        self.calls += 1
        return logits * self.calls


class Remembers(Net):
    def more(self, logits: Tensor) -> Tensor:
        self.last = logits
        return logits


class Collects(Net):
    def more(self, logits: Tensor) -> Tensor:
        self.kept.append(logits)
        return logits


class WritesABuffer(Net):
    def more(self, logits: Tensor) -> Tensor:
        self.met += logits.mean(0)
        return logits + self.met


class ReplacesABuffer(Net):
    def more(self, logits: Tensor) -> Tensor:
        self.met = self.met + logits.mean(0)
        return logits + self.met


class Uncopied(Net):
    def __deepcopy__(self, memo: object) -> Net:
        raise TypeError("there is to be one")


def hooked(change: Callable[[Net], object]) -> Callable[[], Net]:
    def made() -> Net:
        net = Net()
        change(net)
        return net

    return made


def count(net: Net, *_: object) -> None:
    net.calls += 1


ALONE: dict[str, Callable[[], Net]] = {
    "draws": Draws,
    "counts": Counts,
    "remembers": Remembers,
    "collects": Collects,
    "writes a buffer": WritesABuffer,
    "replaces a buffer": ReplacesABuffer,
    "cannot be copied": Uncopied,
    "trains": hooked(lambda net: net.layer.train()),
    "hook": hooked(lambda net: net.register_forward_hook(count)),
    "hook of a layer": hooked(lambda net: net.layer.register_forward_hook(lambda *_: count(net))),
    "hook before": hooked(lambda net: net.register_forward_pre_hook(count)),
    "weight norm of old": hooked(lambda net: torch.nn.utils.spectral_norm(net.layer)),
}


@pytest.fixture
def three_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3  # in any case
    torch.set_num_threads(threads)


def evaluate(made: Net, threads: int, mode: Any = None) -> tuple[list[Tensor], dict[str, Any]]:
    """Logits of seven pieces of a batch, and afterwards the network's state and PyTorch's random state."""
    seen.clear()
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    pieces = [(piece,) for piece in torch.randn(32, 5).split(5)]
    with torch.no_grad(), mode or nullcontext():
        logits = map_pieces(lambda net, piece: net(piece), nn.ModuleList([made]), pieces)
    left = {"calls": made.calls, "last": made.last, "kept": made.kept, "met": made.met, "dice": torch.get_rng_state()}
    return logits, left


def assert_equal(one: tuple[list[Tensor], dict[str, Any]], many: tuple[list[Tensor], dict[str, Any]]) -> None:
    torch.testing.assert_close(many[0], one[0], rtol=0, atol=0)
    torch.testing.assert_close(many[1], one[1], rtol=0, atol=0)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("make", [Net, LaysAsideAndTakes])
@pytest.mark.parametrize("mode", [None, torch.inference_mode])
def test_a_network_that_only_reads_is_evaluated_by_threads_in_order(
    make: Callable[[], Net], mode: Callable[[], Any] | None
):
    one = evaluate(make().eval(), 1, mode and mode())
    assert seen == {(threading.get_ident(), 1)}
    many = evaluate(make().eval(), 3, mode and mode())
    assert threading.get_ident() not in {thread for thread, _ in seen}
    assert {threads for _, threads in seen} == {1}
    assert_equal(one, many)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("name", ALONE)
def test_a_network_with_side_effects_evaluates_pieces_one_by_one(name: str):
    made = [ALONE[name]() for _ in range(2)]
    if name != "trains":
        made = [net.eval() for net in made]
    assert_equal(evaluate(made[0], 1), evaluate(made[1], 3))
    assert (threading.get_ident(), 3) in seen
    evaluate(made[1], 3)
    assert seen == {(threading.get_ident(), 3)}  # it is known by now


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("mode", [lambda: torch.autocast("cpu"), torch.enable_grad, lambda: torch.device("cpu")])
def test_modes_of_this_thread_are_kept(mode: Callable[[], Any]):
    logits, _ = evaluate(Net().eval(), 3, mode())
    assert seen == {(threading.get_ident(), 3)}
    with torch.no_grad(), mode():
        expected = Net().eval()(torch.zeros(1, 5))
    assert {(each.dtype, each.requires_grad) for each in logits} == {(expected.dtype, expected.requires_grad)}


@pytest.mark.usefixtures("three_threads")
def test_layers_of_a_sequential_are_joined_whatever_the_number_of_threads():
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)).eval()
    pieces = [(piece,) for piece in torch.rand(6, 1, 8, 8).split(2)]
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        with torch.no_grad(), patch.object(joined, "conv_pool", wraps=joined.conv_pool) as calls:
            found.append(map_pieces(lambda net, piece: net(piece), nn.ModuleList([net]), pieces))
        assert calls.call_count == 3
    assert all(map(torch.equal, *found))
    assert type(net) is nn.Sequential


@pytest.mark.usefixtures("three_threads")
def test_an_error_in_a_piece_reaches_the_caller():
    class Fails(Net):
        def more(self, logits: Tensor) -> Tensor:
            raise ValueError("no logits today")

    with pytest.raises(ValueError, match="no logits today"):
        evaluate(Fails().eval(), 3)


@pytest.mark.usefixtures("three_threads")
def test_without_pieces_nothing_is_evaluated():
    assert map_pieces(lambda net: None, nn.ModuleList([Net().eval()]), []) == []


# --- the server ------------------------------------------------------------------------------------------------------


class Watched(EmnistCNN):
    """Records which thread evaluates how many images."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            seen.add((threading.get_ident(), len(images)))
        return super().forward(images)


class Doubled(FederatedModule):
    """Has a forward of its own, which threads with copies of the net would pass by."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


def examples() -> Tensors:
    """150 held-out images: with the default sizes one batch of pieces of 64, 64 and 22."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (190, 1, 8, 8), dtype=np.uint8), rng.integers(0, 3, 190)
    return Tensors(
        train=(images[:40], labels[:40]),
        test=(images[40:], labels[40:]),
        class_names=["a", "b", "c"],
        num_clients=4,
        seed=0,
    )


def server(kind: type[FederatedModule] = FederatedModule) -> FederatedModule:
    torch.manual_seed(0)
    return kind(Watched(num_classes=3, image_size=8, widths=(16, 16), hidden=8))


@pytest.mark.usefixtures("three_threads")
def test_rounds_log_the_same_digits_on_one_and_on_three_threads(tmp_path: Path):
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        seen.clear()
        path = tmp_path / f"{threads}.csv"
        loop = FederatedLoop(2, seed=0, engine=WorkersEngine(workers=2))
        fit(server(), loop, examples(), logger=MetricsTable(path))
        found.append(
            [{k: v for k, v in row.items() if not k.endswith(("seconds", "per_second"))} for row in table(path)]
        )
    assert {size for thread, size in seen if thread != threading.get_ident()} == {64, 22}
    assert len(found[0]) == 2
    assert found[0] == found[1]


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("kind", [FederatedModule, Doubled])
def test_predictions_are_in_order_and_use_an_overridden_forward(kind: type[FederatedModule]):
    module, held_out = server(kind), examples()
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(callbacks=[FederatedLoop(2, seed=0)], **quiet)
    (found,) = trainer.predict(module, datamodule=held_out)
    with torch.no_grad():
        expected = module(held_out.transform(held_out.test.inputs)).softmax(-1)
    torch.testing.assert_close(found, expected)


class Close(nn.Module):
    """The same logits for all inputs: the second class leads, by less than probabilities in bfloat16 would show."""

    LOGITS = (0.0, 2.0**-9, -20.0)

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(1, 3, bias=False)
        self.last.weight.data = torch.tensor(self.LOGITS)[:, None]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(torch.ones(len(inputs), 1))


def test_probabilities_are_float32_in_mixed_precision():
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(callbacks=[FederatedLoop(2, seed=0)], precision="bf16-mixed", **quiet)
    (found,) = trainer.predict(FederatedModule(Close()), datamodule=examples())
    torch.testing.assert_close(found, torch.tensor(Close.LOGITS).softmax(-1).expand_as(found))
    assert (found.argmax(-1) == 1).all()
