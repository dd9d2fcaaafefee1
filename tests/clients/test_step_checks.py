"""Every loss and optimizer of PyTorch trains, or is refused in one line before a run folder is created."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import data, fit, net, weights
from torch import Tensor, nn, optim
from torch.nn.modules import loss as losses
from torch.optim import SGD, Optimizer

from fedlit.cli import main
from fedlit.clients.gradients import full_gradient
from fedlit.clients.step_checks import adds_up, check_loss, is_plain_mean
from fedlit.core.errors import InputError
from fedlit.data import Tensors
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule

#: Losses of class numbers; every other one of PyTorch's compares tensors of one shape, or needs more than two.
OF_CLASSES = {"CrossEntropyLoss", "MultiMarginLoss", "NLLLoss", "NLLLoss2d"}
#: Optimizers that compute the loss again, or are for sparse gradients or matrices alone.
NOT_FOR_US = {"LBFGS": "cannot step", "SparseAdam": "dense", "Muon": "2D"}

LOSSES = [name for name in losses.__all__ if name != "LinearCrossEntropyLoss"]  # a layer of its own
OPTIMIZERS = [name for name, kind in vars(optim).items() if inspect.isclass(kind) and kind is not Optimizer]


def make(name: str, **arguments: str) -> nn.Module:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # NLLLoss2d has another name now
        return getattr(losses, name)(**arguments)


def train(loop: FederatedLoop | None = None, **module: Any) -> FederatedModule:
    return fit(FederatedModule(net(), **module), loop or FederatedLoop(2, seed=0, engine=LoopEngine()), rounds=1)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_class_numbers_trains_and_another_is_refused(name: str):
    if name in OF_CLASSES:
        assert train(loss=make(name)).round_metrics["round/clients"] == 2
        return
    said = rf"model.loss {name} does not take logits \(2, 3\) and class numbers \(2,\) .*; use torch.nn.CrossEntropy"
    with pytest.raises(InputError, match=said):
        train(loss=make(name))


@pytest.mark.parametrize("name", sorted(OF_CLASSES))
@pytest.mark.parametrize(("reduction", "said"), [("none", r"gives shape \(2,\)"), ("sum", "gives a sum over examples")])
def test_only_the_mean_reduction_of_a_loss_is_accepted(name: str, reduction: str, said: str):
    with pytest.raises(InputError, match=rf"model.loss {name} {said}.*; set model.loss.reduction to mean"):
        train(loss=make(name, reduction=reduction))


class OwnLoss(nn.Module):
    """The result of ``of`` for logits (B, 3) and targets (B,)."""

    def __init__(self, of: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.of = of

    def forward(self, logits: Tensor, targets: Tensor) -> Any:
        return self.of(logits, targets)


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits.argmax(1) == targets).float().mean()


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (OwnLoss(lambda logits, targets: 1.0), "gives a float for"),
        (OwnLoss(hits), "has no gradient"),
        (nn.CrossEntropyLoss(weight=torch.ones(7)), r"does not take logits .*weight"),
        (OwnLoss(lambda logits, targets: nn.functional.cross_entropy(logits, targets) * len(targets)), "gives a sum"),
    ],
)
def test_a_users_loss_that_is_not_a_mean_is_refused(loss: nn.Module, said: str):
    with pytest.raises(InputError, match=said):
        train(loss=loss)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(ignore_index=2),
        OwnLoss(lambda logits, targets: logits.logsumexp(1).mean() + logits.square().mean()),
        OwnLoss(lambda logits, targets: nn.functional.mse_loss(logits, nn.functional.one_hot(targets, 3).float())),
    ],
)
def test_other_mean_losses_train(loss: nn.Module):
    assert train(loss=loss).round_metrics["round/clients"] == 2


def test_the_probe_leaves_a_losses_state_and_the_random_state_as_they_are():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            self.calls += 1
            return nn.functional.cross_entropy(logits + torch.rand(1), targets)

    module = FederatedModule(net(), loss=Counting())
    before = torch.get_rng_state()
    fit(module, FederatedLoop(1, seed=0), rounds=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert module.loss.calls == 0


@pytest.mark.parametrize("classes", [2, 3])
def test_a_loss_of_two_equal_shapes_is_found_for_any_number_of_classes(classes: int):
    # Tensors (2, 2) and (2,) can be broadcast to each other, and (3, 3) and (3,).
    rows = Tensors(
        train=(torch.rand(6, 5), torch.arange(6) % classes),
        test=(torch.rand(1, 5), torch.zeros(1, dtype=torch.int64)),
        class_names=["a", "b", "c"][:classes],
        num_clients=2,
    )
    with pytest.raises(InputError, match=r"model.loss MSELoss does not take logits \((2, 3|3, 2)\)"):
        fit(FederatedModule(nn.Linear(5, classes), loss=nn.MSELoss()), FederatedLoop(2, seed=0), rows)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_trains_or_is_refused(name: str, role: str):
    arguments = {f"{role}_optimizer": lambda p: getattr(optim, name)(p, lr=0.01)}
    if name not in NOT_FOR_US:
        assert train(**arguments).round_metrics["round/clients"] == 2
        return
    with pytest.raises(InputError, match=rf"model.{role}_optimizer.*{name}.*{NOT_FOR_US[name]}"):
        train(**arguments)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_an_optimizer_that_maximizes_is_refused(name: str, role: str):
    """The proximal term would push away from the broadcast model, and the server step away from the average."""
    with pytest.raises(InputError, match=rf"model.{role}_optimizer {name} has maximize True.*; leave maximize out"):
        train(**{f"{role}_optimizer": lambda p: getattr(optim, name)(p, lr=0.01, maximize=True)})


class NeedsLoss(SGD):
    """Takes no closure for granted, as sharpness-aware minimisation does."""

    def step(self, closure=None):
        return closure().backward()


@pytest.mark.parametrize("engine", [LoopEngine(), TrainerEngine()])
def test_an_optimizer_of_ones_own_that_computes_the_loss_again_is_refused(engine):
    for role in ("client", "server"):
        with pytest.raises(InputError, match=rf"model.{role}_optimizer NeedsLoss cannot step on the dense gradient"):
            train(FederatedLoop(2, seed=0, engine=engine), **{f"{role}_optimizer": lambda p: NeedsLoss(p, lr=0.1)})


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("given", [optim.SGD(nn.Linear(2, 3).parameters(), lr=0.1), "SGD"])
def test_an_optimizer_that_is_no_function_is_refused(role: str, given: object):
    says = rf"model.{role}_optimizer must be a function from .*, got an object of {type(given).__name__}; give lambda"
    with pytest.raises(InputError, match=says):
        train(**{f"{role}_optimizer": given})


def test_a_clients_own_optimizer_that_computes_the_loss_again_is_refused():
    class Client(ClientModule):
        def configure_optimizers(self) -> Optimizer:
            return optim.LBFGS(self.parameters_)

    class Module(FederatedModule):
        client_class = Client

    with pytest.raises(InputError, match=r"Client.configure_optimizers LBFGS cannot step"):
        fit(Module(net()), FederatedLoop(2, seed=0))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model.client_optimizer LBFGS", "model.client_optimizer LBFGS cannot step"),
        ("--model.server_optimizer LBFGS", "model.server_optimizer LBFGS cannot step"),
        ("--model.loss torch.nn.BCEWithLogitsLoss", "model.loss BCEWithLogitsLoss does not take logits (2, 10)"),
        (
            "--model.loss torch.nn.CrossEntropyLoss --model.loss.reduction sum",
            "model.loss CrossEntropyLoss gives a sum",
        ),
    ],
)
def test_the_command_refuses_before_there_is_a_folder(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    net_of_data = "--model.net fedlit.models.SoftmaxRegression --trainer.accelerator cpu --trainer.max_epochs 1"
    assert main(["fit", *net_of_data.split(), *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Own(nn.Module):
    """Cross-entropy of each example, which a subclass reduces in place of the mean."""

    reduction = "mean"

    def mean(self, losses: Tensor, targets: Tensor) -> Tensor:
        return losses.mean()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        return losses if self.reduction == "none" else self.mean(losses, targets)


class Hardest(Own):
    def mean(self, losses: Tensor, targets: Tensor) -> Tensor:
        return losses.topk(max(1, len(losses) // 2)).values.mean()


class ByFirstClass(Own):
    def mean(self, losses: Tensor, targets: Tensor) -> Tensor:
        return losses.sum() / (1 + (targets == 0).sum())


class AlwaysMean(Own):
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, targets)


class Failing(Own):
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        assert self.reduction == "mean"
        return nn.functional.cross_entropy(logits, targets)


PLAIN = [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.2), nn.MultiMarginLoss(), Own()]
OTHERS = [
    nn.CrossEntropyLoss(ignore_index=1),
    nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])),
    nn.CrossEntropyLoss(reduction="sum"),
    *(kind() for kind in (Hardest, ByFirstClass, AlwaysMean, Failing)),
]


@pytest.mark.parametrize("loss", PLAIN + OTHERS, ids=lambda loss: f"{loss!r}")
def test_a_plain_mean_is_distinguished_from_similar_losses(loss: nn.Module):
    before = torch.get_rng_state()
    assert is_plain_mean(loss, 3, torch.device("cpu")) == (loss in PLAIN)
    assert torch.equal(torch.get_rng_state(), before)
    assert loss.reduction in ("mean", "sum")


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch, of MultiMarginLoss in a block
@pytest.mark.filterwarnings("ignore:.* is not a mean over examples")
@pytest.mark.parametrize("loss", PLAIN + OTHERS[:2] + OTHERS[3:], ids=lambda loss: f"{loss!r}")
def test_batched_clients_train_to_the_same_weights_or_are_refused(loss: nn.Module):
    def trained(engine: Engine) -> Tensor:
        return weights(fit(FederatedModule(net(), loss=loss), FederatedLoop(4, seed=0, engine=engine)))

    expected = trained(LoopEngine())
    if loss in PLAIN:
        torch.testing.assert_close(trained(VectorizedEngine()), expected, rtol=1e-5, atol=1e-6)
    else:
        with pytest.raises(
            InputError, match="is not a plain mean over samples, which VectorizedEngine does not support"
        ):
            trained(VectorizedEngine())


@pytest.mark.parametrize("loss", [OTHERS[0], OTHERS[1], PLAIN[1]], ids=lambda loss: f"{loss!r}")
@pytest.mark.parametrize("size", [1, 4, 100])
def test_the_gradient_of_a_mean_loss_is_that_of_all_examples_at_once(loss: nn.Module, size: int):
    examples = data(eval_batch_size=size)
    examples.setup()
    model, rows = net(), examples.partition.client(2)
    found = full_gradient(model, loss, examples.client_eval_batches(2))
    gradients = [p.grad.clone() for p in model.parameters()]
    expected = loss(model(examples.train.inputs[rows]), examples.train.targets[rows])
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    for gradient, exact in zip(gradients, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(gradient, exact, rtol=1e-4, atol=1e-6)


class Scaled(nn.Module):
    """Has a temperature to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits * self.temperature, targets)


class Remembering(nn.Module):
    """Changes logits by those of the previous call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(logits.detach().mean(0), 0.1)
        return nn.functional.cross_entropy(logits - self.mean, targets)


class Falling(nn.Module):
    """Counts less with each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return nn.functional.cross_entropy(logits, targets) / self.calls


class Shaken(nn.Module):
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits + torch.rand(logits.shape, generator=self.generator), targets)


ANOTHER = "gives another value each time it is called, for the same logits, targets and random draws"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Falling, rf"^model.loss Falling {ANOTHER}"),
        (Shaken, rf"^model.loss Shaken {ANOTHER}"),
        (Scaled, r"^model.loss Scaled has a parameter temperature, but clients train the parameters of the net alone"),
        (Remembering, r"^model.loss Remembering writes its buffer mean when it is called, but clients share one loss"),
    ],
)
def test_a_loss_with_parameters_or_state_is_refused(kind: type[nn.Module], said: str):
    with pytest.raises(InputError, match=said):
        train(loss=kind())


def test_a_frozen_parameter_of_a_loss_is_allowed():
    given = Scaled()
    given.temperature.requires_grad_(False)
    assert train(loss=given).round_metrics["round/clients"] == 2


class OwnWeights(nn.Module):
    """A mean by weights of its own: that of a batch depends on which classes are in it."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, targets, weight=1.0 + torch.arange(logits.shape[1]))


class WeightsForgotten(nn.CrossEntropyLoss):
    """Has weights, and does not use them."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, targets)


ADD_UP = {
    "plain": (nn.CrossEntropyLoss(), True),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), True),
    "class weights": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 9.0])), True),
    "a class left out": (nn.CrossEntropyLoss(ignore_index=1), True),
    "a margin": (nn.MultiMarginLoss(), True),
    "weights of its own": (OwnWeights(), False),
    "weights that it does not use": (WeightsForgotten(weight=torch.tensor([1.0, 5.0, 9.0])), False),
}


@pytest.mark.parametrize("name", ADD_UP)
def test_a_loss_that_depends_on_the_size_of_a_batch_is_said_to(name: str):
    loss, adds_up = ADD_UP[name]
    federation = data(eval_batch_size=7)
    federation.setup()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_loss(loss, net(), federation)
    assert [str(each.message) for each in said if "data.eval_batch_size, 7 here" in str(each.message)] == (
        []
        if adds_up
        else [
            f"model.loss {type(loss).__name__} is not a mean over examples, so global/loss and diagnostics/* depend on "
            "data.eval_batch_size, 7 here; compare only runs with the same one"
        ]
    )


class Pairs(nn.Module):
    """Takes at least two examples."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if len(targets) < 2:
            raise ValueError("needs pairs")
        return nn.functional.cross_entropy(logits, targets)


@pytest.mark.parametrize("classes", [1, 2, 100_000])
def test_any_number_of_classes_is_tried_with_few_logits(classes: int):
    """Each class twice would be 80 GB of logits for 100,000 classes."""
    sizes = []

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        sizes.append(logits.numel())
        return nn.functional.cross_entropy(logits, targets)

    assert adds_up(loss, classes, torch.device("cpu"))  # type: ignore[arg-type]
    assert max(sizes) <= 1_000_000


def test_a_loss_that_takes_no_single_example_is_not_judged():
    assert adds_up(Pairs(), 3, torch.device("cpu"))


class Recurrent(nn.Module):
    """Remembers whether cuDNN was allowed when it computed."""

    def __init__(self, cells: nn.Module) -> None:
        super().__init__()
        self.cells, self.head, self.allowed = cells, nn.Linear(8, 3), []

    def forward(self, inputs: Tensor) -> Tensor:
        self.allowed.append(torch.backends.cudnn.enabled)
        found = self.cells(inputs)
        return self.head(found[0] if isinstance(found, tuple) else found)


@pytest.mark.parametrize(("cells", "allowed"), [(nn.GRU(5, 8), False), (nn.LSTM(5, 8), False), (nn.Linear(5, 8), True)])
def test_recurrent_layers_have_gradients_in_evaluation_mode(cells: nn.Module, allowed: bool):
    """On a GPU cuDNN refuses them; PyTorch's own kernels do not (tests/engines/test_gpu.py runs it there)."""
    federation = data()
    federation.setup()
    model = Recurrent(cells)
    full_gradient(model, nn.CrossEntropyLoss(), federation.client_eval_batches(2))
    assert set(model.allowed) == {allowed}
    assert torch.backends.cudnn.enabled
    assert all(parameter.grad is not None for parameter in model.parameters())
