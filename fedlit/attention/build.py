"""Builds the attention that a network is given, and checks that it keeps the shape of feature maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fedlit.core.errors import InputError
from fedlit.core.messages import one_line

#: From a number of channels to a module that keeps (B, C, H, W).
Attention = Callable[[int], nn.Module]


def build_attention(attention: Attention, channels: int) -> nn.Module:
    """Build and check the attention module for feature maps with this number of channels.

    Raises:
        InputError: If it cannot be built, or changes the shape of a feature map.
    """
    name = getattr(attention, "__name__", None) or repr(attention)
    remedy = "use a class or function from a number of channels to a module that keeps (B, C, H, W)"
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
    probe = torch.zeros(2, channels, 8, 8)
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
