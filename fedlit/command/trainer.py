"""The server's Trainer."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.accelerators import Accelerator, CUDAAccelerator, MPSAccelerator
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_info

from fedlit.command.blame import refused_by_library
from fedlit.core.checkpoint import CheckpointFile
from fedlit.core.errors import InputError
from fedlit.core.private_lightning import Precision as LightningPrecision
from fedlit.core.private_lightning import has_checkpoint_io
from fedlit.federated.trainer_settings import NEEDS_GPU, check_arguments, check_settings

Precision = LightningPrecision | Literal["auto"]


def _has_only_apples_gpu() -> bool:
    """Whether Lightning would choose Apple's GPU, on which fedlit has not been run."""
    return MPSAccelerator.is_available() and not CUDAAccelerator.is_available()


def _is_gpu(accelerator: object) -> bool:
    """Whether Lightning would choose a CUDA GPU."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def best_precision(accelerator: object) -> LightningPrecision:
    """The precision that suits the hardware: bf16-mixed on GPUs that have it, 16-mixed on older ones, else 32-true.

    Only an accelerator that is given by its name can be a GPU of these.

    A CPU without matrix instructions for bf16 trains several times slower in it, so there it is never chosen.
    """
    if _is_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "32-true"


#: Names of GPU accelerators, and Lightning's classes for them.
GPUS: dict[object, tuple[type[Accelerator], ...]] = {
    "gpu": (CUDAAccelerator, MPSAccelerator),
    "cuda": (CUDAAccelerator,),
    "mps": (MPSAccelerator,),
}


def _check_gpu(accelerator: object) -> None:
    """Refuse a GPU that is not available."""
    kinds = GPUS.get(accelerator, ()) if isinstance(accelerator, str) else ()
    if kinds and not any(kind.is_available() for kind in kinds):
        raise InputError(
            f"trainer.accelerator is {accelerator}, but PyTorch finds no such GPU; leave it out, or give cpu"
        )


class Trainer(lightning.Trainer):
    """The server's Trainer: an epoch is a round.

    Args:
        accelerator: As in Lightning, but ``auto`` is the CPU if the only GPU is Apple's.
        precision: Of the clients' training steps and of the global model's evaluation; clients are measured in full
            precision. ``auto`` is bf16-mixed on GPUs that have bf16, 16-mixed on older ones and 32-true on a CPU.
        deterministic: As in Lightning, but None is ``warn`` on a GPU, unless ``benchmark`` is true: the same run gives
            the same bits, and PyTorch warns of an operation that cannot. Runs on a CPU repeat without it.
        plugins: As in Lightning. If none is for checkpoints, ``fedlit.core.checkpoint.CheckpointFile`` is added.

    Raises:
        InputError: If Lightning refuses an argument, or if it has no effect on a federation.
    """

    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        precision: Precision | None = "auto",
        **kwargs: Any,
    ) -> None:
        if accelerator == "auto" and _has_only_apples_gpu():
            accelerator = "cpu"
            warnings.filterwarnings("ignore", "GPU available but not used")
            rank_zero_info(
                "fedlit has not been run on Apple's GPUs and uses the CPU; --trainer.accelerator mps tries one"
            )
        if kwargs.get("deterministic") is None and not kwargs.get("benchmark") and _is_gpu(accelerator):
            kwargs["deterministic"] = "warn"
        chosen = best_precision(accelerator) if precision == "auto" else precision
        given = kwargs.pop("plugins", None) or []
        plugins = list(given) if isinstance(given, list | tuple) else [given]
        has_own = has_checkpoint_io(kwargs.get("strategy"))
        if not has_own and not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(CheckpointFile())
        check_arguments(kwargs)
        _check_gpu(accelerator)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*AMP with fp16 is not supported on CPU")  # but refused, below
                super().__init__(accelerator=accelerator, precision=chosen, plugins=plugins, **kwargs)
        except Exception as error:
            if refused_by_library(error):
                raise InputError(f"trainer: {error}; fedlit fit --help explains its arguments") from error
            raise
        if chosen in ("16-mixed", "16", 16) and self.precision != "16-mixed":
            raise InputError(f"trainer.precision is {chosen}, but {NEEDS_GPU}")
        check_settings(self)
