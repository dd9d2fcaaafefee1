"""Random augmentation of training batches; its draws are the same wherever a client trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fedlit.core.errors import InputError
from fedlit.core.messages import one_line
from fedlit.core.seeding import address, isolated_rng


class PerExample(nn.Module):
    """Applies a transform to each example of a batch separately, each with its own draws.

    torchvision's transforms draw once per call, so all images of a batch are shifted or rotated by the same amount.
    This class calls the transform for each image, which multiplies the time by about the size of the batch.

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
    """Applies transforms to training batches, one after the other.

    Args:
        transforms: Each from a batch (B, C, ...) to one of the same shape and type.
    """

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        self.transforms = transforms
        self._name = ", ".join(type(transform).__name__ for transform in transforms)

    @torch.no_grad()
    def __call__(self, x: Tensor, seed: int) -> Tensor:
        """The augmented batch; draws depend on the seed alone."""
        with isolated_rng(seed, x.device):
            for transform in self.transforms:
                x = transform(x)
        return x

    def of_client(self, client: int, round: int, seed: int) -> Callable[[Tensor, int, int], Tensor]:
        """A function for the batches of a client's fit: from a batch, its epoch and its number there, both from 0."""
        return lambda x, epoch, batch: self(x, address(seed, "augment", round, client, epoch, batch))

    def check(self, inputs: Tensor) -> None:
        """Try the transforms on a few training inputs.

        Raises:
            InputError: If they fail, change the shape or the type, or give another result for the same seed, as then a
                resumed run would differ.
        """
        try:
            changed, again = self(inputs.clone(), 0), self(inputs.clone(), 0)
        except Exception as error:
            raise InputError(
                f"data.augment cannot be used: {self._name} fails on a training batch of {inputs.dtype} of shape "
                f"{tuple(inputs.shape)} ({one_line(str(error), 200)}); give transforms that take a batch of inputs, "
                "without targets"
            ) from error
        if not isinstance(changed, Tensor) or (changed.shape, changed.dtype) != (inputs.shape, inputs.dtype):
            is_tensor = isinstance(changed, Tensor)
            got = f"{changed.dtype} of shape {tuple(changed.shape)}" if is_tensor else type(changed).__name__
            raise InputError(
                f"data.augment must keep shape and type: {self._name} makes {got} from {inputs.dtype} of shape "
                f"{tuple(inputs.shape)}; leave out resizing, conversion and normalisation, as evaluation needs them too"
            )
        if not torch.allclose(changed.double(), again.double(), equal_nan=True):
            raise InputError(
                f"data.augment gives another result for the same batch and seed: {self._name} draws from a generator "
                "of its own, or keeps state; draw from the global generator of PyTorch, NumPy or Python, which is "
                "seeded for each batch"
            )
