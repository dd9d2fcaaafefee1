"""Common layers: all engines train them to the same weights, or name the engine that can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from federations import fit, weights
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.utils.checkpoint import checkpoint

from fedlit.core.errors import InputError
from fedlit.data import Tensors, Uniform
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import Diagnostics, FederatedLoop, FederatedModule

FEATURES = 64


def data() -> Tensors:
    """Five clients of 15 examples, the last batch of each is a short one."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(75) % 3
    inputs = torch.randn(75, FEATURES, generator=generator) + labels[:, None]
    train, test = (inputs, labels), (inputs[:9], labels[:9])
    return Tensors(train=train, test=test, num_clients=5, partition=Uniform(), batch_size=4, seed=0)


class Sequences(nn.Module):
    """Of 16 steps of 4 features; ``body`` maps (B, 16, 8) to the same."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.first, self.body, self.last = nn.Linear(4, 8), body, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        z = self.body(self.first(x.view(len(x), 16, 4)))
        return self.last((z[0] if isinstance(z, tuple) else z).mean(1))


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, x, x)


class Images(nn.Module):
    """Of 8 x 8 pixels; ``body`` maps (B, 4, 6, 6) to (B, ...)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.first, self.body = nn.Conv2d(1, 4, 3), body
        features = body.eval()(torch.zeros(2, 4, 6, 6)).flatten(1).shape[1]
        body.train()
        self.last = nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.body(self.first(x.view(len(x), 1, 8, 8))).flatten(1))


class Volumes(nn.Module):
    """Of 4 x 4 x 4 voxels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.first(x.view(len(x), 1, 4, 4, 4)).relu().mean((2, 3, 4)))


class Tokens(nn.Module):
    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table, self.last = table, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        found = self.table((3 * x).abs().long().clamp(max=9))
        return self.last(found.flatten(1, -2).mean(1) if found.dim() == 3 else found)


class Own(nn.Module):
    """Tensors of its own in lists, and calls without modules."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(33, 8) / 6, torch.randn(8, 3) / 3])
        self.more = nn.ParameterDict({"bias": torch.zeros(3)})

    def forward(self, x: Tensor) -> Any:
        z = torch.einsum("bi,ij->bj", torch.fft.rfft(x).abs(), self.weights[0]).tanh()
        return z @ self.weights[1] + self.more["bias"]


class Hidden(nn.Module):
    """A layer of 8 units, which a subclass uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 8), nn.Linear(8, 3)

    def hidden(self, x: Tensor) -> Tensor:
        return self.first(x).relu()

    def forward(self, x: Tensor) -> Any:
        return self.last(self.hidden(x))


class Recomputed(Hidden):
    def hidden(self, x: Tensor) -> Tensor:
        return checkpoint(super().hidden, x, use_reentrant=False)  # type: ignore[no-any-return]


class ByValue(Hidden):
    def hidden(self, x: Tensor) -> Tensor:
        z = super().hidden(x)
        return z * 2 if z.mean().item() > 0.5 else z


class Noisy(Hidden):
    def hidden(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().hidden(x), 0.5, self.training)


class Centred(Hidden):
    """By the mean of its batch."""

    def hidden(self, x: Tensor) -> Tensor:
        z = super().hidden(x)
        return z - z.mean(0)


class Spare(Hidden):
    """Has a head that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(8, 3)


class Detached(Hidden):
    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x).detach()


TRAINED: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: Sequences(nn.LSTM(8, 8, batch_first=True)),
    "GRU": lambda: Sequences(nn.GRU(8, 8, batch_first=True)),
    "self-attention": lambda: Sequences(SelfAttention(8, 2, batch_first=True)),
    "transformer": lambda: Sequences(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)),
    "Conv3d": Volumes,
    "ConvTranspose2d": lambda: Images(nn.ConvTranspose2d(4, 2, 3)),
    "InstanceNorm": lambda: Images(nn.InstanceNorm2d(4, affine=True)),
    "PReLU": lambda: Images(nn.PReLU()),
    "pools": lambda: Images(nn.Sequential(nn.AdaptiveMaxPool2d(4), nn.LPPool2d(2, 2))),
    "upsampling": lambda: Images(nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelShuffle(2))),
    "Unfold": lambda: Images(nn.Unfold(3)),
    "Embedding": lambda: Tokens(nn.Embedding(10, 6)),
    "EmbeddingBag": lambda: Tokens(nn.EmbeddingBag(10, 6)),
    "tensors of its own": Own,
}
#: Layers that are only trained client by client, with the reason of the batched program.
ONE_BY_ONE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "recomputed": (Recomputed, "Recomputed does not train in a block"),
    "by value": (ByValue, "ByValue does not train in a block"),
    "noise": (Noisy, "Noisy draws random numbers as it trains"),
    "random pools": (lambda: Images(nn.FractionalMaxPool2d(2, output_size=3)), "Images draws random numbers"),
    "batch statistics": (Centred, "Centred computes an example's logits from the others of its batch"),
    "spare head": (Spare, r"the loss does not reach spare\.weight"),
    "sparse Embedding": (lambda: Tokens(nn.Embedding(10, 6, sparse=True)), "Tokens does not train in a block"),
    "detached": (Detached, r"the loss does not reach first\.weight"),
}


def train(net: Callable[[], nn.Module], engine: Engine, optimizer: Any = lambda p: SGD(p, lr=0.1)) -> Tensor:
    torch.manual_seed(0)
    module = FederatedModule(net(), mu=0.1, client_optimizer=optimizer)
    start = weights(module).clone()
    fit(module, FederatedLoop(4, seed=0, engine=engine), data(), rounds=1)
    assert not torch.equal(weights(module), start)
    return weights(module)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch, of a few layers in a block
@pytest.mark.parametrize("kind", TRAINED)
def test_every_engine_trains_them_alike(kind: str) -> None:
    expected = train(TRAINED[kind], LoopEngine())
    for engine in (TrainerEngine(), WorkersEngine(workers=2)):
        assert torch.equal(train(TRAINED[kind], engine), expected)
    torch.testing.assert_close(train(TRAINED[kind], VectorizedEngine()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ONE_BY_ONE)
def test_layers_that_cannot_be_batched_are_refused_and_trained_one_by_one(kind: str) -> None:
    net, said = ONE_BY_ONE[kind]

    def optimizer(parameters: Any) -> AdamW:
        return AdamW(parameters, lr=0.01)  # decays parameters that have a gradient, even of zeros

    expected = train(net, LoopEngine(), optimizer)
    for engine in (TrainerEngine(), WorkersEngine(workers=2)):
        assert torch.equal(train(net, engine, optimizer), expected)
    with pytest.raises(InputError, match=rf"^{said}.*which VectorizedEngine does not support; use .* LoopEngine$"):
        train(net, VectorizedEngine(), optimizer)


@pytest.mark.parametrize("limits", [{"mu": 0.0}, {"mu": 0.1}, {"mu": 0.0, "client_clip_norm": 0.01}])
def test_sparse_gradients_train_to_what_dense_ones_do(limits: dict[str, float]) -> None:
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table = nn.EmbeddingBag(10, 6, sparse=sparse)
        module = FederatedModule(Tokens(table), client_optimizer=lambda p: SGD(p, lr=0.1), **limits)
        loop = FederatedLoop(4, seed=0, engine=LoopEngine(), diagnostics=Diagnostics(every=1))
        fit(module, loop, data(), rounds=2)
        found.append((weights(module), module.round_metrics["diagnostics/gradient_variance"]))
    (dense, variance), (sparse_weights, sparse_variance) = found
    torch.testing.assert_close(sparse_weights, dense, rtol=1e-5, atol=1e-6)
    assert sparse_variance == pytest.approx(variance, rel=1e-4)
