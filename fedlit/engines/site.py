"""Where clients are trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning import Trainer
from lightning.pytorch.plugins import Precision

from fedlit.data.module import FederatedData, data_of


@dataclass(frozen=True)
class Site:
    """What an engine needs to know of the place that clients are trained at.

    Attributes:
        data: The clients' data, on the device.
        device: Where tensors are.
        precision: What fits run in; ``precision.precision`` names it, such as ``bf16-mixed``.
        processes: How many processes of this machine share its cores, including this one.
    """

    data: FederatedData
    device: torch.device
    precision: Precision
    processes: int = 1

    @classmethod
    def of(cls, trainer: Trainer) -> Site:
        """The server's own: its data, device and precision."""
        device = trainer.strategy.root_device
        return cls(data_of(trainer), device, trainer.precision_plugin, max(1, trainer.num_devices))
