"""Who the sites are, and questions to them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedlit.core.errors import InputError
from fedlit.core.messages import one_line, warn
from fedlit.flower.frame import Bytes, Frame, Value, WireError, unpack
from fedlit.flower.grid import FIT, GREET, frame_of, message
from fedlit.flower.kinds import FAILURE, INTRODUCTION, UPDATE

if TYPE_CHECKING:
    from flwr.serverapp import Grid

#: Seconds between two looks for answers: at first, and at most; in between a tenth of the time that was waited.
FIRST_LOOK, LAST_LOOK = 0.05, 1.0
#: The longest answer to a greeting, in bytes.
MOST_WORDS = 1 << 17


#: What a message that is no message may raise where Flower reads it; not errors of the connection.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, ArithmeticError, AssertionError)


class NoAnswerError(Exception):
    """Why a site has not answered as it should: one line."""


class Link:
    """The server's end: it knows the sites by their names, wherever they are.

    A site's name is the one that its key was registered by (``flwr supernode register KEY --name NAME``), which the
    site must say as well; where that is not asked for, a site's own word counts.

    Args:
        grid: Flower's.
        names: Of the sites; the position is the client's number.
        registered: Whether names must have been registered.
        greeting: The frame of the question what a site is.
    """

    def __init__(self, grid: Grid, names: Sequence[str], registered: bool, greeting: bytes) -> None:
        self._grid, self.names, self._registered, self._greeting = grid, names, registered, greeting
        self._said: dict[int, str] = {}  # names of the nodes that were greeted; empty of one that cannot take part
        self._nodes: dict[str, int] = {}
        #: By name, what each site said of itself when it was first met.
        self.introductions: dict[str, Mapping[str, Value]] = {}

    def meet(self, seconds: float) -> None:
        """Greet nodes until all sites are known.

        Raises:
            InputError: When there are two of a name, a site refuses, or some are missing after so many seconds.
        """
        deadline = time.monotonic() + seconds
        wait = FIRST_LOOK
        while missing := [name for name in self.names if name not in self._nodes]:
            left = deadline - time.monotonic()
            if left <= 0:
                raise InputError(
                    f"no answer of {', '.join(missing)} within {seconds:g} s; start the SuperNodes of these sites, or "
                    "take them off data.sites"
                )
            problems = self._greet_new(left)
            if problems:
                raise InputError("; ".join(problems))
            time.sleep(min(wait, max(0.0, left)))
            wait = min(LAST_LOOK, wait * 1.5)

    def look_again(self, seconds: float) -> None:
        """Greet nodes that came since, where a site is not at the node that it was at; what is wrong is said."""
        online = {node.node_id for node in self._grid.get_nodes()}
        self._nodes = {name: node for name, node in self._nodes.items() if node in online}
        if len(self._nodes) < len(self.names):
            for problem in self._greet_new(seconds):
                warn(problem)

    def ask(self, questions: Iterable[tuple[str, Bytes]], round: int, seconds: float, most: int) -> Iterator[Any]:
        """Put a question to each of some sites, and yield names with answers as these come.

        Args:
            questions: Names of sites and frames; each is made when it is sent, so that one is in memory at a time.
            round: The round, from 0.
            seconds: How long to wait for answers.
            most: The longest answer in bytes. Flower does not tell the length of an answer before it has come.

        Yields:
            The name of a site with its answer, a frame of kind ``UPDATE``; or with a ``NoAnswerError`` in its place.
        """
        pending: dict[str, str] = {}
        for name, frame in questions:
            if name in self._nodes:
                pending[self._send(frame, self._nodes[name], FIT, round, seconds)] = name
            else:
                yield name, NoAnswerError("it is not connected")
        for message_id, reply in self._answers(pending, seconds):
            yield pending.pop(message_id), self._read(reply, most)
        for name in pending.values():
            yield name, NoAnswerError(f"no answer within {seconds:g} s")

    def _read(self, reply: Any, most: int) -> Frame | NoAnswerError:
        try:
            frame = unpack(frame_of(reply), UPDATE, FAILURE, most=most)
        except WireError as error:
            return NoAnswerError(one_line(str(error), 300))
        return frame if frame.kind == UPDATE.name else NoAnswerError(one_line(str(frame.values["reason"]), 300))

    def _send(self, frame: Bytes, node: int, kind: str, round: int, seconds: float) -> str:
        (message_id,) = self._grid.push_messages([message(frame, node, kind, round, max(1.0, seconds))])
        return str(message_id)

    def _answers(self, ids: Iterable[str], seconds: float) -> Iterator[tuple[str, Any]]:
        """Messages as they come, one at a time in memory, each with the identifier of its question."""
        left, deadline, began = set(ids), time.monotonic() + seconds, time.monotonic()
        while left and time.monotonic() < deadline:
            for message_id in sorted(left):
                for reply in self._pulled(message_id):
                    left.discard(message_id)
                    yield message_id, reply
            if left:
                wait = min(max(FIRST_LOOK, (time.monotonic() - began) / 10), LAST_LOOK)
                time.sleep(min(wait, max(0.0, deadline - time.monotonic())))

    def _pulled(self, message_id: str) -> list[Any]:
        """The answer to a question, if it is there; an error in its place where Flower cannot make a message of it."""
        try:
            return [*self._grid.pull_messages([message_id])]
        except UNREADABLE as error:
            return [error]

    def _greet_new(self, seconds: float) -> list[str]:
        """Greet the nodes that are not known to take part; what is wrong with any of them, a line each."""
        nodes = {node.node_id: node for node in self._grid.get_nodes()}
        new = [number for number in nodes if not self._said.get(number)]
        asked = {self._send(self._greeting, number, GREET, 0, seconds): number for number in new}
        problems = []
        for message_id, reply in self._answers(asked, seconds):
            number = asked[message_id]
            try:
                self._said[number] = ""
                self._said[number] = self._introduced(nodes[number], reply)
            except WireError as error:
                problems.append(f"node {number}: {one_line(str(error), 300)}")
        for number, name in self._said.items():
            if name and number in nodes and self._nodes.setdefault(name, number) != number and number in new:
                problems.append(f"two sites say that they are {name}; stop one of them")
        return problems

    def _introduced(self, node: Any, reply: Any) -> str:
        """The name of a site that has introduced itself."""
        frame = unpack(frame_of(reply), INTRODUCTION, FAILURE, most=MOST_WORDS)
        if frame.kind == FAILURE.name:
            raise WireError(str(frame.values["reason"]))
        said = frame.values
        name = name_of(getattr(node, "name", ""), str(said["name"]), self._registered)
        if name not in self.names:
            raise WireError(f"it is {name}, which is not among data.sites: {', '.join(self.names)}")
        before = self.introductions.setdefault(name, said)
        if changed := [key for key, value in said.items() if before[key] != value]:
            raise WireError(f"{name} has come back with another {', '.join(changed)}, and is left out")
        return name


def name_of(registered_as: str, said: str, must_be_registered: bool) -> str:
    """The name of a site, which is never a matter of its own word alone where its key was registered by a name.

    Raises:
        WireError: When it says another, or its key has none and must.
    """
    if registered_as and said != registered_as:
        raise WireError(f"its key is registered as {registered_as} and it says that it is {said}; mend its name there")
    if not registered_as and must_be_registered:
        raise WireError(
            f"it says that it is {said}, and its key is registered by no name; register it by flwr supernode register "
            "KEY --name NAME, or set data.registered to false where all sites are trusted"
        )
    return said
