"""On a GPU every engine computes what the reference computes, in every precision. Skipped without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from federations import cnn, data, fit, images, net, weights
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.optim import SGD, Adam

import fedlit.attention as attention
from fedlit.algorithms import (
    AttentiveAggregation,
    BatchNormPolicy,
    ClippedMean,
    CoordinateMedian,
    FedDyn,
    FedNova,
    Krum,
    PrivateMean,
    Scaffold,
    TrimmedMean,
)
from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import Algorithm, Diagnostics, FederatedLoop, FederatedModule

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]
CONFIGS = Path(__file__).parents[2] / "configs"
SIZES = (9, 4, 17, 6, 12, 2)
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    """Kernels whose sums have one order, in full float32: else two runs of one engine differ by rounding."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


NETS: dict[str, Callable[[], nn.Module]] = {
    "plain": cnn,
    "channel": lambda: cnn(attention.Channel),
    "channel_mlp": lambda: cnn(attention.ChannelMLP),
    "spatial": lambda: cnn(attention.Spatial),
    "cbam": lambda: cnn(attention.CBAM),
    "batch norm": lambda: cnn(norm="batch"),
    "group norm": lambda: cnn(norm="group"),
    "dropout": lambda: cnn(dropout=0.5),
}
ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "scaffold": Scaffold,
    "feddyn": FedDyn,
    "fednova": FedNova,
    "fedbn": BatchNormPolicy,
    "attentive": lambda: AttentiveAggregation("similarity", 0.5),
    "median": CoordinateMedian,
    "trimmed": lambda: TrimmedMean(0.25),
    "clipped": ClippedMean,
    "krum": lambda: Krum(0),
}


def train(make: Callable[[], nn.Module], engine: Engine | None, accelerator: str = "gpu", **trainer: object):
    """State and metrics after two rounds."""
    module = FederatedModule(make(), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1, momentum=0.5))
    loop = FederatedLoop(5, 2, seed=2, engine=engine)
    fit(module, loop, images(SIZES), rounds=2, accelerator=accelerator, devices=1, **trainer)
    return weights(module), {k: v for k, v in module.round_metrics.items() if not k.startswith("round/")}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", NETS)
def test_the_loop_gives_the_references_bits(case: str, precision: str):
    expected, metrics = train(NETS[case], TrainerEngine(), precision=precision)
    result, same_metrics = train(NETS[case], LoopEngine(), precision=precision)
    assert torch.equal(result, expected)
    assert same_metrics == metrics


@pytest.mark.parametrize("case", [case for case in NETS if case not in ("batch norm", "dropout")])
def test_a_batched_program_gives_the_same_to_rounding(case: str):
    expected, _ = train(NETS[case], LoopEngine())
    result, _ = train(NETS[case], VectorizedEngine(2))
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", [case for case in NETS if case not in ("batch norm", "dropout")])
def test_a_batched_program_in_bfloat16_goes_the_same_way(case: str):
    """Eight bits of mantissa: bfloat16 itself is 1 to 30 % of the way from float32 here, whatever the engine."""
    start = weights(NETS[case]())
    expected = train(NETS[case], LoopEngine(), precision="bf16-mixed")[0].cpu() - start
    moved = train(NETS[case], VectorizedEngine(2), precision="bf16-mixed")[0].cpu() - start
    assert (moved - expected).norm() < 0.5 * expected.norm()


@pytest.mark.parametrize("case", [case for case in NETS if case != "dropout"])  # generators differ by device
def test_a_gpu_computes_what_a_cpu_computes_to_rounding(case: str):
    expected, _ = train(NETS[case], LoopEngine(), accelerator="cpu")
    result, _ = train(NETS[case], LoopEngine())
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-3, atol=1e-4)


def test_mixed_precision_computes_in_half_and_goes_the_way_of_float32():
    start = weights(cnn())
    moved = {precision: train(cnn, LoopEngine(), precision=precision)[0].cpu() - start for precision in PRECISIONS}
    for precision in PRECISIONS[1:]:
        apart = (moved[precision] - moved["32-true"]).norm()
        assert 0 < apart < 0.5 * moved["32-true"].norm()


def test_after_a_fit_on_the_gpu_a_fit_on_the_cpu_forks_no_workers():
    """PyTorch's threads for gradients on a GPU do not survive a fork: a worker would fail at its first step."""
    expected, _ = train(cnn, LoopEngine(), accelerator="cpu")
    train(cnn, LoopEngine())
    result, _ = train(cnn, None, accelerator="cpu")
    assert torch.equal(result, expected)


def test_without_an_engine_named_a_gpu_gets_the_bare_loop():
    expected, _ = train(cnn, LoopEngine())
    result, _ = train(cnn, None)
    assert torch.equal(result, expected)


def test_workers_are_refused_and_scaled_gradients_are_not_vectorized():
    with pytest.raises(InputError, match="WorkersEngine is for CPUs"):
        train(cnn, WorkersEngine())
    with pytest.raises(InputError, match="16-mixed"):
        train(cnn, VectorizedEngine(), precision="16-mixed")


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_resumed_on_a_gpu_ends_with_the_same_bits(name: str, precision: str, tmp_path: Path):
    def run(root: Path, rounds: int, ckpt: Path | None = None) -> torch.Tensor:
        module = FederatedModule(
            net(norm=True, dropout=0.2),
            mu=0.1,
            client_optimizer=lambda p: SGD(p, lr=0.05),
            server_optimizer=lambda p: Adam(p, lr=0.05),
        )
        loop = FederatedLoop(4, 2, seed=0, algorithm=ALGORITHMS[name](), engine=LoopEngine())
        options = {"accelerator": "gpu", "devices": 1, "precision": precision}
        return weights(fit(module, loop, data((8, 4, 16, 4, 12, 6)), rounds, root, ckpt, **options))

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    (checkpoint,) = (tmp_path / "parts").rglob("*.ckpt")
    assert torch.equal(run(tmp_path / "parts", 4, checkpoint), whole)


def run_smoke(folder: Path, *words: str) -> dict[str, torch.Tensor]:
    """The last state of a run of ``fedlit fit``, from its checkpoint."""
    torch.backends.cudnn.deterministic = False  # the command itself has to see to it
    assert main(["fit", "--config", str(CONFIGS / "smoke.yaml"), "--logs_dir", str(folder), *words]) == 0
    (path,) = folder.rglob("last.ckpt")
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    return state


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("engine", ["LoopEngine", "TrainerEngine", "VectorizedEngine"])
@pytest.mark.parametrize("gate", ["Spatial", "ChannelMLP", "CBAM"])
def test_the_command_gives_the_same_bits_again(gate: str, engine: str, tmp_path: Path):
    words = f"""--trainer.precision 32-true --model.net.attention fedlit.attention.{gate} --model.net.norm group
        --model.net.dropout 0 --model.net.widths [32,64] --federation.local_epochs 2
        --federation.engine fedlit.engines.{engine}""".split()
    first = run_smoke(tmp_path / "0", *words)
    for again in "12":
        assert_equal(run_smoke(tmp_path / again, *words), first)


def test_a_command_resumed_on_a_gpu_ends_with_the_same_bits(tmp_path: Path):
    whole = run_smoke(tmp_path / "whole", "--trainer.max_epochs", "4")
    run_smoke(tmp_path / "parts", "--trainer.max_epochs", "2")
    assert_equal(run_smoke(tmp_path / "parts", "--trainer.max_epochs", "4", "--ckpt_path", "last"), whole)


@pytest.mark.filterwarnings("ignore:the run began with other kernels")
@pytest.mark.parametrize("order", [("gpu", "cpu"), ("cpu", "gpu")])
def test_a_run_goes_on_on_the_other_processor(order: tuple[str, str], tmp_path: Path):
    """To rounding, as no BatchNorm or dropout is in the way."""
    words = ["--model.net.norm", "none", "--model.net.dropout", "0", "--trainer.precision", "32-true"]
    first, second = (["--trainer.accelerator", each] for each in order)
    whole = run_smoke(tmp_path / "whole", *words, *first, "--trainer.max_epochs", "4")
    run_smoke(tmp_path / "parts", *words, *first, "--trainer.max_epochs", "2")
    ended = run_smoke(tmp_path / "parts", *words, *second, "--trainer.max_epochs", "4", "--ckpt_path", "last")
    for name, value in whole.items():
        torch.testing.assert_close(ended[name], value, rtol=1e-2, atol=1e-3)


def test_small_networks_skip_no_step_in_16_mixed():
    module = FederatedModule(cnn(), client_optimizer=lambda p: SGD(p, lr=0.1))
    stop = EarlyStopping("round/skipped_steps", patience=10)
    fit(module, FederatedLoop(5, seed=0), images(), accelerator="gpu", precision="16-mixed", callbacks=[stop])
    assert module.round_metrics["round/skipped_steps"] == 0


@pytest.mark.parametrize("engine", [LoopEngine, TrainerEngine])
def test_a_loss_of_large_gradients_trains_in_16_mixed(engine: type[Engine]):
    class Large(nn.Module):
        def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return 20 * nn.functional.cross_entropy(logits, targets)

    def moved(precision: str) -> float:
        module = FederatedModule(net(), loss=Large(), client_optimizer=lambda p: SGD(p, lr=5e-3))
        fit(module, FederatedLoop(4, seed=0, engine=engine()), accelerator="gpu", precision=precision)
        return float((weights(module).cpu() - weights(net())).norm())

    assert moved("16-mixed") == pytest.approx(moved("32-true"), rel=0.05)


class OnGPU(nn.Module):
    """A network whose operations exist on a GPU alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        assert inputs.is_cuda, "this kernel needs a GPU"
        return self.net(inputs)


def test_a_network_and_an_optimizer_that_need_a_gpu_are_tried_there():
    module = FederatedModule(OnGPU(), client_optimizer=lambda p: Adam(p, lr=0.01, capturable=True))
    fit(module, FederatedLoop(4, seed=0), accelerator="gpu", devices=1)
    assert module.round_metrics["round/clients"] == 4


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.GRU(5, 8, num_layers=2, batch_first=True), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(inputs[:, None])[0][:, -1])


@pytest.mark.parametrize("engine", [LoopEngine, TrainerEngine])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_copies_of_a_recurrent_network_train_without_a_warning(precision: str, engine: type[Engine]):
    """cuDNN wants its weights in one piece of memory, and copying takes them apart; warnings are errors here."""
    module = FederatedModule(Recurrent(), client_optimizer=lambda p: SGD(p, lr=0.1))
    loop = FederatedLoop(4, seed=0, engine=engine(), diagnostics=Diagnostics(every=1))
    fit(module, loop, accelerator="gpu", devices=1, precision=precision)
    assert module.round_metrics["round/clients"] == 4


def test_private_noise_is_the_same_on_every_device():
    def run(accelerator: str) -> torch.Tensor:
        loop = FederatedLoop(4, seed=0, algorithm=PrivateMean(0.5, 1.0, 1e-5), averaging="uniform", engine=LoopEngine())
        module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.05))
        return weights(fit(module, loop, accelerator=accelerator, devices=1)).cpu()

    pytest.importorskip("dp_accounting", reason="epsilon needs dp-accounting")
    torch.testing.assert_close(run("gpu"), run("cpu"), rtol=1e-4, atol=1e-5)


def test_diagnostics_on_a_gpu_are_those_of_a_cpu():
    def run(accelerator: str) -> dict[str, float]:
        module = FederatedModule(net(), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.05))
        loop = FederatedLoop(4, seed=0, diagnostics=Diagnostics(every=1), engine=LoopEngine())
        fit(module, loop, accelerator=accelerator, devices=1)
        return {k: v for k, v in module.round_metrics.items() if k.startswith(("diagnostics/", "drift/"))}

    assert run("gpu") == pytest.approx(run("cpu"), rel=1e-3)
