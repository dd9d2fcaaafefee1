"""A network's state as one flat vector, and back: the form in which it is sent, averaged and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from fedlit.core.errors import InputError
from fedlit.core.records import Weights


@dataclass(frozen=True)
class Layout:
    """The position of each tensor of a network's ``state_dict`` in the flat vector.

    Attributes:
        trainable: Names of the trainable parameters, first in ``Weights.floats``.
        fixed: Names of frozen parameters and floating-point buffers, after them.
        counts: Names of the integer buffers, in ``Weights.counts``.
        flags: Names of the boolean buffers, in ``Weights.flags``.
        numels: Number of elements of each name in ``trainable + fixed``.
    """

    trainable: tuple[str, ...]
    fixed: tuple[str, ...]
    counts: tuple[str, ...]
    flags: tuple[str, ...]
    numels: tuple[int, ...]

    @classmethod
    def of(cls, net: nn.Module) -> Layout:
        """The layout of a network; a tensor with several names (tied weights) is stored once, by its first name.

        Raises:
            InputError: If the network holds complex numbers, or its ``state_dict`` has anything else than its
                parameters and buffers.
        """
        state = net.state_dict(keep_vars=True)
        _check_members(net, state)
        state = _without_aliases(state)
        floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        trainable = tuple(name for name, tensor in floats.items() if tensor.requires_grad)
        fixed = tuple(name for name, tensor in floats.items() if not tensor.requires_grad)
        for name, tensor in state.items():
            if tensor.is_complex():
                raise InputError(
                    f"the net's {name} holds complex numbers, which cannot be averaged; keep them as pairs of real "
                    "numbers (torch.view_as_real), or in a buffer with persistent=False, which is not part of the state"
                )
        flags = tuple(name for name, tensor in state.items() if tensor.dtype == torch.bool)
        counts = tuple(name for name in state if name not in floats and name not in flags)
        return cls(trainable, fixed, counts, flags, tuple(floats[name].numel() for name in trainable + fixed))

    @property
    def num_trainable(self) -> int:
        """Number of trainable scalars: ``Weights.floats[:num_trainable]`` are the parameters w of the objective."""
        return sum(self.numels[: len(self.trainable)])

    def split(self, floats: Tensor) -> dict[str, Tensor]:
        """One-dimensional views of a flat vector (P,), by name."""
        return dict(zip(self.trainable + self.fixed, floats.split(self.numels), strict=True))

    def split_trainable(self, vector: Tensor) -> tuple[Tensor, ...]:
        """Views of a flat vector (T,) of the trainable scalars, in the order of ``trainable``."""
        return vector.split(self.numels[: len(self.trainable)])  # type: ignore[no-any-return]

    def positions(self, names: Iterable[str]) -> Tensor:
        """Indices of the scalars of these floating-point tensors in a flat vector (P,), in the order given."""
        spans = self.split(torch.arange(sum(self.numels)))
        return torch.cat([spans[name] for name in names])


def _check_members(net: nn.Module, state: Mapping[str, Any]) -> None:
    members = {id(tensor) for tensor in (*net.parameters(), *net.buffers())}
    for name, value in state.items():
        if id(value) not in members:
            raise InputError(
                f"the net's state_dict has {name}, a {type(value).__name__} that is none of its parameters and buffers "
                "(because of get_extra_state, or an override or hook of state_dict that copies), so clients could not "
                "receive it; keep it in a buffer (register_buffer)"
            )


def _without_aliases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {id(tensor): name for name, tensor in reversed(state.items())}
    return {name: tensor for name, tensor in state.items() if names[id(tensor)] == name}


def read_state(net: nn.Module, layout: Layout) -> Weights:
    """Copy a network's state into flat vectors, in its widest floating-point type, at least float32."""
    state = net.state_dict()
    tensors = [state[name].reshape(-1) for name in layout.trainable + layout.fixed]
    dtype = reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)
    floats = torch.cat([t.to(dtype) for t in tensors])
    whole = (
        torch.cat([torch.zeros(0, dtype=dtype, device=floats.device), *(state[n].reshape(-1).to(dtype) for n in names)])
        for names, dtype in ((layout.counts, torch.int64), (layout.flags, torch.bool))
    )
    return Weights(floats, *whole)


@torch.no_grad()
def write_state(net: nn.Module, layout: Layout, weights: Weights, *, trainable: bool = True) -> None:
    """Copy a state into a network; ``trainable=False`` leaves out the trainable parameters."""
    state = net.state_dict()
    views = layout.split(weights.floats)
    names = layout.trainable + layout.fixed if trainable else layout.fixed
    for name in names:
        state[name].copy_(views[name].view_as(state[name]))
    for names, values in ((layout.counts, weights.counts), (layout.flags, weights.flags)):
        for name, part in zip(names, values.split([state[name].numel() for name in names]), strict=True):
            state[name].copy_(part.view_as(state[name]))


def shaped(net: nn.Module, layout: Layout, floats: Tensor) -> dict[str, Tensor]:
    """Views of flat states (..., P) in the shapes of a network's tensors, (..., *shape), by name."""
    state, names = net.state_dict(), layout.trainable + layout.fixed
    views = floats.split(layout.numels, dim=-1)
    return {name: view.view(view.shape[:-1] + state[name].shape) for name, view in zip(names, views, strict=True)}


def trainable(net: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that are trained, in the network's order."""
    return (parameter for parameter in net.parameters() if parameter.requires_grad)
