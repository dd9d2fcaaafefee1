"""Random changes of training batches whose draws are addressed, so that they are the same wherever a client trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fedlit.core.errors import InputError
from fedlit.core.messages import one_line
from fedlit.core.seeding import address, isolated_rng


class PerExample(nn.Module):
    """A transform that is applied to each example of a batch by itself, with draws of its own.

    torchvision's transforms draw once a call, so that all images of a batch are shifted or turned alike. This one calls
    them for each image, which takes about as many times as long.

    Args:
        transform: From an example (C, ...) to one of the same shape and type.
    """

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        return torch.stack([self.transform(example) for example in x])


class Augmentation:
    """Transforms of training batches, one after the other.

    Args:
        transforms: From a batch (B, C, ...) to one of the same shape and type.
    """

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        self._transforms = transforms
        self._name = ", ".join(type(transform).__name__ for transform in transforms)

    @torch.no_grad()
    def __call__(self, x: Tensor, seed: int) -> Tensor:
        """The changed batch; what is drawn depends on the seed alone."""
        with isolated_rng(seed, x.device):
            for transform in self._transforms:
                x = transform(x)
        return x

    def of_client(self, client: int, round: int, seed: int) -> Callable[[Tensor, int, int], Tensor]:
        """What is done to the batches of a client's fit, given each with its epoch and its number there, from 0."""
        return lambda x, epoch, batch: self(x, address(seed, "augment", round, client, epoch, batch))

    def check(self, inputs: Tensor) -> None:
        """Try the transforms on a few training inputs.

        Raises:
            InputError: When they fail, or change the shape or the type, in which evaluation would differ, or have
                draws of their own, in which a resumed run would.
        """
        try:
            changed, again = self(inputs.clone(), 0), self(inputs.clone(), 0)
        except Exception as error:
            raise InputError(
                f"data.augment cannot be used: {self._name} fails on a training batch of {inputs.dtype} of shape "
                f"{tuple(inputs.shape)} ({one_line(str(error), 200)}); it is given inputs alone, without targets"
            ) from error
        if not isinstance(changed, Tensor) or (changed.shape, changed.dtype) != (inputs.shape, inputs.dtype):
            is_tensor = isinstance(changed, Tensor)
            got = f"{changed.dtype} of shape {tuple(changed.shape)}" if is_tensor else type(changed).__name__
            raise InputError(
                f"data.augment must keep shape and type: {self._name} makes {got} of {inputs.dtype} of shape "
                f"{tuple(inputs.shape)}; leave resizing, conversion and normalisation out, they are for all data alike"
            )
        if not torch.allclose(changed.double(), again.double(), equal_nan=True):
            raise InputError(
                f"data.augment makes something else of a batch each time: {self._name} draws from a generator of its "
                "own, or keeps something; draw from PyTorch's, NumPy's or Python's global one, seeded for each batch"
            )
