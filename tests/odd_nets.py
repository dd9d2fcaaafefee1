"""Networks that people bring: each works, or is refused for what it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Two linear layers over 5 features; made of this, a net for three classes."""

    def __init__(self, num_classes: int = 3, features: int = 5) -> None:
        super().__init__()
        self.features = features
        self.first = nn.Linear(features, 4)
        self.second = nn.Linear(4, num_classes)

    def forward(self, inputs: Tensor) -> Any:
        return self.second(self.first(inputs.flatten(1)[:, : self.features]))


class TiedWeights(Head):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.third = nn.Linear(4, num_classes)
        self.third.weight = self.second.weight

    def forward(self, inputs: Tensor) -> Any:
        hidden = self.first(inputs.flatten(1)[:, : self.features])
        return self.second(hidden) + self.third(2 * hidden)


class TiedModules(TiedWeights):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.third = self.second


class Lazy(Head):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.first = nn.LazyLinear(4)


class LazyNorm(Head):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.norm = nn.LazyBatchNorm1d(affine=False)


class TwoInputs(Head):
    def forward(self, inputs: Tensor, mask: Tensor) -> Any:  # type: ignore[override]
        return super().forward(inputs * mask)


class DictOutput(Head):
    def forward(self, inputs: Tensor) -> Any:
        return {"logits": super().forward(inputs)}


class Auxiliary(Head):
    """Answers with two heads in training, as GoogLeNet does."""

    def forward(self, inputs: Tensor) -> Any:
        logits = super().forward(inputs)
        return (logits, logits) if self.training else logits


class Classes(Head):
    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs).argmax(1)


class WholeNumbers(Head):
    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs).long()


class Frozen(Head):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.requires_grad_(False)


class Empty(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :3]


class Float64(Head):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.double()


class Colours(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 3)
        self.head = nn.Linear(2, num_classes)

    def forward(self, inputs: Tensor) -> Any:
        return self.head(self.stem(inputs).mean((2, 3)))


class Viewing(nn.Module):
    """For images of 8 x 8; ``view`` of a convolution's maps needs PyTorch's default memory format."""

    def __init__(self, in_one: bool = False) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.more = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.last = nn.Linear(64, 3)
        self.in_one = in_one

    def forward(self, inputs: Tensor) -> Tensor:
        if self.in_one:
            return self.last(self.flat(self.more(self.maps(inputs))))
        for convolution, relu, pool in (self.maps, self.more):
            inputs = pool(relu(convolution(inputs)))
        return self.last(self.flat(inputs))

    def flat(self, maps: Tensor) -> Tensor:
        return maps.view(-1, 64)


class Flattening(Viewing):
    """The same in any memory format."""

    def flat(self, maps: Tensor) -> Tensor:
        return maps.flatten(1)


class TenClasses(Head):
    """Its number of classes has a name of its own."""

    def __init__(self, outputs: int = 10) -> None:
        super().__init__(outputs)


class Remembers(Head):
    """Keeps a running mean of its inputs, in evaluation too."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Any:
        self.seen.lerp_(inputs.mean(), 0.1)
        return super().forward(inputs)


class Replaces(Remembers):
    """A new buffer for each batch."""

    def forward(self, inputs: Tensor) -> Any:
        self.seen = self.seen + inputs.mean()
        return Head.forward(self, inputs)


class RemembersInTraining(Remembers):
    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs) if self.training else Head.forward(self, inputs)


class ScalarGate(Head):
    """Its gate is a number, without a dimension."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs) * (1 + self.scale)


class Refused(NamedTuple):
    net: type[nn.Module]
    said: str


REFUSED = [
    Refused(Lazy, r"first\.weight has no shape before the first batch.*run one batch through"),
    Refused(LazyNorm, r"norm\.running_mean has no shape before the first batch"),
    Refused(TwoInputs, r"forward\(inputs.*mask.*\) of TwoInputs does not take exactly one batch"),
    Refused(DictOutput, r"returns a dict; let its forward return logits"),
    Refused(Auxiliary, r"returns a tuple in training; let its forward return logits"),
    Refused(Classes, r"into \(\d+,\), but the data has \d+ classes"),
    Refused(WholeNumbers, r"returns torch.int64; let its forward return floating-point logits"),
    Refused(Frozen, r"all parameters frozen and so nothing to train"),
    Refused(Empty, r"no parameters and so nothing to train"),
    Refused(Float64, r"first\.weight is torch.float64 and the inputs are torch.float32: remove \.double\(\)"),
    Refused(Remembers, r"Remembers writes its buffer seen in evaluation too.*if self.training"),
    Refused(Replaces, r"Replaces writes its buffer seen in evaluation too"),
    Refused(TenClasses, r"into \(\d+, 10\), but the data has \d+ classes.*num_classes"),
]


def group_norm(groups: int, channels: int, affine: bool = True, bias: bool = True) -> nn.GroupNorm:
    """PyTorch's, which takes ``bias`` itself in later versions."""
    made = nn.GroupNorm(groups, channels, affine=affine)
    if not bias:
        made.register_parameter("bias", None)
    return made
