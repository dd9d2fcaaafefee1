"""Runs consecutive layers of a ``torch.nn.Sequential`` that end in ReLU and max pool as one operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from fedlit.models.conv_pool import conv_pool
from fedlit.models.norm_pool import is_unchanged, norm_pool

N = TypeVar("N", bound=nn.Module)


def joined(net: N) -> N:
    """Change a network in place so that its ``Sequential``s call ``conv_pool`` or ``norm_pool`` for suitable layers.

    These are a ``Conv2d`` with a 3x3 kernel, padding 1 and a bias, or any ``GroupNorm``, followed by a ``ReLU`` and a
    ``MaxPool2d(2)``, with defaults for all other arguments, without hooks, and none of them a subclass. Results are the
    same, to rounding; modules, names and parameters do not change. Subclasses of ``Sequential``, and layers that a
    ``forward`` calls itself, are not changed.
    """
    for module in net.modules():
        if type(module) is nn.Sequential:
            module.__class__ = Sequential
    return net


class Sequential(nn.Sequential):
    """A ``Sequential`` that decides in each call which layers to join, as hooks may be added and removed."""

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            join = next((join for join in JOINS if _fits(layers, join.parts)), None)
            x = join.call(layers[0], x) if join else layers[0](x)
            layers = layers[len(join.parts) if join else 1 :]
        return x


class _Part(NamedTuple):
    """A class of layers with arguments; a number also matches a pair of this number."""

    kind: type[nn.Module]
    arguments: Mapping[str, int | str] = {}
    has: tuple[str, ...] = ()  # parameters that must not be None


class _Join(NamedTuple):
    """Consecutive layers, and the function that replaces them: from the first layer and its input to the output."""

    parts: tuple[_Part, ...]
    call: Callable[[Any, Tensor], Tensor]


_CONVOLUTION = _Part(
    nn.Conv2d,
    {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1, "groups": 1, "padding_mode": "zeros"},
    has=("bias",),
)
_RELU_AND_POOL = (
    _Part(nn.ReLU),
    _Part(
        nn.MaxPool2d,
        {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False},
    ),
)


def _in_format_of(given: tuple[Tensor, ...], pooled: Tensor) -> Tensor:
    """Maps in the memory format that PyTorch's layers would give them, as what follows may call ``view`` on them."""
    is_channels_last = any(each.stride(1) == 1 for each in given)
    return pooled if is_channels_last else pooled.contiguous()


JOINS = (
    _Join(
        (_CONVOLUTION, *_RELU_AND_POOL),
        lambda layer, x: _in_format_of((x, layer.weight), conv_pool(x, layer.weight, layer.bias)),
    ),
    _Join((_Part(nn.GroupNorm), *_RELU_AND_POOL), lambda layer, x: _in_format_of((x,), norm_pool(x, layer))),
)


def _fits(layers: list[nn.Module], parts: tuple[_Part, ...]) -> bool:
    return len(layers) >= len(parts) and all(map(_is, layers, parts))


def _is(layer: nn.Module, part: _Part) -> bool:
    """Whether a layer matches, and a call of it runs nothing else, such as hooks."""
    return (
        type(layer) is part.kind
        and all(getattr(layer, name) in (value, (value, value)) for name, value in part.arguments.items())
        and all(getattr(layer, name) is not None for name in part.has)
        and is_unchanged(layer)
    )
