"""Sites that fail, are late, send wrong answers or reconnect, and servers that stop, do not change other bits."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import Absent, net, weights
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from offices import NAMES, Node, OfficeGrid, client_of, nodes_of, simulate, sites, train, trainer_of, usual
from torch.optim import SGD

from fedlit.algorithms import Scaffold
from fedlit.core.errors import ElsewhereError, InputError
from fedlit.data import Tensors
from fedlit.federated import FederatedModule
from fedlit.flower.frame import Blob, Bytes, Frame, pack, unpack
from fedlit.flower.kinds import FAILURE, TASK, UPDATE
from fedlit.flower.site_file import SiteFile
from fedlit.flower.site_trainer import SiteTrainer
from fedlit.flower.vectors import numbers

pytestmark = [pytest.mark.flower, pytest.mark.filterwarnings("ignore:Checkpoint directory")]  # of runs that go on


def everybody() -> tuple[FederatedModule, dict[str, Any]]:
    module, arguments = usual()
    return module, {**arguments, "clients_per_round": 6}


def without(*clients: int) -> Callable[[], tuple[FederatedModule, dict[str, Any]]]:
    """The same federation in which some clients do nothing."""

    def make() -> tuple[FederatedModule, dict[str, Any]]:
        module, arguments = everybody()
        return module, {**arguments, "stragglers": Absent(*clients)}

    return make


def update_of(answer: Bytes) -> Frame:
    return unpack(answer, UPDATE)


def with_blob(frame: Frame, name: str, blob: Blob) -> bytes:
    return pack(frame._replace(blobs={**frame.blobs, name: blob}))


def with_value(frame: Frame, name: str, value: Any) -> bytes:
    return pack(frame._replace(values={**frame.values, name: value}))


def floats(frame: Frame, array: Any) -> bytes:
    return with_blob(frame, "floats", Blob("<f4", np.asarray(array, "<f4").tobytes()))


def length(frame: Frame) -> int:
    return len(frame.blobs["floats"])


#: From the honest answer to a task to what a hostile site sends, and what is said of it.
HOSTILE: dict[str, tuple[Callable[[bytes], Bytes | str | None], str]] = {
    "NaN": (lambda a: floats(update_of(a), np.full(length(update_of(a)), np.nan)), "updates .* are not finite"),
    "infinity": (lambda a: floats(update_of(a), np.full(length(update_of(a)), np.inf)), "updates .* are not finite"),
    "short": (lambda a: floats(update_of(a), np.zeros(3)), "site site2: floats has 3 numbers, not"),
    "cut off": (lambda a: a[: len(a) // 2], "site site2: .* bytes, but .* were received"),
    "a false length": (
        lambda a: a.replace(b'"floats", "<f4", ', b'"floats", "<f4", 9', 1),
        "site site2: .*(header|were received)",
    ),
    "a pickle": (lambda a: pickle.dumps({"weights": [1.0]}), "site site2: it is not a frame"),
    "another client's number": (
        lambda a: with_value(update_of(a), "client", 0),
        "site site2: its client is 0, but the task has 2",
    ),
    "an earlier round": (
        lambda a: with_value(update_of(a), "round", 7),
        "site site2: its round is 7, but the task has 0",
    ),
    "no metrics": (
        lambda a: pack(
            update_of(a)._replace(
                values={**update_of(a).values, "measured": []},
                blobs={**update_of(a).blobs, "metrics": numbers([])},
            )
        ),
        "site site2: its metrics are none",
    ),
    "odd names": (
        lambda a: with_value(update_of(a), "measured", ["__class__", "accuracy", "proximal", "samples"]),
        "site site2: its metrics are __class__",
    ),
    "huge": (lambda a: a + b"\0" * (1 << 20), "site site2: .* bytes, but at most .* are allowed"),
    "squares below zero": (
        lambda a: with_blob(update_of(a), "squares", numbers([-1.0] * len(update_of(a).blobs["squares"]))),
        "site site2: its squares are not all finite",
    ),
    "another kind of frame": (lambda a: pack(Frame("task", {}, {})), "site site2: it is a frame of kind 'task'"),
    "an error": (lambda a: "<class 'MemoryError'>:<'no memory'>", "site site2: .*MemoryError"),
    "a failure with colours": (
        lambda a: pack(Frame(FAILURE.name, {"reason": "\x1b[31mbad\nline"}, {})),
        r"site site2: \\x1b\[31mbad line",
    ),
    "nothing": (lambda a: None, r"site site2: no answer within 1 s"),
}


def hostile(folder: Path, change: Callable[[bytes], Bytes | str | None], make: Any = everybody) -> OfficeGrid:
    """Six sites, of which site2 answers tasks in another way."""
    nodes = nodes_of(make, folder)
    honest = nodes[898].answer

    def answer(frame: Bytes) -> Bytes | str | None:
        found = honest(frame)
        is_task = b'"kind": "task"' in bytes(frame[:100])
        return change(bytes(found)) if is_task else found  # type: ignore[arg-type]

    nodes[898] = Node(answer)
    return OfficeGrid(nodes)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_site_with_an_invalid_answer_is_left_out_by_name_and_the_others_are_unaffected(case: str, tmp_path: Path):
    change, said = HOSTILE[case]
    with pytest.warns(UserWarning, match=said):
        found = train(everybody, hostile(tmp_path, change), rounds=1, timeout_s=1.0)
    assert torch.equal(weights(found), weights(simulate(without(2), rounds=1)))
    assert found.round_metrics["round/rejected"] == 1


def odd_records() -> dict[str, Callable[[], Any]]:
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    array = Array(dtype="uint8", shape=(3,), stype="numpy.ndarray", data=b"\x80\x04.")
    return {
        "no records": lambda: RecordDict({}),
        "another record": lambda: RecordDict({"weights": ConfigRecord({"a": 1})}),
        "a record of another type": lambda: RecordDict({"fedlit": ConfigRecord({"frame": b"x"})}),
        "an array of another name": lambda: RecordDict({"fedlit": ArrayRecord({"x": array})}),
        "an array that NumPy would load": lambda: RecordDict({"fedlit": ArrayRecord({"frame": array})}),
        "two records": lambda: RecordDict({"fedlit": ArrayRecord({"frame": array}), "x": ConfigRecord({"a": 1})}),
    }


@pytest.mark.parametrize(
    "case",
    [
        "no records",
        "another record",
        "a record of another type",
        "an array of another name",
        "an array that NumPy would load",
        "two records",
    ],
)
def test_answers_with_foreign_records_are_left_out(case: str, tmp_path: Path):
    class Odd(OfficeGrid):
        def reply(self, found: Any, message: Any) -> Any:
            from flwr.app import Message

            if message.metadata.dst_node_id == 898 and message.metadata.message_type == "train.fit":
                return Message(odd_records()[case](), reply_to=message)
            return super().reply(found, message)

    with pytest.warns(UserWarning, match=r"site site2: its (records|array)"):
        found = train(everybody, Odd(nodes_of(everybody, tmp_path)), rounds=1)
    assert torch.equal(weights(found), weights(simulate(without(2), rounds=1)))


def test_a_message_that_flower_itself_cannot_read_is_left_out(tmp_path: Path):
    class Broken(OfficeGrid):
        def pull_messages(self, ids: Any) -> Any:
            for reply in super().pull_messages(ids):
                if reply.metadata.src_node_id == 898 and reply.metadata.message_type == "train.fit":
                    raise ValueError("no such object")
                yield reply

    with pytest.warns(UserWarning, match=r"site site2: its message cannot be read \(ValueError\)"):
        found = train(everybody, Broken(nodes_of(everybody, tmp_path)), rounds=1)
    assert torch.equal(weights(found), weights(simulate(without(2), rounds=1)))


def test_the_run_stops_where_more_sites_fail_than_max_rejected_allows(tmp_path: Path):
    nodes = nodes_of(everybody, tmp_path)
    grid = hostile(tmp_path, lambda a: "<class 'OSError'>:<'disk full'>")
    assert nodes.keys() == grid.nodes.keys()

    def strict() -> tuple[FederatedModule, dict[str, Any]]:
        module, arguments = everybody()
        return module, {**arguments, "max_rejected": 0.0}

    with pytest.raises(ElsewhereError, match=r"1 of 6 fits of round 1 failed \(client 2: site site2: .*disk full"):
        train(strict, grid, rounds=1)


def test_a_failure_in_a_sites_fit_is_reported_with_its_reason(tmp_path: Path):
    nodes = nodes_of(everybody, tmp_path)
    trainer = trainer_of(everybody, 2, tmp_path)
    calls: list[int] = []

    def answer(frame: Bytes) -> bytes:
        if b'"kind": "task"' in bytes(frame[:100]):
            calls.append(1)
            client = trainer._client
            assert client is not None
            client.training_step = lambda batch, index: 1 / 0  # type: ignore[method-assign]
        return trainer.answer(frame)

    nodes[898] = Node(answer)
    with pytest.warns(UserWarning, match="client 2: site site2: .*ZeroDivisionError"):
        train(everybody, OfficeGrid(nodes), rounds=1)


def test_a_sites_limit_of_work_is_respected(tmp_path: Path):
    nodes = nodes_of(everybody, tmp_path)
    nodes[898] = Node(trainer_of(everybody, 2, tmp_path, max_epochs=1).answer)  # the loop asks for two
    with pytest.warns(UserWarning, match=r"the server asks for 10 steps, but this site does at most 5"):
        train(everybody, OfficeGrid(nodes), rounds=1)


class Moves(Callback):
    """Changes the grid's nodes before a round, given by its number from 0."""

    def __init__(self, grid: OfficeGrid, moves: dict[int, Callable[[dict[int, Node]], None]]) -> None:
        self.grid, self.moves = grid, moves

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch in self.moves:
            self.moves[trainer.current_epoch](self.grid.nodes)


def test_a_site_that_reconnects_at_another_node_continues(tmp_path: Path):
    nodes = nodes_of(everybody, tmp_path)
    site = nodes[898]
    grid = OfficeGrid(nodes)
    moves = Moves(grid, {1: lambda n: n.__delitem__(898), 2: lambda n: n.update({55: site})})
    with pytest.warns(UserWarning, match="client 2: site site2: it is not connected"):
        found = train(everybody, grid, rounds=3, callbacks=[moves])

    class Gone(Absent):
        def work(self, clients: Any, epochs: float, seed: int, round: int) -> Any:
            return super().work(clients, epochs, seed, round) if round == 1 else np.full(len(clients), epochs)

    def make() -> tuple[FederatedModule, dict[str, Any]]:
        module, arguments = everybody()
        return module, {**arguments, "stragglers": Gone(2)}

    assert torch.equal(weights(found), weights(simulate(make, rounds=3)))


def test_a_site_that_reconnects_with_other_data_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    nodes = nodes_of(everybody, tmp_path)
    grid = OfficeGrid(nodes)
    other = trainer_of(everybody, 3, tmp_path, name="site2")

    def moved(nodes: dict[int, Node]) -> None:
        nodes[55] = Node(other.answer)
        del nodes[898]

    moves = Moves(grid, {1: moved})
    with pytest.warns(UserWarning, match="client 2: site site2: it is not connected"):
        train(everybody, grid, rounds=2, callbacks=[moves])
    assert "site2 has reconnected with another examples, data, and is left out" in capfd.readouterr().err


def test_a_site_whose_data_change_while_it_is_connected_is_left_out(tmp_path: Path):
    grid = hostile(tmp_path, lambda a: with_value(update_of(a), "data", "0" * 16))
    with pytest.warns(UserWarning, match="site site2: its data is '0000000000000000'"):
        train(everybody, grid, rounds=1)


# --- a server that stops, and goes on --------------------------------------------------------------------------------


def scaffold() -> tuple[FederatedModule, dict[str, Any]]:
    module = FederatedModule(net(), mu=0.0, client_optimizer=lambda p: SGD(p, lr=0.1))
    return module, {"clients_per_round": 4, "seed": 0, "algorithm": Scaffold(), "averaging": "uniform"}


class StopAfter(Callback):
    """Kills the run in the middle of a round, from 0."""

    def __init__(self, round: int) -> None:
        self.round = round

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == self.round:
            raise RuntimeError("killed")


def saved(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, save_last=True)


def checkpoint(folder: Path) -> Path:
    return max(folder.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)


@pytest.mark.parametrize("make", [everybody, scaffold])
def test_a_stopped_and_resumed_server_ends_with_the_same_bits(make: Any, tmp_path: Path):
    expected = simulate(make, rounds=4)
    grid = OfficeGrid(nodes_of(make, tmp_path))
    root = tmp_path / "run"
    with pytest.raises(RuntimeError, match="killed"):
        train(make, grid, rounds=4, root=root, callbacks=[StopAfter(2), saved(root)])
    again = OfficeGrid(nodes_of(make, tmp_path))  # the sites were started anew as well
    found = train(make, again, rounds=4, root=root, ckpt_path=checkpoint(root), callbacks=[saved(root)])
    assert torch.equal(weights(found), weights(expected))


def resumed(tmp_path: Path, nodes: dict[int, Node], data: Any = None) -> FederatedModule:
    """Two rounds, and then a resume with other nodes."""
    root = tmp_path / "run"
    train(scaffold, OfficeGrid(nodes_of(scaffold, tmp_path)), rounds=2, root=root, callbacks=[saved(root)])
    path = checkpoint(root)
    return train(scaffold, OfficeGrid(nodes), data, rounds=3, root=root, ckpt_path=path, callbacks=[saved(root)])


def test_a_run_does_not_resume_if_a_site_has_more_examples(tmp_path: Path):
    nodes = nodes_of(scaffold, tmp_path)
    nodes[898] = Node(trainer_of(scaffold, 0, tmp_path, name="site2").answer)
    with pytest.raises(InputError, match="number of training examples of site site2 is 17 there, but 9 here"):
        resumed(tmp_path, nodes)


def test_a_run_does_not_resume_if_two_sites_have_swapped_their_names(tmp_path: Path):
    nodes = nodes_of(scaffold, tmp_path)
    nodes[900] = Node(trainer_of(scaffold, 1, tmp_path, name="site0").answer)
    nodes[899] = Node(trainer_of(scaffold, 0, tmp_path, name="site1").answer)
    with pytest.raises(InputError, match="number of training examples of site site0 is 9 there, but 4 here"):
        resumed(tmp_path, nodes)


def test_swapped_names_of_two_sites_of_equal_size_are_noticed_by_their_data(tmp_path: Path):
    def same_size(make: Any, swap: bool) -> dict[int, Node]:
        nodes = nodes_of(make, tmp_path)
        for client, data in ((0, 1), (1, 0)) if swap else ((0, 0), (1, 1)):
            inputs, labels = np.full((6, 5), data, np.float32), [0, 1, 2] * 2
            own = Tensors(train=(inputs, labels), class_names=["a", "b", "c"])
            place = SiteFile(tmp_path / "site.yaml", NAMES[client], {}, tmp_path / f"s{client}", accelerator="cpu")
            trainer = SiteTrainer(place, lambda own=own: own, lambda terms: client_of(make, terms))
            nodes[900 - client] = Node(trainer.answer)
        return nodes

    root = tmp_path / "run"
    train(usual, OfficeGrid(same_size(usual, False)), rounds=1, root=root, callbacks=[saved(root)])
    path, grid = checkpoint(root), OfficeGrid(same_size(usual, True))
    with pytest.raises(InputError, match=r"hash of the data of site site0 is .* there, but .* here"):
        train(usual, grid, rounds=2, root=root, ckpt_path=path, callbacks=[saved(root)])


def test_a_run_does_not_resume_with_another_list_of_sites(tmp_path: Path):
    swapped = [NAMES[1], NAMES[0], *NAMES[2:]]
    with pytest.raises(InputError, match=r"list of sites is site0, site1, .* there, but site1, site0"):
        resumed(tmp_path, nodes_of(scaffold, tmp_path), sites(swapped))


def test_a_site_that_has_lost_what_it_kept_is_left_out_and_says_so(tmp_path: Path):
    import shutil

    nodes = nodes_of(scaffold, tmp_path)
    kept = nodes[898].answer

    def forgetful(frame: Bytes) -> Bytes | str | None:
        shutil.rmtree(tmp_path / "state2", ignore_errors=True)
        return kept(frame)

    nodes[898] = Node(forgetful)

    def make() -> tuple[FederatedModule, dict[str, Any]]:
        module, arguments = scaffold()
        return module, {**arguments, "clients_per_round": 6}

    nodes = {**nodes_of(make, tmp_path), 898: Node(forgetful)}
    with pytest.warns(UserWarning, match="client 2: site site2: .*what the client kept in round 1 is not in"):
        train(make, OfficeGrid(nodes), rounds=2)


def test_a_late_answer_does_not_change_what_the_client_starts_from(tmp_path: Path):
    """The site kept a version that the server did not accept; the next fit starts from the earlier one."""

    def make() -> tuple[FederatedModule, dict[str, Any]]:
        module, arguments = scaffold()
        return module, {**arguments, "clients_per_round": 6}

    nodes = nodes_of(make, tmp_path)
    honest = nodes[898].answer
    rounds: list[int] = []

    def late(frame: Bytes) -> Bytes | str | None:
        found = honest(frame)
        if b'"kind": "task"' in bytes(frame[:100]):
            rounds.append(int(unpack(frame, TASK).values["round"]))  # type: ignore[arg-type]
            return None if rounds[-1] == 1 else found
        return found

    nodes[898] = Node(late)
    with pytest.warns(UserWarning, match="no answer within 1 s"):
        found = train(make, OfficeGrid(nodes), rounds=3, timeout_s=1.0)

    class Gone(Absent):
        def work(self, clients: Any, epochs: float, seed: int, round: int) -> Any:
            return super().work(clients, epochs, seed, round) if round == 1 else np.full(len(clients), epochs)

    def expected() -> tuple[FederatedModule, dict[str, Any]]:
        module, arguments = make()
        return module, {**arguments, "stragglers": Gone(2)}

    assert rounds == [0, 1, 2]
    assert torch.equal(weights(found), weights(simulate(expected, rounds=3)))
