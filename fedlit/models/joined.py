"""Convolution, ReLU and max pool that follow each other in a ``torch.nn.Sequential``, as one operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from fedlit.core.private_torch import has_global_hooks, has_hooks
from fedlit.models.conv_pool import conv_pool

N = TypeVar("N", bound=nn.Module)


def joined(net: N) -> N:
    """The network, in which every plain ``Sequential`` calls ``conv_pool`` where its layers amount to that.

    These are a ``Conv2d`` with a 3x3 kernel, padding 1 and a bias, a ``ReLU`` and a ``MaxPool2d(2)``, all other
    arguments as by default, none of them a subclass or with a hook. What is computed is the same, to rounding (see
    ``conv_pool``); modules, names and parameters stay. Subclasses of ``Sequential`` and layers that a ``forward``
    calls by itself are left alone.
    """
    for module in net.modules():
        if type(module) is nn.Sequential:
            module.__class__ = Sequential
    return net


class Sequential(nn.Sequential):
    """A ``Sequential`` that decides at each call which layers to join, as hooks may be added and removed."""

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            if len(layers) >= len(PARTS) and all(map(_is, layers, PARTS)) and layers[0].bias is not None:
                x = conv_pool(x, layers[0].weight, layers[0].bias)  # type: ignore[arg-type]
                layers = layers[len(PARTS) :]
            else:
                x = layers.pop(0)(x)
        return x


class _Part(NamedTuple):
    """A class of layers, and arguments; a number stands for two alike as well."""

    kind: type[nn.Module]
    arguments: Mapping[str, int | str]


PARTS = (
    _Part(
        nn.Conv2d,
        {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1, "groups": 1, "padding_mode": "zeros"},
    ),
    _Part(nn.ReLU, {}),
    _Part(
        nn.MaxPool2d,
        {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False},
    ),
)


def _is(layer: nn.Module, part: _Part) -> bool:
    """Whether a call of the layer is this and nothing more."""
    return (
        type(layer) is part.kind
        and all(getattr(layer, name) in (value, (value, value)) for name, value in part.arguments.items())
        and not has_hooks(layer)
        and not has_global_hooks()
        and "forward" not in vars(layer)
    )
