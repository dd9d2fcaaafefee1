"""The clients' vectors on disk: versions by round, pruning and rewinding."""

import json
import re
import shutil
import tracemalloc
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlit.clients.store import ClientStore
from fedlit.core.errors import InputError
from fedlit.core.packs import BrokenPackError, read_pack


def vector(client: int, round: int) -> torch.Tensor:
    """The vector that a client keeps after a round; all vectors differ."""
    return torch.tensor([client, round, 0.1], dtype=torch.float32)


def filled(folder: Path, rounds: dict[int, list[int]]) -> ClientStore:
    """A store after each client took part in its rounds."""
    store = ClientStore(folder)
    for round in sorted({round for took_part in rounds.values() for round in took_part}):
        write(store, round, {k: vector(k, round) for k, took_part in rounds.items() if round in took_part})
    return store


def write(store: ClientStore, round: int, vectors: dict[int, torch.Tensor]) -> None:
    """Store the vectors of a round's fits, and index them."""
    with store.keeping(round) as keep:
        for client, kept in vectors.items():
            keep(client, kept)
    store.begin()


def kept_before(took_part: list[int], round: int, client: int = 0) -> list[float] | None:
    """The expected result of `ClientStore.find`: the vector of the last round before this one."""
    before = [r for r in took_part if r < round]
    return vector(client, max(before)).tolist() if before else None


def read(store: ClientStore, client: int, round: int) -> list[float] | None:
    (row,) = store.find([client], round)
    return None if row is None else row.read().tolist()


def on_disk(folder: Path) -> list[tuple[int, int]]:
    """Client and round of each vector that there is."""
    entries = [entry for path in folder.glob("*.pack") for entry in read_pack(path).entries.tolist()]
    return sorted((client, round) for client, round, _ in entries)


def test_a_client_begins_a_round_with_what_its_last_one_before_left(tmp_path: Path):
    store = filled(tmp_path, {0: [1, 4]})
    given = [read(store, 0, round) for round in range(7)]
    first, second = vector(0, 1).tolist(), vector(0, 4).tolist()
    assert given == [None, None, first, first, first, second, second]


def test_a_client_that_never_took_part_has_nothing_and_reading_makes_no_folder(tmp_path: Path):
    store = ClientStore(tmp_path / "clients")
    store.begin()
    assert read(store, 3, 9) is None
    assert list(tmp_path.iterdir()) == []


def test_clients_do_not_share_and_a_second_store_reads_what_the_first_wrote(tmp_path: Path):
    filled(tmp_path, {1: [0], 11: [0], 111: [2]})
    store = ClientStore(tmp_path)
    store.begin()
    assert [read(store, client, 3) for client in (1, 11, 111)] == [
        vector(1, 0).tolist(),
        vector(11, 0).tolist(),
        vector(111, 2).tolist(),
    ]


@pytest.mark.parametrize("values", [[1 / 3, -0.0, 1e-42, float("inf"), float("nan")], []])
def test_a_vector_comes_back_to_the_bit(tmp_path: Path, values: list[float]):
    store = ClientStore(tmp_path)
    kept = torch.tensor(values, dtype=torch.float32)
    write(store, 0, {0: kept})
    (row,) = store.find([0], 1)
    back = row.read()
    assert back.dtype == torch.float32
    assert torch.equal(back.view(torch.int32), kept.view(torch.int32))  # nan and -0 by their bits


def test_a_vector_that_requires_grad_is_kept_as_its_values(tmp_path: Path):
    store = ClientStore(tmp_path)
    write(store, 0, {0: torch.ones(2, requires_grad=True) * 2})
    assert read(store, 0, 1) == [2, 2]


def test_what_is_read_is_a_copy(tmp_path: Path):
    store = filled(tmp_path, {0: [0]})
    store.find([0], 1)[0].read().zero_()
    assert read(store, 0, 1) == vector(0, 0).tolist()


def test_a_repeated_round_replaces_the_vectors_of_the_first_attempt(tmp_path: Path):
    store = filled(tmp_path, {0: [2, 5]})
    write(store, 5, {0: torch.tensor([7.0])})
    write(store, 2, {0: torch.tensor([8.0])})
    assert read(store, 0, 6) == [7]
    assert read(store, 0, 5) == [8]
    assert on_disk(tmp_path) == [(0, 2), (0, 5)]


def test_rounds_are_compared_as_numbers_beyond_the_width_of_a_name(tmp_path: Path):
    store = filled(tmp_path, {0: [999_999, 1_000_000, 10_000_000]})
    assert read(store, 0, 1_000_000) == vector(0, 999_999).tolist()
    assert read(store, 0, 1_000_001) == vector(0, 1_000_000).tolist()
    assert read(store, 0, 10_000_001) == vector(0, 10_000_000).tolist()


def test_a_round_that_was_cut_off_left_nothing(tmp_path: Path):
    store = filled(tmp_path, {0: [0]})
    with suppress(KeyboardInterrupt), store.keeping(3) as keep:
        keep(0, vector(0, 3))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["000000-0.pack"]
    (tmp_path / "000004-0.pack.part").write_bytes(b"what a kill leaves")
    store.begin([9])
    assert read(store, 0, 9) == vector(0, 0).tolist()
    store.rewind(9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000-0.pack", "checkpoints.json"]
    write(store, 3, {0: vector(0, 3)})
    assert read(store, 0, 9) == vector(0, 3).tolist()


def test_a_write_that_fails_leaves_the_version_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = filled(tmp_path, {0: [0]})

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for round in (0, 1):
        with pytest.raises(OSError, match="No space left"):
            write(store, round, {0: torch.zeros(3)})
    store.begin()
    assert read(store, 0, 9) == vector(0, 0).tolist()
    assert on_disk(tmp_path) == [(0, 0)]


took_part = st.lists(st.integers(0, 12), unique=True, max_size=8).map(sorted)
checkpoints = st.lists(st.integers(0, 14), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(took_part, took_part, checkpoints)
def test_pruning_keeps_what_the_checkpoints_need_and_no_file_that_they_do_not(
    mine: list[int], other: list[int], finished: list[int]
):
    with TemporaryDirectory() as folder:
        store = filled(Path(folder), {0: mine, 1: other})
        store.begin(finished)
        for client, rounds in enumerate((mine, other)):
            for checkpoint in finished:
                assert read(store, client, checkpoint) == kept_before(rounds, checkpoint, client)
            for round in range(max(finished), 15):  # of rounds after the newest checkpoint, which may be under way
                assert read(store, client, round) == kept_before(rounds, round, client)
        # Each checkpoint needs one vector of a client before it; later ones stay.
        needed = {
            (client, round)
            for client, rounds in enumerate((mine, other))
            for round in {max((r for r in rounds if r < checkpoint), default=-1) for checkpoint in finished}
            | {r for r in rounds if r >= max(finished)}
        }
        for path in Path(folder).glob("*.pack"):
            assert needed & {(client, round) for client, round, _ in read_pack(path).entries.tolist()}


@settings(deadline=None, max_examples=60)
@given(took_part, checkpoints, st.data())
def test_after_pruning_a_run_goes_on_from_each_kept_checkpoint(
    took: list[int], finished: list[int], data: st.DataObject
):
    back_to = data.draw(st.sampled_from(finished))
    with TemporaryDirectory() as folder:
        filled(Path(folder), {0: took, 1: [0]}).begin(finished)  # client 1 is why the folder is never empty
        store = ClientStore(Path(folder))
        store.rewind(back_to)
        for round in range(back_to, 15):
            assert read(store, 0, round) == kept_before(took, back_to)
        assert all(round < back_to for _, round in on_disk(Path(folder)))


def test_pruning_every_round_with_the_last_and_the_best_keeps_two_versions_at_most(tmp_path: Path):
    store = ClientStore(tmp_path)
    for round in range(20):
        write(store, round, {0: vector(0, round)})
        finished = round + 1
        store.begin([finished, min(finished, 7)])  # the best was after 7 rounds
        assert len(on_disk(tmp_path)) <= 2
    assert read(store, 0, 7) == vector(0, 6).tolist()
    assert read(store, 0, 20) == vector(0, 19).tolist()


def test_disk_and_writes_are_bounded_over_many_rounds_of_drawn_cohorts(tmp_path: Path):
    """40 of 400 clients a round: a vector is written twice in the mean, and there are two for each that is needed."""
    clients, cohort, rounds = 400, 40, 150
    draws = np.random.default_rng(0)
    store, last, best, rewritten = ClientStore(tmp_path), {}, {}, 0
    for round in range(rounds):
        drawn = draws.choice(clients, cohort, replace=False).tolist()
        write(store, round, {client: vector(client, round) for client in drawn})
        before = {path.name for path in tmp_path.glob("*.pack")}
        last |= dict.fromkeys(drawn, round)
        if round == 9:
            best = dict(last)
        store.begin([round + 1, min(round + 1, 10)])
        new = {path.name for path in tmp_path.glob("*.pack")} - before
        rewritten += sum(len(read_pack(tmp_path / name).entries) for name in new)
        needed = {*last.items(), *best.items()}
        assert needed <= {*on_disk(tmp_path)}
        assert len(on_disk(tmp_path)) <= 2 * len(needed) + 2 * cohort
        assert len([*tmp_path.iterdir()]) <= 1 + 2 * len(needed) / cohort + 2  # no more than the rows fill, by halves
    assert 0 < rewritten <= rounds * cohort
    for client, round in last.items():
        assert read(store, client, rounds) == vector(client, round).tolist()
    store.rewind(10)
    assert {client: read(store, client, 10) for client in last} == {
        client: vector(client, best[client]).tolist() if client in best else None for client in last
    }


def test_a_kill_between_the_new_file_and_the_removal_of_the_old_ones_costs_nothing(tmp_path: Path):
    """Whatever part of the old files was removed, before the next round and after a rewind."""
    store = filled(tmp_path, {k: [k // 4, *([9] if k % 4 < 3 else [])] for k in range(16)})
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.pack")}
    assert len(before) == 5
    store.begin([10])
    after = {path.name: path.read_bytes() for path in tmp_path.glob("*.pack")}
    (new,) = set(after) - set(before)
    old = sorted(set(before) - set(after))
    assert len(old) == 4  # of each one vector of four was needed
    for left in range(len(old) + 1):
        for name in old[:left]:
            (tmp_path / name).write_bytes(before[name])
        again = ClientStore(tmp_path)
        if left % 2:
            again.rewind(10)
        for _ in range(2):
            again.begin([10])
            for client in range(16):
                assert read(again, client, 10) == kept_before(
                    [client // 4, *([9] if client % 4 < 3 else [])], 10, client
                )
        assert len(on_disk(tmp_path)) == 16
        assert (tmp_path / new).read_bytes() == after[new]


def test_ranks_write_different_files_and_each_reads_all(tmp_path: Path):
    first, second = ClientStore(tmp_path), ClientStore(tmp_path, rank=1)
    for store, client in ((first, 0), (second, 1)):
        with store.keeping(4) as keep:
            keep(client, vector(client, 4))
    assert len(list(tmp_path.iterdir())) == 2
    first.begin()
    assert [read(first, client, 5) for client in (0, 1)] == [vector(0, 4).tolist(), vector(1, 4).tolist()]


def test_rewinding_removes_the_vectors_of_later_rounds(tmp_path: Path):
    store = filled(tmp_path, {0: [0, 2, 5], 1: [4], 2: [1]})
    store.rewind(3)
    assert [read(store, client, 99) for client in range(3)] == [kept_before([0, 2], 99), None, kept_before([1], 99, 2)]
    assert on_disk(tmp_path) == [(0, 0), (0, 2), (2, 1)]


def test_rewinding_to_the_start_removes_everything_even_damaged_files(tmp_path: Path):
    store = filled(tmp_path, {0: [0, 2], 5: [1]})
    (tmp_path / "000002-0.pack").write_bytes(b"noise")
    write_old(tmp_path, {7: [3]})
    store.rewind(0)
    assert list(tmp_path.iterdir()) == []
    store.begin()
    assert read(store, 0, 9) is None


def test_rewinding_an_empty_store_to_the_start_is_no_error(tmp_path: Path):
    ClientStore(tmp_path / "missing").rewind(0)
    ClientStore(tmp_path).rewind(0)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_resumed_without_its_clients_folder(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "missing"):
        says = f"{re.escape(str(folder))} has no vectors of the clients; resume in the run's own folder, or start anew"
        with pytest.raises(InputError, match=says):
            ClientStore(folder).rewind(3)


def test_a_run_is_not_resumed_where_a_version_was_pruned_and_nothing_is_dropped(tmp_path: Path):
    store = filled(tmp_path, {4: [0, 2, 5], 5: [0, 6]})
    store.begin([6])  # leaves 5, which replaced 2
    left = on_disk(tmp_path)
    with pytest.raises(
        InputError, match=r"the clients' vectors after round 3 were removed from .*; use --ckpt_path last"
    ):
        store.rewind(3)
    assert on_disk(tmp_path) == left


@pytest.mark.parametrize(
    ("took_part", "checkpoints", "back_to"),
    [
        ([0, 2, 4, 6], [7], 3),  # of a client pruned more than once since only 6, which replaced 4, is left
        ([0, 2, 4], [1, 5], 3),  # 0 is kept for the checkpoint of round 1, but it was 2 that counted
    ],
)
def test_a_run_is_never_resumed_from_other_vectors_than_it_had(
    tmp_path: Path, took_part: list[int], checkpoints: list[int], back_to: int
):
    store = filled(tmp_path, {0: took_part})
    store.begin(checkpoints)
    with pytest.raises(InputError, match="were removed"):
        store.rewind(back_to)


def test_thousands_of_clients_need_no_memory(tmp_path: Path):
    store = ClientStore(tmp_path)
    write(store, 0, {0: torch.zeros(2500)})  # so that imports on first use are not counted
    assert read(store, 0, 1) is not None
    written: list[weakref.ref[torch.Tensor]] = []
    tracemalloc.start()
    try:
        with store.keeping(0) as keep:
            for client in range(2000):
                kept = torch.full((2500,), float(client))  # 10 kB, 20 MB in all
                written.append(weakref.ref(kept))
                keep(client, kept)
        del kept
        held, peak = tracemalloc.get_traced_memory()  # NumPy tells it of its arrays
        again = ClientStore(tmp_path)
        again.begin()
        for client, row in enumerate(again.find(range(2000), 1)):
            assert row.read()[-1] == client
    finally:
        tracemalloc.stop()
    assert all(reference() is None for reference in written)
    assert held < 1e6  # of which 2,000 weak references take some 0.2 MB
    assert peak < 2.5e6  # 1 MB is the buffer of the file
    assert [path.name for path in tmp_path.iterdir()] == ["000000-0.pack"]


def test_a_million_clients_are_found_in_little_memory(tmp_path: Path):
    """Of a thousand rounds of a thousand clients each."""
    store = ClientStore(tmp_path)
    kept = torch.zeros(1)
    for round in range(0, 1000, 100):  # a hundred rounds' clients at a time to limit the number of files
        with store.keeping(round) as keep:
            for client in range(round * 1000, (round + 100) * 1000):
                keep(client, kept)
    tracemalloc.start()
    try:
        store.begin()
        assert all(row is not None for row in store.find(range(0, 1_000_000, 997), 1000))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= 40e6  # 20 bytes an entry, and 16 a version
    assert peak <= 100e6


# --- damage ----------------------------------------------------------------------------------------------------------


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(from_end: int) -> Callable[[bytes], bytes]:
    """With one bit changed, so many bytes from the end."""
    return lambda content: (
        content[:-from_end] + bytes([content[-from_end] ^ 1]) + content[len(content) - from_end + 1 :]
    )


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: b"", "it is truncated or not a pack"),
        (lambda content: content[:-1], "it is truncated or not a pack"),
        (cut_short, "it is truncated or not a pack"),
        (lambda content: b"x" * len(content), "it is truncated or not a pack"),
        (lambda content: content[12:], "2 vectors of 3 scalars are not 84 bytes"),  # 2 (12 + 20) + 32 - 12
        (flipped(33), "the checksum of its entries differs"),  # in the last entry, before the tail
        (flipped(15), "the checksum of its entries differs"),  # the checksum itself
        (flipped(32), "2 vectors of 2 scalars are not 96 bytes"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: Callable[[bytes], bytes], says: str):
    filled(tmp_path, {0: [0], 1: [0]})
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    whole = f"{path} is not a complete file of client states: {says}; restore it from a copy, or remove it"
    for look in (lambda: ClientStore(tmp_path).begin(), lambda: ClientStore(tmp_path).rewind(1)):
        with pytest.raises(BrokenPackError, match=re.escape(whole)):
            look()


def test_a_damaged_vector_is_refused_by_name_and_costs_no_other_client(tmp_path: Path):
    filled(tmp_path, {0: [0, 1], 1: [0], 2: [0, 1], 3: [0, 1]})
    path = tmp_path / "000000-0.pack"
    content = bytearray(path.read_bytes())
    content[12] ^= 1  # the first bit of the second vector, of three float32 each
    path.write_bytes(content)
    store = ClientStore(tmp_path)
    for again in range(2):
        store.begin()
        with pytest.raises(ValueError, match=r"\.pack is damaged: the checksum of the vector at byte (12|0) differs"):
            read(store, 1, 2)
        assert [read(store, k, 2) for k in (0, 2, 3)] == [vector(k, 1).tolist() for k in (0, 2, 3)]
        if not again:
            store.begin([2])  # which rewrites the file, of which one in four is needed
            assert not path.exists()


def test_a_file_that_is_cut_while_a_run_goes_on_is_named(tmp_path: Path):
    store = filled(tmp_path, {0: [0]})
    (tmp_path / "000000-0.pack").write_bytes(b"x")
    with pytest.raises(BrokenPackError, match="it was truncated after it was first read"):
        read(store, 0, 1)


def test_vectors_of_different_lengths_stay_apart(tmp_path: Path):
    store = ClientStore(tmp_path)
    with pytest.raises(ValueError, match="client 1 keeps 2 scalars in round 0, but other clients 3"):
        write(store, 0, {0: torch.zeros(3), 1: torch.zeros(2)})
    for round, size in enumerate((3, 2)):
        write(store, round, {4 * round + k: torch.full((size,), float(k)) for k in range(4)})
    write(store, 2, {k: torch.zeros(3) for k in range(8) if k % 4})
    store.begin([3])
    store.begin([3])
    assert [read(store, client, 3) for client in (0, 4)] == [[0, 0, 0], [0, 0]]


# --- files of earlier versions ---------------------------------------------------------------------------------------


def write_old(folder: Path, rounds: dict[int, list[int]]) -> None:
    """The files of an earlier version: one for each client and round."""
    for client, took_part in rounds.items():
        (folder / str(client)).mkdir(parents=True)
        for round in took_part:
            np.save(folder / str(client) / f"{round:06}.npy", vector(client, round).numpy())


def test_a_run_of_an_earlier_version_is_resumed(tmp_path: Path):
    rounds = {0: [0, 2, 5], 11: [0], 4: [2, 1_000_000]}
    write_old(tmp_path, rounds)
    (tmp_path / "4" / "000007.npy.part").write_bytes(b"half a fi")
    (tmp_path / "checkpoints.json").write_text(json.dumps([3, 6]))
    store = ClientStore(tmp_path)
    store.rewind(3, trained={0: 2, 11: 0, 4: 2})
    for client, took_part in rounds.items():
        assert read(store, client, 99) == kept_before([r for r in took_part if r < 3], 99, client)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    with pytest.raises(InputError, match="were removed"):
        store.rewind(2)


def test_interrupted_packing_is_repeated(tmp_path: Path):
    rounds = {0: [0, 2], 1: [0, 2], 2: [2]}
    write_old(tmp_path / "whole", rounds)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    ClientStore(tmp_path / "run").rewind(3)
    shutil.copytree(tmp_path / "whole" / "1", tmp_path / "run" / "1")  # killed before all of the old was removed
    store = ClientStore(tmp_path / "run")
    store.rewind(3)
    store.begin([3])
    assert [read(store, client, 3) for client in rounds] == [vector(client, 2).tolist() for client in rounds]


@pytest.mark.parametrize("finished", [0, 1])
def test_a_file_that_is_not_of_fedlit_stays(tmp_path: Path, finished: int):
    write_old(tmp_path, {0: [0], 1: [0]})
    mine = [tmp_path / "2024 notes" / "a.txt", tmp_path / "0" / "mine.txt", tmp_path / "1" / "copy.npy"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    ClientStore(tmp_path).rewind(finished)
    assert [path.read_text() for path in mine] == ["mine"] * 3
    assert not [*tmp_path.glob("*/000000.npy")]


def test_a_damaged_file_of_an_earlier_version_is_refused_by_name_and_nothing_is_lost(tmp_path: Path):
    write_old(tmp_path, {0: [0], 1: [0]})
    path = tmp_path / "1" / "000000.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=re.escape(f"{path}, the vector of a client, cannot be read")):
        ClientStore(tmp_path).rewind(1)
    path.write_bytes(content)
    store = ClientStore(tmp_path)
    store.rewind(1)
    assert [read(store, client, 1) for client in (0, 1)] == [vector(0, 0).tolist(), vector(1, 0).tolist()]
