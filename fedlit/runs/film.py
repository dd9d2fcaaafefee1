"""Attention over the rounds: the gates of the global model, and of one client's after a fit of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write, require_regular
from fedlit.core.layout import write_state
from fedlit.core.messages import warn
from fedlit.core.records import ClientFailure
from fedlit.data.module import FederatedData, data_of
from fedlit.data.skew import skew_of_clients
from fedlit.federated.module import FederatedModule
from fedlit.runs.by_round import ByRound, files_by_round
from fedlit.runs.client_accuracy import next_task
from fedlit.runs.gates import Floats, as_images, gates, is_map, is_of_channels, shown_inputs
from fedlit.runs.strips import channel_strip, map_strip

FILM, CHANNELS = "attention_film.png", "channel_gates.png"
#: In a frame, the inputs as pictures; gates are under ``global/NAME`` and ``client/NAME``.
IMAGES = "images"

#: From a frame's names to its arrays.
Frame = Mapping[str, Floats]


class AttentionFilm(ByRound):
    """Follows the gates of a network over the rounds, on the same test inputs, beside those of one skewed client.

    Of every k-th round and of the last one it writes ``rounds/attention_0005.npz``: each gate (B, C, h, w) of the
    global model, ``global/NAME``, and of the model that the client would send back in the next round, ``client/NAME``:
    its fit begins with that global model and with what stays with the client (``KeepLocal``: its own gates), on the
    batches of the next round, at this round's learning rate. Nothing else learns of that fit. At the end the film is
    drawn: ``attention_film.png`` for the spatial gate of the finest map, ``channel_gates.png`` for channel gates. All
    colours go from 0 to 1.

    Each time costs a client's fit, which is a tenth of a round of ten clients alike in size, on the first rank alone.

    Args:
        every: Rounds k from one file to the next, at least 1.
        client: The client's number; None takes the one whose labels are the most skewed
            (``fedlit.data.skew.label_skew``) among those that have as many examples as the median client.
        digits: Number B of test inputs, at least 1, always the same ones.
    """

    pattern = "attention_{}.npz"
    drawn = (FILM, CHANNELS)

    def __init__(self, every: int = 1, client: int | None = None, digits: int = 4) -> None:
        super().__init__(every)
        if digits < 1:
            raise InputError(f"digits must be at least 1, got {digits}; 4 is the default")
        self.client = client
        self.digits = digits
        self._chosen = 0  # the client that is followed

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        clients = data_of(trainer).num_clients
        if self.client is not None and not 0 <= self.client < clients:
            raise InputError(f"AttentionFilm.client must be from 0 to {clients - 1}, got {self.client}; leave it out")
        self._chosen = skewed_client(data_of(trainer)) if self.client is None else self.client

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if not gates(pl_module, shown_inputs(data_of(trainer), 1)):
            rank_zero_info("AttentionFilm: no module of the network has a method gate(x), so there is nothing to film")

    def record(self, trainer: Trainer, module: FederatedModule, path: Path) -> None:
        data = data_of(trainer)
        inputs = shown_inputs(data, self.digits)
        frame = {f"global/{name}": gate for name, gate in gates(module.net, inputs).items()}
        if not frame:
            return
        if (images := as_images(inputs)) is not None:
            frame[IMAGES] = images
        if (net := fitted(module, data, self._chosen)) is not None:
            frame |= {f"client/{name}": gate for name, gate in gates(net, inputs).items()}
        arrays: dict[str, Any] = {name: values.astype(np.float16) for name, values in frame.items()}
        with atomic_write(path, "wb") as file:
            np.savez_compressed(file, **arrays)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_end(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        frames = frames_of(self._folder)
        client = self._chosen
        skew = skew_of_clients(data_of(trainer))[client]
        labels = {"global": "the global model", "client": f"client {client} (label skew {skew:.2f}) after a fit"}
        for name, is_shown, strip in ((FILM, is_map, map_strip), (CHANNELS, is_of_channels, channel_strip)):
            chosen = {
                round: {key: gate for key, gate in frame.items() if key == IMAGES or is_shown(gate)}
                for round, frame in frames.items()
            }
            if any(frame.keys() - {IMAGES} for frame in chosen.values()):
                with atomic_write(self._folder / name, "wb") as file:
                    strip(chosen, labels).savefig(file, format="png")


def skewed_client(data: FederatedData) -> int:
    """The client of the most skewed labels among those with at least as many examples as the median client."""
    sizes = data.partition.sizes
    skew = np.nan_to_num(skew_of_clients(data))
    return int(np.where(sizes >= np.median(sizes[sizes > 0]), skew, -1.0).argmax())


def fitted(module: FederatedModule, data: FederatedData, client: int) -> nn.Module | None:
    """The network of a client after a fit that nobody else learns of; None, with a warning, where the fit failed."""
    session = module.loop.session
    tasks = [next_task(module, data, client)]
    session.client.receive(module.broadcast())
    with torch.enable_grad():
        located = session.store.located(tasks) if session.store else tasks
        (answer,) = session.engine.run(session.client, located, session.site)
    if isinstance(answer, ClientFailure):
        warn(f"AttentionFilm lacks client {client} after round {module.current_epoch + 1}: {answer.reason}")
        return None
    write_state(session.client.net, session.client.layout, answer.weights)
    return session.client.net


def frames_of(run: Path) -> dict[int, Frame]:
    """What `AttentionFilm` has left in a run's folder, by round; files that cannot be read are left out."""
    frames: dict[int, Frame] = {}
    for round, path in files_by_round(run, AttentionFilm.pattern).items():
        try:
            with np.load(require_regular(path), allow_pickle=False) as file:
                frames[round] = dict(file)
        except (OSError, ValueError, BadZipFile, EOFError) as error:
            warn(f"{path} cannot be read and is left out ({error})")
    return frames
