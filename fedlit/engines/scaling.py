"""The gradient scaler of fits in 16-mixed, the same in every engine."""

from __future__ import annotations

import math

from torch.amp.grad_scaler import GradScaler

from fedlit.core.records import ClientUpdate

#: What a fit's loss is multiplied by at first. PyTorch begins at 65,536 and finds the scale that suits a network by
#: skipping steps whose gradients overflow. Every client would begin there anew, and lose its first steps in each round.
INITIAL_SCALE = 1024.0
#: Steps without an overflow after which the scale would be doubled: more than a fit has, so that it only falls.
GROWTH_INTERVAL = 2**31 - 1
#: The least float32 above 0: one halving more, and the scale is 0.
SMALLEST_SCALE = 2.0**-149


def gradient_scaler(device_type: str, enabled: bool = True) -> GradScaler:
    """A scaler for one fit; it halves the scale and skips the step whenever a gradient overflows float16."""
    return GradScaler(device_type, init_scale=INITIAL_SCALE, growth_interval=GROWTH_INTERVAL, enabled=enabled)


def skipped_steps(scaler: GradScaler) -> int:
    """How many steps a scaler of ``gradient_scaler`` has skipped: it halved its scale for each of them.

    At most 159, as the scale is 0 after more; so many are skipped if a client has diverged.
    """
    return round(math.log2(INITIAL_SCALE / max(scaler.get_scale(), SMALLEST_SCALE))) if scaler.is_enabled() else 0


def with_skipped_steps(update: ClientUpdate, scaler: GradScaler | None) -> ClientUpdate:
    """An update whose metrics say how many of its steps were skipped; unchanged without a scaler."""
    if scaler is None or not scaler.is_enabled():
        return update
    return update._replace(metrics={**update.metrics, "skipped_steps": float(skipped_steps(scaler))})
