"""What clients keep on disk: versions by round, and what pruning and going back leave of them."""

import re
import tracemalloc
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlit.clients.store import ClientStore
from fedlit.core.errors import InputError


def vector(client: int, round: int) -> torch.Tensor:
    """What a client keeps after a round: nobody else keeps the same."""
    return torch.tensor([client, round, 0.1], dtype=torch.float32)


def filled(folder: Path, rounds: dict[int, list[int]]) -> ClientStore:
    """A store after each client took part in its rounds."""
    store = ClientStore(folder)
    for client, took_part in rounds.items():
        for round in took_part:
            store.write(client, round, vector(client, round))
    return store


def kept_before(took_part: list[int], round: int, client: int = 0) -> list[float] | None:
    """What `ClientStore.read` has to give, said without a store: the vector of the last round before this one."""
    before = [r for r in took_part if r < round]
    return vector(client, max(before)).tolist() if before else None


def read(store: ClientStore, client: int, round: int) -> list[float] | None:
    kept = store.read(client, round)
    return None if kept is None else kept.tolist()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.npy"))


def test_a_client_begins_a_round_with_what_its_last_one_before_left(tmp_path: Path):
    store = filled(tmp_path, {0: [1, 4]})
    given = [read(store, 0, round) for round in range(7)]
    first, second = vector(0, 1).tolist(), vector(0, 4).tolist()
    assert given == [None, None, first, first, first, second, second]


def test_a_client_that_never_took_part_has_nothing_and_reading_makes_no_folder(tmp_path: Path):
    assert ClientStore(tmp_path / "clients").read(3, 9) is None
    assert list(tmp_path.iterdir()) == []


def test_clients_do_not_share_and_a_second_store_reads_what_the_first_wrote(tmp_path: Path):
    filled(tmp_path, {1: [0], 11: [0], 111: [2]})
    store = ClientStore(tmp_path)
    assert [read(store, client, 3) for client in (1, 11, 111)] == [
        vector(1, 0).tolist(),
        vector(11, 0).tolist(),
        vector(111, 2).tolist(),
    ]


@pytest.mark.parametrize("values", [[1 / 3, -0.0, 1e-42, float("inf"), float("nan")], []])
def test_a_vector_comes_back_to_the_bit(tmp_path: Path, values: list[float]):
    store = ClientStore(tmp_path)
    kept = torch.tensor(values, dtype=torch.float32)
    store.write(0, 0, kept)
    back = store.read(0, 1)
    assert back.dtype == torch.float32
    assert torch.equal(back.view(torch.int32), kept.view(torch.int32))  # nan and -0 by their bits


def test_a_vector_that_requires_grad_is_kept_as_its_values(tmp_path: Path):
    store = ClientStore(tmp_path)
    store.write(0, 0, torch.ones(2, requires_grad=True) * 2)
    assert read(store, 0, 1) == [2, 2]


def test_what_is_read_is_a_copy(tmp_path: Path):
    store = filled(tmp_path, {0: [0]})
    store.read(0, 1).zero_()
    assert read(store, 0, 1) == vector(0, 0).tolist()


def test_a_round_made_again_replaces_what_the_first_try_left(tmp_path: Path):
    store = filled(tmp_path, {0: [2, 5]})
    store.write(0, 5, torch.tensor([7.0]))
    store.write(0, 2, torch.tensor([8.0]))
    assert read(store, 0, 6) == [7]
    assert read(store, 0, 5) == [8]
    assert len(files(tmp_path)) == 2


def test_rounds_are_compared_as_numbers_beyond_the_width_of_a_name(tmp_path: Path):
    store = filled(tmp_path, {0: [999_999, 1_000_000, 10_000_000]})
    assert read(store, 0, 1_000_000) == vector(0, 999_999).tolist()
    assert read(store, 0, 1_000_001) == vector(0, 1_000_000).tolist()
    assert read(store, 0, 10_000_001) == vector(0, 10_000_000).tolist()


def test_a_file_that_was_cut_off_is_no_version(tmp_path: Path):
    store = filled(tmp_path, {0: [0]})
    (part,) = [path.with_suffix(".part") for path in (tmp_path / "0").iterdir()]
    part.write_bytes(b"half a fi")
    (tmp_path / "0" / "000003.part").write_bytes(b"")
    assert read(store, 0, 9) == vector(0, 0).tolist()
    store.prune([0], [9])
    store.rewind(9)
    store.write(0, 3, vector(0, 3))  # the name of the broken one
    assert read(store, 0, 9) == vector(0, 3).tolist()


def test_a_write_that_fails_leaves_the_version_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = filled(tmp_path, {0: [0]})

    def full(file, *_: object, **__: object) -> None:
        file.write(b"\x93NUMPY half")
        raise OSError("No space left on device")

    monkeypatch.setattr("numpy.save", full)
    for round in (0, 1):
        with pytest.raises(OSError, match="No space left"):
            store.write(0, round, torch.zeros(3))
    assert read(store, 0, 9) == vector(0, 0).tolist()


took_part = st.lists(st.integers(0, 12), unique=True, max_size=8).map(sorted)
checkpoints = st.lists(st.integers(0, 14), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(took_part, took_part, checkpoints)
def test_pruning_keeps_exactly_what_the_checkpoints_need(mine: list[int], other: list[int], finished: list[int]):
    with TemporaryDirectory() as folder:
        store = filled(Path(folder), {0: mine, 1: other})
        store.prune([0], finished)
        for checkpoint in finished:
            assert read(store, 0, checkpoint) == kept_before(mine, checkpoint)
        # Of the rounds before the newest checkpoint each needs one; rounds after it may be under way.
        needed = {max((r for r in mine if r < checkpoint), default=None) for checkpoint in finished} - {None}
        expected = needed | {r for r in mine if r >= max(finished)}
        assert sorted(int(name[:6]) for name in files(Path(folder) / "0")) == sorted(expected)
        for round in range(15):  # who is not named is left alone
            assert read(store, 1, round) == kept_before(other, round, client=1)


@settings(deadline=None, max_examples=60)
@given(took_part, checkpoints, st.data())
def test_after_pruning_a_run_goes_on_from_each_kept_checkpoint(
    took: list[int], finished: list[int], data: st.DataObject
):
    back_to = data.draw(st.sampled_from(finished))
    with TemporaryDirectory() as folder:
        store = filled(Path(folder), {0: took, 1: [0]})  # client 1 is why the folder is never empty
        store.prune([0], finished)
        store.rewind(back_to)
        for round in range(back_to, 15):
            assert read(store, 0, round) == kept_before(took, back_to)


def test_pruning_every_round_with_the_last_and_the_best_keeps_two_versions_at_most(tmp_path: Path):
    store = ClientStore(tmp_path)
    for round in range(20):
        store.write(0, round, vector(0, round))
        finished = round + 1
        store.prune([0], [finished, min(finished, 7)])  # the best was after 7 rounds
        assert len(files(tmp_path)) <= 2
    assert read(store, 0, 7) == vector(0, 6).tolist()
    assert read(store, 0, 20) == vector(0, 19).tolist()


def test_going_back_drops_what_later_rounds_left(tmp_path: Path):
    store = filled(tmp_path, {0: [0, 2, 5], 1: [4], 2: [1]})
    store.rewind(3)
    assert [read(store, client, 99) for client in range(3)] == [kept_before([0, 2], 99), None, kept_before([1], 99, 2)]
    assert len(files(tmp_path)) == 3


def test_going_back_to_the_start_forgets_everything(tmp_path: Path):
    store = filled(tmp_path, {0: [0, 2], 5: [1]})
    store.rewind(0)
    assert files(tmp_path) == []


def test_going_back_to_the_start_of_nothing_is_no_error(tmp_path: Path):
    ClientStore(tmp_path / "missing").rewind(0)
    ClientStore(tmp_path).rewind(0)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_resumed_without_its_clients_folder(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "missing"):
        says = f"is not in {re.escape(str(folder))}; resume in the run's own folder, or start anew without --ckpt_path"
        with pytest.raises(InputError, match=says):
            ClientStore(folder).rewind(3)


def test_a_run_is_not_resumed_where_a_version_was_pruned_and_nothing_is_dropped(tmp_path: Path):
    store = filled(tmp_path, {4: [0, 2, 5], 5: [0, 6]})
    store.prune([4], [6])  # leaves 5, which replaced 2
    left = files(tmp_path)
    with pytest.raises(InputError, match=r"what the clients kept after round 3 is gone from .*; use --ckpt_path last"):
        store.rewind(3)
    assert files(tmp_path) == left


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
    store.prune([0], checkpoints)
    with pytest.raises(InputError, match="is gone"):
        store.rewind(back_to)


def test_thousands_of_clients_hold_no_memory(tmp_path: Path):
    store = ClientStore(tmp_path)
    store.write(0, 0, torch.zeros(2500))  # what is imported on the first use is not the clients'
    assert store.read(0, 1) is not None
    written: list[weakref.ref[torch.Tensor]] = []
    tracemalloc.start()
    try:
        for client in range(2000):
            kept = torch.full((2500,), float(client))  # 10 kB, 20 MB in all
            written.append(weakref.ref(kept))
            store.write(client, 0, kept)
            assert store.read(client, 1)[-1] == client
        del kept
        held, peak = tracemalloc.get_traced_memory()  # NumPy tells it of its arrays
    finally:
        tracemalloc.stop()
    assert all(reference() is None for reference in written)
    assert held < 1e6  # of which 2,000 weak references take some 0.2 MB
    assert peak < 1.5e6
    assert len(files(tmp_path)) == 2000
