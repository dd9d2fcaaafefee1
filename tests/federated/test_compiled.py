"""Compiled networks are trained compiled, or the compilation is refused; it is never ignored silently."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import fit, net, weights
from torch import nn

from fedlit.clients.client import ClientModule
from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import FederatedLoop, FederatedModule

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")


def compiled(given: nn.Module) -> nn.Module:
    """Compiled as far as Python goes: without the C++ compiler that takes seconds."""
    made = torch.compile(given, backend="eager")
    assert isinstance(made, nn.Module)
    return made


class Part(nn.Module):
    """A net with a compiled part."""

    def __init__(self) -> None:
        super().__init__()
        self.body = compiled(net())

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.body(inputs)


def run(module: Any, engine: Engine, **kwargs: Any) -> None:
    fit(module, FederatedLoop(4, seed=0, engine=engine), **kwargs)


def as_it_is(given: nn.Module) -> nn.Module:
    return given


def made(wrap: Callable[[nn.Module], nn.Module] = as_it_is, loss: nn.Module | None = None) -> FederatedModule:
    torch.manual_seed(0)
    return FederatedModule(wrap(net()), loss=loss)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # which torch.compile of a loss reads
@pytest.mark.parametrize("engine", [LoopEngine, TrainerEngine, lambda: WorkersEngine(workers=2)])
def test_a_compiled_net_trains_to_the_same_weights(engine: Callable[[], Engine]) -> None:
    plain, quick = made(), made(compiled, loss=compiled(nn.CrossEntropyLoss()))
    run(plain, LoopEngine())
    run(quick, engine())
    torch.testing.assert_close(weights(quick), weights(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: made(compiled), "the net is compiled"),
        (lambda: made(lambda given: Part()), "body is compiled"),
        (lambda: made(loss=compiled(nn.CrossEntropyLoss())), "the loss is compiled"),
    ],
)
def test_a_compiled_net_is_not_trained_in_a_batched_program(module: Callable[[], FederatedModule], said: str) -> None:
    with pytest.raises(InputError, match=rf"^{said}, which VectorizedEngine does not support; use .* LoopEngine$"):
        run(module(), VectorizedEngine())


def in_place(module: FederatedModule) -> FederatedModule:
    module.net.compile(backend="eager")
    return module


def part_in_place(module: FederatedModule) -> FederatedModule:
    next(module.net.children()).compile(backend="eager")
    return module


def whole_in_place(module: FederatedModule) -> FederatedModule:
    module.compile(backend="eager")
    return module


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (in_place, r"^net\.compile\(\) was called, but each client trains a copy.*torch\.compile\(net\)"),
        (part_in_place, r"^net\.\w+\.compile\(\) was called"),
        (whole_in_place, r"^FederatedModule\.compile\(\) was called"),
        (lambda module: torch.compile(module, backend="eager"), r"^the FederatedModule is compiled, but its training"),
    ],
)
def test_compilation_without_effect_is_refused(wrap: Callable[[FederatedModule], Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(wrap(made()), LoopEngine())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_what_torch_jit_compiled_is_refused_as_its_copies_do_not_train() -> None:
    with pytest.raises(InputError, match=r"^the net is compiled by torch\.jit, .*; give the original module"):
        made(torch.jit.script)


@pytest.mark.parametrize("wraps", [(compiled, as_it_is), (as_it_is, compiled)])
def test_a_checkpoint_that_differs_only_by_compilation_is_refused_with_that_reason(tmp_path: Path, wraps: Any) -> None:
    before, after = wraps
    run(made(before), LoopEngine(), enable_checkpointing=True, default_root_dir=tmp_path)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    with pytest.raises(
        InputError, match=r"^the checkpoint has the same net, but only one of the two uses torch\.compile"
    ):
        FederatedModule.load_from_checkpoint(checkpoint, net=after(net()))
    FederatedModule.load_from_checkpoint(checkpoint, net=before(net()))


class Threads(ClientModule):
    """Measures how many processes would compile for it."""

    def measure(self, task: Any, data: Any) -> dict[str, float]:
        return {"threads": float(settings().compile_threads or 0)}


def settings() -> Any:
    return importlib.import_module("torch._inductor.config")


def test_a_worker_compiles_by_itself() -> None:
    """The processes that PyTorch keeps for it answer to the process that made them, and no fork of it."""
    settings()  # a fork inherits the parent's, where they are imported
    found: list[float] = []
    loop = FederatedLoop(4, seed=0, engine=WorkersEngine(workers=2))
    loop.on_update.append(lambda update: found.append(update.metrics["threads"]))
    module = made()
    module.client_class = Threads
    fit(module, loop)
    assert len(found) == 8
    assert set(found) == {1.0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_kernels_of_a_compiler_train_in_workers() -> None:
    """By default, after the server has compiled the same for its own tests of the net."""
    plain, quick = made(), made(torch.compile)  # type: ignore[arg-type]
    run(plain, LoopEngine())
    run(quick, WorkersEngine(workers=2))
    torch.testing.assert_close(weights(quick), weights(plain), rtol=1e-4, atol=1e-5)
