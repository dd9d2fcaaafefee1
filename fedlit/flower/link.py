"""The server's connection to the sites: introductions, questions and answers."""

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

#: Seconds between two checks for answers: at first, and at most; in between a tenth of the waiting time.
FIRST_LOOK, LAST_LOOK = 0.05, 1.0
#: The longest answer to a greeting, in bytes.
MOST_WORDS = 1 << 17


#: Exceptions that Flower may raise on a malformed message; connection errors are not among them.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, ArithmeticError, AssertionError)


class NoAnswerError(Exception):
    """The reason why there is no valid answer of a site, in one line."""


class Link:
    """The server's end of the connection, which knows the sites by name, at whatever node they are.

    A site's name is the one under which its key was registered (``flwr supernode register KEY --name NAME``); the site
    must state the same name. If registration is not required, the site's own statement counts.

    Args:
        grid: Flower's grid.
        names: The names of the sites; the position is the client's number.
        registered: Whether names must be registered.
        greeting: The frame that asks a site to introduce itself.
    """

    def __init__(self, grid: Grid, names: Sequence[str], registered: bool, greeting: bytes) -> None:
        self._grid, self.names, self._registered, self._greeting = grid, names, registered, greeting
        self._said: dict[int, str] = {}  # names of the greeted nodes; empty for a node that cannot take part
        self._nodes: dict[str, int] = {}
        #: The first introduction of each site, by name.
        self.introductions: dict[str, Mapping[str, Value]] = {}

    def meet(self, seconds: float) -> None:
        """Greet nodes until all sites are known.

        Raises:
            InputError: If two sites have the same name, a site refuses, or some are missing after ``seconds``.
        """
        deadline = time.monotonic() + seconds
        wait = FIRST_LOOK
        while missing := [name for name in self.names if name not in self._nodes]:
            left = deadline - time.monotonic()
            if left <= 0:
                raise InputError(
                    f"no answer from {', '.join(missing)} within {seconds:g} s; start the SuperNodes of these sites, "
                    "or remove them from data.sites"
                )
            problems = self._greet_new(left)
            if problems:
                raise InputError("; ".join(problems))
            time.sleep(min(wait, max(0.0, left)))
            wait = min(LAST_LOOK, wait * 1.5)

    def look_again(self, seconds: float) -> None:
        """Greet new nodes if a site is no longer at its node; problems are reported as warnings."""
        online = {node.node_id for node in self._grid.get_nodes()}
        self._nodes = {name: node for name, node in self._nodes.items() if node in online}
        if len(self._nodes) < len(self.names):
            for problem in self._greet_new(seconds):
                warn(problem)

    def ask(self, questions: Iterable[tuple[str, Bytes]], round: int, seconds: float, most: int) -> Iterator[Any]:
        """Send a question to each of some sites, and yield names with answers as they arrive.

        Args:
            questions: Names of sites and frames. Each is made when it is sent, so that only one is in memory at a time.
            round: The round, from 0.
            seconds: How long to wait for answers.
            most: The largest answer in bytes. Flower does not tell the length of an answer before it has arrived.

        Yields:
            The name of a site with its answer, a frame of kind ``UPDATE``, or with a ``NoAnswerError``.
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
        """Messages as they arrive, one at a time in memory, each with the identifier of its question."""
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
        """The answer to a question, if it has arrived; an error instead if Flower cannot read it."""
        try:
            return [*self._grid.pull_messages([message_id])]
        except UNREADABLE as error:
            return [error]

    def _greet_new(self, seconds: float) -> list[str]:
        """Greet the nodes that do not take part yet; returns a line for each problem."""
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
                problems.append(f"two sites state the name {name}; stop one of them")
        return problems

    def _introduced(self, node: Any, reply: Any) -> str:
        """The name of a site that has introduced itself."""
        frame = unpack(frame_of(reply), INTRODUCTION, FAILURE, most=MOST_WORDS)
        if frame.kind == FAILURE.name:
            raise WireError(str(frame.values["reason"]))
        said = frame.values
        name = name_of(getattr(node, "name", ""), str(said["name"]), self._registered)
        if name not in self.names:
            raise WireError(f"its name {name} is not in data.sites: {', '.join(self.names)}")
        before = self.introductions.setdefault(name, said)
        if changed := [key for key, value in said.items() if before[key] != value]:
            raise WireError(f"{name} has reconnected with another {', '.join(changed)}, and is left out")
        return name


def name_of(registered_as: str, said: str, must_be_registered: bool) -> str:
    """The name of a site. If its key was registered under a name, the site must state the same name.

    Raises:
        WireError: If the site states another name, or its key must be registered and is not.
    """
    if registered_as and said != registered_as:
        raise WireError(
            f"its key is registered as {registered_as}, but it states the name {said}; correct the name in the "
            "site's file"
        )
    if not registered_as and must_be_registered:
        raise WireError(
            f"it states the name {said}, but its key is not registered under a name; register it by flwr supernode "
            "register KEY --name NAME, or set data.registered to false if all sites are trusted"
        )
    return said
