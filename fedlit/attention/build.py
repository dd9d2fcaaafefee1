"""Builds the attention that a network is given, and checks that it keeps the shape of feature maps."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from fedlit.core.errors import InputError
from fedlit.core.messages import one_line

#: From a number of channels to a module that keeps (B, C, H, W).
Attention = Callable[[int], nn.Module]


def build_attention(attention: Attention, channels: int, side: int = 8) -> nn.Module:
    """Build and check the attention module for feature maps with this number of channels, on (2, channels, side, side).

    Raises:
        InputError: If it cannot be built, or changes the shape of a feature map.
    """
    maker = _maker(attention)
    name = getattr(maker, "__name__", None) or one_line(repr(maker), 60)
    remedy = "use a class or function from a number of channels to a module that keeps (B, C, H, W)"
    if other := _other_first_argument(maker):
        raise InputError(f"the first argument of attention {name} is {other}, not the number of channels; {remedy}")
    try:
        module = attention(channels)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"attention {name} failed for {channels} channels ({one_line(str(error))}); {remedy}"
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"attention {name} returned a {type(module).__name__}, not a module; {remedy}")
    probe = torch.zeros(2, channels, side, side)
    was_training = module.training
    try:
        with torch.no_grad():
            shape = tuple(module.eval()(probe).shape)  # eval mode keeps statistics and random state
    except Exception as error:
        raise InputError(
            f"attention {name} failed on {tuple(probe.shape)} ({one_line(str(error))}); {remedy}"
        ) from error
    if shape != tuple(probe.shape):
        raise InputError(f"attention {name} turned {tuple(probe.shape)} into {shape}; {remedy}")
    return module.train(was_training)


def _maker(attention: Attention) -> Callable[..., Any]:
    """The class or function that a partial function calls, also in the form that a config gives it; else itself."""
    if not isinstance(attention, partial):
        return attention
    return next((part for part in attention.args if isinstance(part, type)), attention.func)


def _other_first_argument(maker: Callable[..., Any]) -> str | None:
    """The name of the first argument if it evidently is no number of channels; a class may have no such argument."""
    try:
        first = next(iter(inspect.signature(maker).parameters.values()), None)
    except ValueError:  # a class of C++ has no signature
        return None
    is_other = first is not None and ("kernel" in first.name or isinstance(first.default, float | bool | str))
    return first.name if first and is_other else None
