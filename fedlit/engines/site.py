"""The place where clients are trained: data, device and precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning import Trainer
from lightning.pytorch.plugins import Precision

from fedlit.data.module import FederatedData, data_of


@dataclass(frozen=True)
class Site:
    """What an engine needs for training, besides the clients.

    Attributes:
        data: The clients' data, on the device.
        device: The device of all tensors.
        precision: The precision of fits; ``precision.precision`` is its name, such as ``bf16-mixed``.
        processes: Number of processes that share this machine's cores, including this one.
    """

    data: FederatedData
    device: torch.device
    precision: Precision
    processes: int = 1

    @classmethod
    def of(cls, trainer: Trainer) -> Site:
        """The data, device and precision of the server's Trainer."""
        device = trainer.strategy.root_device
        return cls(data_of(trainer), device, trainer.precision_plugin, max(1, trainer.num_devices))
