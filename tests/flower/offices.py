"""A federation of sites in one process, with Flower's messages in a list instead of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from federations import SIZES, data, fit, net
from torch.optim import SGD

from fedlit.clients.client import ClientModule
from fedlit.data import Tensors
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.flower import FlowerEngine, Sites
from fedlit.flower.frame import Bytes
from fedlit.flower.grid import connected, content, frame_of
from fedlit.flower.site_data import Described
from fedlit.flower.site_file import SiteFile
from fedlit.flower.site_trainer import SiteTrainer
from fedlit.flower.wire import Terms

NAMES = [f"site{k}" for k in range(len(SIZES))]
Make = Callable[[], tuple[FederatedModule, dict[str, Any]]]


@dataclass
class Node:
    """A site of the test grid.

    Attributes:
        answer: From a question's frame to its answer's, to an error's text, or to None for no answer.
        name: That its key is registered by.
    """

    answer: Callable[[Bytes], Bytes | str | None]
    name: str = ""


class OfficeGrid:
    """The part of Flower's ``Grid`` that fedlit uses."""

    def __init__(self, nodes: dict[int, Node]) -> None:
        self.nodes = nodes
        self.asked: list[tuple[int, str]] = []
        self._replies: dict[str, Any] = {}

    def get_nodes(self) -> list[Any]:
        return [SimpleNamespace(node_id=number, name=node.name) for number, node in self.nodes.items()]

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        from flwr.app import Error, Message

        ids = []
        for message in messages:
            number = message.metadata.dst_node_id
            self.asked.append((number, message.metadata.message_type))
            ids.append(f"m{len(self.asked)}")
            found = self.nodes[number].answer(frame_of(message)) if number in self.nodes else "the node is unavailable"
            if isinstance(found, str):
                self._replies[ids[-1]] = Message(Error(3, found), reply_to=message)
            elif found is not None:
                self._replies[ids[-1]] = self.reply(found, message)
        return ids

    def reply(self, found: Any, message: Any) -> Any:
        from flwr.app import Message

        return Message(content(found), reply_to=message)

    def pull_messages(self, ids: Iterable[str]) -> Iterator[Any]:
        yield from (self._replies.pop(each) for each in ids if each in self._replies)


def usual() -> tuple[FederatedModule, dict[str, Any]]:
    """A server and the arguments of its loop."""
    return FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1)), {"clients_per_round": 4, "seed": 0}


def own(client: int, **options: Any) -> Tensors:
    """The data of one site: what client ``client`` has in ``federations.data``."""
    whole = data(**options)
    whole.setup()
    rows = whole.train.groups == client
    inputs, labels = whole.train.inputs.numpy()[rows], whole.train.targets.numpy()[rows]
    return Tensors(train=(inputs, labels), class_names=["a", "b", "c"])


def client_of(make: Make, terms: Terms) -> ClientModule:
    module, arguments = make()
    loop = FederatedLoop(**arguments)
    loop.algorithm.prepare(loop.facts(module, Described(len(terms.classes), terms.channels, terms.clients)))
    return module.client_with(loop.algorithm)


def trainer_of(make: Make, client: int, folder: Path, name: str = "", **place: Any) -> SiteTrainer:
    """The trainer of a site."""
    at = SiteFile(
        folder / "site.yaml", name or NAMES[client], {}, folder / f"state{client}", accelerator="cpu", **place
    )
    return SiteTrainer(at, lambda: own(client), lambda terms: client_of(make, terms))


def nodes_of(make: Make, folder: Path, clients: Sequence[int] = range(len(NAMES))) -> dict[int, Node]:
    """Nodes in another order than the clients, so that nothing depends on the order."""
    return {900 - client: Node(trainer_of(make, client, folder).answer) for client in clients}


def sites(names: Sequence[str] = NAMES, **options: Any) -> Sites:
    """The server's data."""
    held_out = data()
    held_out.setup()
    inputs, labels = held_out.test.inputs.numpy(), held_out.test.targets.numpy()
    held = Tensors(train=(inputs, labels), class_names=["a", "b", "c"])
    arguments = {"registered": False, "batch_size": 4, "seed": 0, "wait_s": 5.0, **options}
    return Sites([*names], held, **arguments)


@contextmanager
def flower(grid: Any) -> Iterator[None]:
    """Within this context, the process is a ServerApp with the grid."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    with connected(grid):
        yield


def train(
    make: Make, grid: Any, datamodule: Sites | None = None, timeout_s: float = 5.0, **arguments: Any
) -> FederatedModule:
    """Train at the sites."""
    module, of_loop = make()
    with flower(grid):
        return fit(module, FederatedLoop(**of_loop, engine=FlowerEngine(timeout_s)), datamodule or sites(), **arguments)


def simulate(make: Make, **arguments: Any) -> FederatedModule:
    """Train the same federation in one process."""
    from fedlit.engines import LoopEngine

    module, of_loop = make()
    return fit(module, FederatedLoop(**of_loop, engine=LoopEngine()), data(), **arguments)


def measured(module: FederatedModule) -> dict[str, float]:
    """The last round's metrics, without times."""
    return {k: v for k, v in module.round_metrics.items() if not k.endswith(("seconds", "per_second"))}
