"""The settings that ``tests.fuzz`` combines: of each its levels, the first of which is plain."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor, nn, optim
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import Dataset

from fedlit import algorithms, attention, data, schedules
from fedlit import optim as server_optim
from fedlit.data import FederatedData, Partition, Partitioner
from fedlit.data.examples import Examples
from fedlit.federated import (
    AdaptiveMu,
    Algorithm,
    Diagnostics,
    FederatedLoop,
    FederatedModule,
    FixedSlow,
    Mu,
    MuByName,
    PartialWork,
    SizeSampling,
    Stragglers,
    Trace,
    UniformSampling,
)
from fedlit.models import EmnistCNN, SequenceCNN
from tests.federations import Absent

#: The name of a level of each setting.
Config = Mapping[str, str]

CLASSES = 3
SIZES = (9, 4, 17, 1, 12, 6)


# --- networks: from inputs (B, 1, S, S) to logits --------------------------------------------------------------------


def _gated(gate: Callable[[int], nn.Module] | None = None, **options: Any) -> Callable[[int, int], nn.Module]:
    def make(side: int, classes: int) -> nn.Module:
        return EmnistCNN(gate, num_classes=classes, image_size=side, widths=(4, 8), hidden=16, **options)

    return make


def _mlp(*middle: Callable[[], nn.Module]) -> Callable[[int, int], nn.Module]:
    def make(side: int, classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(side * side, 8), *(layer() for layer in middle), nn.ReLU(), nn.Linear(8, classes)
        )

    return make


class Recurrent(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self, side: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(side, 6, batch_first=True)
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.flatten(1).unflatten(1, (x.shape[-2], -1)))[0][:, -1])  # type: ignore[no-any-return]


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self, side: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(side * side, 6)
        self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6)
        self.third.weight = self.second.weight
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1)).relu()
        return self.head(self.third(self.second(x).relu()).relu())  # type: ignore[no-any-return]


class Counting(nn.Module):
    """Counts its training batches in an integer buffer and their mean in a float one, and adds the latter."""

    count: Tensor
    mean: Tensor

    def __init__(self, side: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(side * side, classes)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.count += 1
                self.mean.lerp_(x.float().mean(), 0.1)
        return self.head(x.flatten(1)) + self.mean  # type: ignore[no-any-return]


class Unreached(nn.Module):
    """Has a layer that the logits do not depend on."""

    def __init__(self, side: int, classes: int) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)
        self.head = nn.Linear(side * side, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))  # type: ignore[no-any-return]


def _frozen(make: Callable[[int, int], nn.Module], number: int) -> Callable[[int, int], nn.Module]:
    def frozen(side: int, classes: int) -> nn.Module:
        net = make(side, classes)
        for parameter in list(net.parameters())[:number]:
            parameter.requires_grad_(False)
        return net

    return frozen


def _sequence(gate: Any = None) -> Callable[[int, int], nn.Module]:
    def make(side: int, classes: int) -> nn.Module:
        rows = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (side, side)))
        return nn.Sequential(rows, SequenceCNN(gate, num_classes=classes, widths=(4, 4), kernel_size=3))

    return make


def _weight_normed(side: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(side * side, classes)))


NETS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": lambda side, classes: nn.Sequential(nn.Flatten(), nn.Linear(side * side, classes)),
    "mlp": _mlp(),
    "mlp batch norm": _mlp(lambda: nn.BatchNorm1d(8)),
    "mlp layer norm": _mlp(lambda: nn.LayerNorm(8)),
    "mlp dropout": _mlp(lambda: nn.Dropout(0.3)),
    "cnn": _gated(),
    "channel": _gated(attention.Channel),
    "channel_mlp": _gated(attention.ChannelMLP),
    "squeeze excite": _gated(attention.SqueezeExcite),
    "spatial": _gated(attention.Spatial),
    "spatial batch norm": _gated(lambda channels: attention.Spatial(channels, norm="batch")),
    "cbam": _gated(attention.CBAM),
    "eca": _gated(attention.ECA),
    "global spatial": _gated(attention.GlobalSpatial),
    "spatial before pool": _gated(attention.Spatial, attention_at="before_pool"),
    "cnn batch norm": _gated(norm="batch"),
    "cnn group norm": _gated(norm="group"),
    "cnn dropout": _gated(dropout=0.5),
    "lstm": Recurrent,
    "sequence": _sequence(),
    "sequence gates": _sequence(attention.SpatioTemporal),
    "tied": Tied,
    "counting": Counting,
    "unreached": Unreached,
    "frozen": _frozen(_gated(attention.Spatial), 2),
    "frozen batch norm": _frozen(_mlp(lambda: nn.BatchNorm1d(8)), 4),
    "weight norm": _weight_normed,
}


# --- data ------------------------------------------------------------------------------------------------------------


class Few(data.MNIST5k):
    """A few of the bundled digits."""

    def load(self) -> tuple[Examples, Examples]:
        train, test = super().load()
        return train.take(np.arange(0, 4000, 4000 // sum(SIZES))[: sum(SIZES)]), test.take(np.arange(0, 1000, 90))


class Pairs(Dataset[Any]):
    """A dataset of (input, label)."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.inputs[index], int(self.labels[index])


class Emptied(Partitioner):
    """An even split whose first two clients have no example, and the third has one."""

    def split(self, labels: Any, num_clients: int, rng: np.random.Generator, groups: Any = None) -> Partition:
        assignment = 2 + rng.permutation(len(labels)) % (num_clients - 2)
        (third,) = np.nonzero(assignment == 2)
        assignment[third[1:]] = 3
        return Partition.from_assignment(assignment, num_clients)


class OneClass(Partitioner):
    """Each client has examples of one class only."""

    def split(self, labels: Any, num_clients: int, rng: np.random.Generator, groups: Any = None) -> Partition:
        turn = np.arange(len(labels)) % (num_clients // CLASSES)
        return Partition.from_assignment((labels % CLASSES) * (num_clients // CLASSES) + turn, num_clients)


class Shift(nn.Module):
    """Shifts each image by a random number of pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(int(torch.randint(0, 3, ())), -1)


def arrays(floats: bool, seed: int) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images of 8 x 8 of three classes, with a group for each client of ``SIZES``; and a test set of 11."""
    generator = torch.Generator().manual_seed(seed)
    n = sum(SIZES)
    inputs = torch.randint(0, 200, (n + 11, 1, 8, 8), generator=generator)
    labels = torch.randint(0, CLASSES, (n + 11,), generator=generator)
    labels[:CLASSES] = torch.arange(CLASSES)
    inputs += 20 * labels[:, None, None, None]
    made = inputs.float() / 127.5 - 1 if floats else inputs.to(torch.uint8)
    groups = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    return (made[:n], labels[:n], groups), (made[n:], labels[n:])


def _tensors(floats: bool, convert: Callable[[Tensor], Any]) -> Callable[..., FederatedData]:
    def make(drawn_by: int, given: list[Any], **options: Any) -> FederatedData:
        train, test = ([convert(part) for part in parts] for parts in arrays(floats, drawn_by))
        given += [*train, *test]
        return data.Tensors(train=tuple(train), test=tuple(test), class_names=["a", "b", "c"], **options)

    return make


def _dataset(drawn_by: int, given: list[Any], **options: Any) -> FederatedData:
    (inputs, labels, _), test = arrays(True, drawn_by)
    given += [inputs, labels, *test]
    return data.TorchDataset(Pairs(inputs, labels), Pairs(*test), class_names=["a", "b", "c"], **options)


def _fortran(tensor: Tensor) -> NDArray[Any]:
    return np.asfortranarray(tensor.numpy())


def _backwards(tensor: Tensor) -> NDArray[Any]:
    return tensor.numpy()[::-1].copy()[::-1]


SOURCES: dict[str, Callable[..., FederatedData]] = {
    "bytes": _tensors(False, Tensor.numpy),
    "floats": _tensors(True, Tensor.numpy),
    "bytes backwards": _tensors(False, _backwards),
    "floats in columns": _tensors(True, _fortran),
    "tensors of bytes": _tensors(False, lambda tensor: tensor),
    "tensors of floats": _tensors(True, lambda tensor: tensor),
    "dataset": _dataset,
    "MNIST5k": lambda drawn_by, given, **options: Few(**options),
}
#: Sources with the same examples.
SAME_SOURCES = (("bytes", "bytes backwards", "tensors of bytes"), ("floats", "floats in columns", "tensors of floats"))
PARTITIONS: dict[str, Callable[[], Partitioner]] = {
    "uniform": data.Uniform,
    "by group": data.ByGroup,
    "dirichlet": lambda: data.Dirichlet(0.5, min_samples=1),
    "shards": lambda: data.Shards(2),
    "quantity": data.QuantitySkew,
    "with empty clients": Emptied,
    "one class": OneClass,
}
AUGMENTS: dict[str, Callable[[], Any]] = {"none": lambda: None, "shift": Shift, "two": lambda: [Shift(), nn.Identity()]}

# --- the federation --------------------------------------------------------------------------------------------------

ALGORITHMS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "scaffold": algorithms.Scaffold,
    "fednova": algorithms.FedNova,
    "feddyn": algorithms.FedDyn,
    "keep biases": lambda: algorithms.KeepLocal(["bias"]),
    "batch norm local": algorithms.BatchNormPolicy,
    "statistics local": lambda: algorithms.BatchNormPolicy("statistics"),
    "median": algorithms.CoordinateMedian,
    "trimmed": lambda: algorithms.TrimmedMean(0.3),
    "clipped mean": algorithms.ClippedMean,
    "krum": lambda: algorithms.Krum(0),
    "multi-krum": lambda: algorithms.Krum(0, multi=2),
    "attentive": algorithms.AttentiveAggregation,
    "similarity": lambda: algorithms.AttentiveAggregation("similarity"),
    "private": lambda: algorithms.PrivateMean(0.5, 0.0),
    "private noise": lambda: algorithms.PrivateMean(0.5, 0.1),
    "clip": lambda: algorithms.Clip(0.3),
    "clip, median": lambda: [algorithms.Clip(0.3), algorithms.CoordinateMedian()],
    "scaffold, clip": lambda: [algorithms.Scaffold(), algorithms.Clip(0.3)],
    "keep biases, clip": lambda: [algorithms.KeepLocal(["bias"]), algorithms.Clip(0.3)],
    "scaffold, keep biases": lambda: [algorithms.Scaffold(), algorithms.KeepLocal(["bias"])],
    "feddyn, keep biases": lambda: [algorithms.FedDyn(), algorithms.KeepLocal(["bias"])],
    "fednova, clip": lambda: [algorithms.FedNova(), algorithms.Clip(0.3)],
    "clip, mean, noise": lambda: [algorithms.Clip(0.3), algorithms.Mean(), algorithms.Noise(0.1, None)],
}
SAMPLINGS = {"default": lambda: None, "uniform": UniformSampling, "by size": SizeSampling}


def trace(folder: Path, rows: list[tuple[int, int, float]]) -> Trace:
    """Stragglers by a file that is written for them: (client, round, epochs)."""
    path = folder.parent / "trace.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("client", "round", "epochs"), *rows])
    return Trace(str(path))


STRAGGLERS: dict[str, Callable[[Path], Stragglers | None]] = {
    "none": lambda folder: None,
    "partial": lambda folder: PartialWork(0.7),
    "dropped": lambda folder: PartialWork(0.7, drop=True),
    "slow": lambda folder: FixedSlow(0.5, 0.3),
    "trace": lambda folder: trace(folder, [(0, 1, 0.0), (1, 1, 0.5), (2, 2, 0.0), (3, 2, 0.1), (1, 3, 0.0)]),
    "absent": lambda folder: Absent(0, 1, 2),
}
MUS: dict[str, Callable[[], float | Mu]] = {
    "0.1": lambda: 0.1,
    "0": lambda: 0.0,
    "adaptive": lambda: AdaptiveMu(0.5, patience=1),
    "by name": lambda: MuByName({"weight": 1.0, "bias": 0.0}, 0.2),
}
DIAGNOSTICS: dict[str, Callable[[], Diagnostics | None]] = {
    "none": lambda: None,
    "all": lambda: Diagnostics(every=2),
    "gamma": lambda: Diagnostics(every=1, dissimilarity=False),
    "dissimilarity": lambda: Diagnostics(every=1, gamma=False),
}
CLIENT_OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": partial(optim.SGD, lr=0.05),
    "momentum": partial(optim.SGD, lr=0.03, momentum=0.9),
    "nesterov, decay": partial(optim.SGD, lr=0.03, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": partial(optim.Adam, lr=0.01),
    "adamw amsgrad": partial(optim.AdamW, lr=0.01, amsgrad=True),
    "rmsprop": partial(optim.RMSprop, lr=0.003, momentum=0.5),
}
SERVER_OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "average": partial(optim.SGD, lr=1.0),
    "momentum": partial(optim.SGD, lr=0.7, momentum=0.9),
    "decay": partial(optim.SGD, lr=1.0, weight_decay=0.01),
    "fedadam": partial(server_optim.FedAdam, lr=0.01),
    "fedyogi": partial(server_optim.FedYogi, lr=0.01),
    "fedadagrad": partial(server_optim.FedAdagrad, lr=0.01),
    "adam": partial(optim.Adam, lr=0.01),
    "adamw": partial(optim.AdamW, lr=0.01, weight_decay=0.1),
}
SCHEDULES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "exponential": lambda: schedules.Exponential(0.5),
    "step": lambda: schedules.Step(2, 0.3),
    "cosine": lambda: schedules.Cosine(4, 0.1),
}


class OwnLoss(nn.Module):
    """A loss with a parameter-free sum over samples that is not PyTorch's."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.multi_margin_loss(logits.float(), targets)


LOSSES: dict[str, Callable[[int], nn.Module | None]] = {
    "cross entropy": lambda classes: None,
    "smoothed": lambda classes: nn.CrossEntropyLoss(label_smoothing=0.1),
    "weighted": lambda classes: nn.CrossEntropyLoss(weight=torch.arange(1.0, classes + 1)),
    "own": lambda classes: OwnLoss(),
}


# --- beside the federation -------------------------------------------------------------------------------------------


def _callbacks(name: str, folder: Path) -> list[Callback]:
    from fedlit.runs import AttentionFilm, ClientAccuracy, Pictures

    made: dict[str, Callable[[], list[Callback]]] = {
        "none": list,
        "client accuracy": lambda: [ClientAccuracy(every=2)],
        "film": lambda: [AttentionFilm(every=1, digits=2)],
        "film and accuracy": lambda: [ClientAccuracy(every=1), AttentionFilm(every=2, client=1, digits=2)],
        "pictures": lambda: [Pictures(folder, every_n_rounds=2)],
        "early stopping": lambda: [EarlyStopping("clients/train_loss", patience=1, min_delta=10.0)],
        "early stopping, validated": lambda: [EarlyStopping("global/loss", patience=1, min_delta=10.0)],
        "checkpoint": lambda: [ModelCheckpoint(folder / "own", "{epoch}", monitor="drift/mean", save_top_k=2)],
        "moving average": lambda: [EMAWeightAveraging(decay=0.5)],
    }
    return made[name]()


CALLBACKS = (
    "none",
    "client accuracy",
    "film",
    "film and accuracy",
    "pictures",
    "early stopping",
    "early stopping, validated",
    "checkpoint",
    "moving average",
)
LOGGERS: dict[str, Callable[[Path], list[Logger]]] = {
    "table": lambda folder: [],
    "csv": lambda folder: [CSVLogger(str(folder.parent / "csv"), name="", version="")],
    "tensorboard": lambda folder: [TensorBoardLogger(str(folder.parent / "board"), name="", version="")],
}
NUMBERS: dict[str, tuple[str, ...]] = {
    "num_clients": ("6", "9"),
    "batch_size": ("4", "1", "1000", "3"),
    "eval_batch_size": ("None", "1", "5"),
    "client_holdout": ("0", "0.3", "0.6"),
    "validation_clients": ("0", "1", "2"),
    "clients_per_round": ("4", "1", "2", "3"),
    "averaging": ("None", "size", "uniform"),
    "local_epochs": ("1", "2", "0.5", "1.5"),
    "client_clip_norm": ("None", "0.5"),
    "precision": ("32-true", "bf16-mixed"),
    "check_val_every_n_epoch": ("1", "2"),
    "max_rejected": ("0.5", "0"),
    "own seed": ("0", "None"),
}
FACTORS: dict[str, tuple[str, ...]] = {
    "net": tuple(NETS),
    "source": tuple(SOURCES),
    "partition": tuple(PARTITIONS),
    "augment": tuple(AUGMENTS),
    "algorithm": tuple(ALGORITHMS),
    "sampling": tuple(SAMPLINGS),
    "stragglers": tuple(STRAGGLERS),
    "mu": tuple(MUS),
    "diagnostics": tuple(DIAGNOSTICS),
    "client_optimizer": tuple(CLIENT_OPTIMIZERS),
    "server_optimizer": tuple(SERVER_OPTIMIZERS),
    "client_schedule": tuple(SCHEDULES),
    "server_schedule": tuple(SCHEDULES),
    "loss": tuple(LOSSES),
    "callbacks": CALLBACKS,
    "logger": tuple(LOGGERS),
    **NUMBERS,
}
PLAIN: dict[str, str] = {name: levels[0] for name, levels in FACTORS.items()}


class Objects(NamedTuple):
    """What a fit takes, new; and what of it is the user's and must not change."""

    module: FederatedModule
    loop: FederatedLoop
    data: FederatedData
    callbacks: list[Callback]
    loggers: list[Logger]
    trainer: dict[str, Any]
    given: list[Any]


def number(config: Config, name: str) -> Any:
    """The value of a setting that is a number or None."""
    text = config[name]
    return None if text == "None" else float(text) if "." in text else int(text)


def build(config: Config, folder: Path, seed: int) -> Objects:
    """New objects of a configuration, which write to ``folder``."""
    given: list[Any] = []
    options = {
        name: number(config, name)
        for name in ("num_clients", "batch_size", "eval_batch_size", "client_holdout", "validation_clients")
    }
    if config["partition"] == "by group":
        options["num_clients"] = None
    own_seed = number(config, "own seed")
    federation = SOURCES[config["source"]](
        seed,
        given,
        partition=PARTITIONS[config["partition"]](),
        augment=AUGMENTS[config["augment"]](),
        seed=own_seed,
        **options,
    )
    side, classes = (28, 10) if config["source"] == "MNIST5k" else (8, CLASSES)
    torch.manual_seed(seed)
    module = FederatedModule(
        NETS[config["net"]](side, classes),
        mu=MUS[config["mu"]](),
        client_optimizer=CLIENT_OPTIMIZERS[config["client_optimizer"]],
        server_optimizer=SERVER_OPTIMIZERS[config["server_optimizer"]],
        loss=LOSSES[config["loss"]](classes),
        client_schedule=SCHEDULES[config["client_schedule"]](),
        server_schedule=SCHEDULES[config["server_schedule"]](),
        client_clip_norm=number(config, "client_clip_norm"),
    )
    algorithm: Algorithm | list[Algorithm] | None = ALGORITHMS[config["algorithm"]]()
    loop = FederatedLoop(
        number(config, "clients_per_round"),
        number(config, "local_epochs"),
        seed=own_seed,
        sampling=SAMPLINGS[config["sampling"]](),
        averaging=number_or_word(config["averaging"]),
        stragglers=STRAGGLERS[config["stragglers"]](folder),
        algorithm=algorithm,
        diagnostics=DIAGNOSTICS[config["diagnostics"]](),
        max_rejected=number(config, "max_rejected"),
    )
    trainer = {name: config[name] for name in ("precision",)} | {
        "check_val_every_n_epoch": number(config, "check_val_every_n_epoch")
    }
    callbacks = _callbacks(config["callbacks"], folder)
    return Objects(module, loop, federation, callbacks, LOGGERS[config["logger"]](folder), trainer, given)


def number_or_word(text: str) -> Any:
    """A word, or None."""
    return None if text == "None" else text
