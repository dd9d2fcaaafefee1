"""Attention over the rounds: the gates of the global model, and of one client after its local training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from lightning import LightningModule, Trainer
from torch import nn

from fedlit.core.counts import as_int, at_least
from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write, require_regular
from fedlit.core.layout import write_state
from fedlit.core.messages import warn
from fedlit.core.records import ClientFailure
from fedlit.data.module import FederatedData, data_of
from fedlit.data.skew import skew_of_clients
from fedlit.engines.answers import answers
from fedlit.federated.module import FederatedModule
from fedlit.runs.by_round import ByRound, files_by_round
from fedlit.runs.client_accuracy import broadcast_after, next_task
from fedlit.runs.gates import Floats, as_images, gates, is_map, is_of_channels, shown_inputs
from fedlit.runs.strips import channel_strip, map_strip

FILM, CHANNELS = "attention_film.png", "channel_gates.png"
#: Key of the input pictures in a frame; gates have keys ``global/NAME`` and ``client/NAME``.
IMAGES = "images"

#: The arrays of one round by key.
Frame = Mapping[str, Floats]


class AttentionFilm(ByRound):
    """Follows the gates of a network over the rounds, on the same held-out inputs, for the global model and one
    client.

    After every k-th round and after the last one it writes ``rounds/attention_0005.npz`` with each gate (B, C, h, w) of
    the global model, ``global/NAME``, and of the model that the client would send back in the next round,
    ``client/NAME``. This fit of the client starts from the global model and the client's own parts (``KeepLocal``: its
    own gates), uses the batches of the next round and this round's learning rate, and does not affect the run. At the
    end the film is drawn: ``attention_film.png`` for the spatial gate with the highest resolution,
    ``channel_gates.png`` for channel gates, both in colours from 0 to 1, or further if a gate goes further.

    Each time costs one client's fit on the first rank: a tenth of a round of ten clients of equal size.

    Args:
        every: Rounds k from one file to the next, at least 1.
        client: The client's number; None takes the client with the most skewed labels
            (``fedlit.data.skew.label_skew``) among those with at least as many examples as the median client.
        digits: Number B of inputs, at least 1; they are the same in all rounds: of the test set, or of the validation
            clients if there are any (``data.validation_clients``).
    """

    pattern = "attention_{}.npz"
    drawn = (FILM, CHANNELS)

    def __init__(self, every: int = 1, client: int | None = None, digits: int = 4) -> None:
        super().__init__(every)
        self.client = None if client is None else as_int("client", client)
        self.digits = at_least(1, "digits", digits, "4 is the default")
        self._chosen = 0  # number of the client that is followed

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        clients = data_of(trainer).num_clients
        if self.client is not None and not 0 <= self.client < clients:
            raise InputError(f"AttentionFilm.client must be from 0 to {clients - 1}, got {self.client}; leave it out")
        self._chosen = skewed_client(data_of(trainer)) if self.client is None else self.client
        if not data_of(trainer).partition.sizes[self._chosen]:
            raise InputError(
                f"AttentionFilm.client is {self._chosen}, which has no examples to train on; give another client, or "
                "leave it out"
            )

    def on_train_start(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
        super().on_train_start(trainer, pl_module)
        if not gates(pl_module.net, shown_inputs(data_of(trainer), 1)):
            warn(
                "AttentionFilm writes nothing, as the network has no gates to follow: no module has a method gate that "
                "takes the arguments of its forward and returns a tensor (B, C, h, w)"
            )

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
    """The client with the most skewed labels among those with at least as many examples as the median client."""
    sizes = data.partition.sizes
    skew = np.nan_to_num(skew_of_clients(data))
    return int(np.where(sizes >= np.median(sizes[sizes > 0]), skew, -1.0).argmax())


def fitted(module: FederatedModule, data: FederatedData, client: int) -> nn.Module | None:
    """The network of a client after a fit that does not affect the run; None, with a warning, if the fit failed."""
    session = module.loop.session
    tasks = [next_task(module, data, client)]
    session.client.receive(broadcast_after(module))
    with torch.enable_grad():
        located = session.store.located(tasks) if session.store else tasks
        (answer,) = answers(session.engine, session.client, located, session.site)
    if isinstance(answer, ClientFailure):
        finished = module.trainer.global_step
        warn(f"AttentionFilm: the fit of client {client} after round {finished} failed: {answer.reason}")
        return None
    write_state(session.client.net, session.client.layout, answer.weights)
    return session.client.net


def frames_of(run: Path) -> dict[int, Frame]:
    """The files of `AttentionFilm` in a run's folder, by round; files that cannot be read are left out."""
    frames: dict[int, Frame] = {}
    for round, path in files_by_round(run, AttentionFilm.pattern).items():
        try:
            with np.load(require_regular(path), allow_pickle=False) as file:
                frames[round] = dict(file)
        except (OSError, ValueError, BadZipFile, EOFError) as error:
            warn(f"{path} cannot be read and is left out ({error})")
    return frames
