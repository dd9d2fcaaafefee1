"""Trains at a site: takes the server's questions as frames, and returns answers as frames."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container
from functools import cached_property

import torch
from lightning.pytorch.plugins import MixedPrecision, Precision

from fedlit.clients.client import ClientModule
from fedlit.clients.probe import check_fit_and_format, check_single_examples
from fedlit.core.errors import InputError
from fedlit.core.layout import read_state
from fedlit.core.messages import find_input_error, one_line
from fedlit.core.records import ClientFailure, ClientUpdate
from fedlit.data.module import FederatedData
from fedlit.engines.loop import LoopEngine
from fedlit.engines.site import Site
from fedlit.flower.frame import Bytes, Frame, WireError, pack, unpack
from fedlit.flower.identity import fingerprint, introduction
from fedlit.flower.kept import Versions
from fedlit.flower.kinds import FAILURE, GREETING, INTRODUCTION, TASK
from fedlit.flower.place import Place
from fedlit.flower.site_data import OwnData
from fedlit.flower.vectors import list_of
from fedlit.flower.wire import Receipt, Terms, task_in, terms_in, update_frame
from fedlit.sampling import steps_for


class SiteTrainer:
    """Answers the server's questions at a site.

    Args:
        place: The site's own file.
        own: Makes the site's data; called once.
        client: Makes the local problem with its algorithm, for a federation with these terms; called once.
    """

    def __init__(self, place: Place, own: Callable[[], FederatedData], client: Callable[[Terms], ClientModule]) -> None:
        self._place, self._make_own, self._make_client = place, own, client
        self._client: ClientModule | None = None
        self._datas: dict[str, OwnData] = {}

    def answer(self, question: Bytes) -> bytes:
        """The answer to a question; after any error it is a frame of kind ``FAILURE`` with the reason."""
        try:
            frame = unpack(question, GREETING, TASK)
            with contextlib.chdir(self._place.path.parent):
                found = self._introduce(frame) if frame.kind == GREETING.name else self._fit(frame)
        except Exception as error:  # of any kind, so that the server learns the reason
            said = find_input_error(error) or error
            reason = str(said) if isinstance(said, InputError | WireError) else f"{type(said).__name__}: {said}"
            found = Frame(FAILURE.name, {"reason": one_line(f"{self._place.name}: {reason}", 300)}, {})
        return pack(found)

    def _introduce(self, frame: Frame) -> Frame:
        terms = terms_in(frame)
        data = self._data(terms, 0)
        client = self._made(terms, data)
        return Frame(INTRODUCTION.name, introduction(self._place.name, client, data), {})

    def _fit(self, frame: Frame) -> Frame:
        terms, asked = terms_in(frame), frame.values
        number = int(asked["client"])  # type: ignore[arg-type]
        if not 0 <= number < terms.clients:
            raise WireError(f"the client number {number} is not between 0 and {terms.clients - 1}")
        data = self._data(terms, number)
        client = self._made(terms, data)
        examples = int(data.partition.sizes[number])
        if asked["examples"] != examples:
            raise WireError(f"this site has {examples:,} training examples, but the task is for {asked['examples']:,}")
        like = read_state(client.net, client.layout)
        most = steps_for(examples, terms.batch_size, self._place.max_epochs)
        message = client.algorithm.message({}, like)
        task, sent = task_in(frame, like, message, len(client.layout.trainable), most)
        versions = Versions(self._place.state, str(asked["federation"]))
        receipt = Receipt(int(asked["kept"]), int(asked["crc"]))  # type: ignore[arg-type]
        if client.algorithm.kept_size:
            task = task._replace(kept=versions.find(receipt))
        client.attach(data)
        client.receive(sent)
        check_single_examples(client, data)
        site = Site(data, self._device, _precision(str(asked["precision"]), self._device))
        with torch.enable_grad():
            (answer,) = LoopEngine().run(client, [task], site)
        if isinstance(answer, ClientFailure):
            return Frame(FAILURE.name, {"reason": one_line(answer.reason, 300)}, {})
        kept = self._kept(answer, versions, [*map(int, list_of(frame.blobs["needed"]))])
        return update_frame(answer, str(asked["federation"]), fingerprint(self._place.name, data.train), kept.crc)

    def _kept(self, update: ClientUpdate, versions: Versions, needed: Container[int]) -> Receipt:
        if update.kept is None:
            return Receipt()
        versions.prune(update.task.round, needed)
        return versions.keep(update.task.client, update.task.round, update.kept)

    @cached_property
    def _device(self) -> torch.device:
        has_gpu = self._place.accelerator == "auto" and torch.cuda.is_available()
        return torch.device("cuda", 0) if has_gpu else torch.device("cpu")

    @cached_property
    def _own(self) -> FederatedData:
        return self._make_own()

    def _data(self, terms: Terms, client: int) -> OwnData:
        key = repr((terms, client))
        if key not in self._datas:
            data = OwnData(self._own, terms, client)
            data.to(self._device)
            self._datas = {key: data}  # replaces the data of the greeting
        return self._datas[key]

    def _made(self, terms: Terms, data: FederatedData) -> ClientModule:
        if self._client is None:
            client = self._make_client(terms).to(self._device)
            check_fit_and_format(client.net, data)
            self._client = client
        return self._client


def _precision(name: str, device: torch.device) -> Precision:
    """Lightning's precision plugin for a name.

    Raises:
        WireError: If clients cannot be trained in this precision.
    """
    if name == "32-true":
        return Precision()
    if name in ("16-mixed", "bf16-mixed"):
        return MixedPrecision(name, device.type)  # type: ignore[arg-type]
    raise WireError(f"clients cannot be trained in the precision {name[:40]!r}")
