"""Curves of a run that is resumed after the clock was set back are in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlit.cli import main
from fedlit.runs.clock import put_before

TINY = (
    "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --data.num_clients=8 --name=run "
    "--federation.clients_per_round=3 --federation.local_epochs=0.2 --federation.engine=fedlit.engines.LoopEngine"
).split()


@pytest.mark.parametrize(
    ("seconds", "now", "expected"),
    [
        ([5, 7], 9, [5, 7]),
        ([5, 9], 9, [5, 9]),
        ([9, 10], 9, [7, 8]),
        ([5, 90, 91], 9, [5, 7, 8]),
        ([8, 90, 91], 9, [6, 7, 8]),
        ([90, 91], 50, [48, 49]),
        ([], 9, []),
    ],
)
def test_files_from_the_future_are_moved_before_now_in_their_order(
    seconds: list[int], now: int, expected: list[int], tmp_path: Path
) -> None:
    for number, second in enumerate(seconds):
        (tmp_path / f"events.out.tfevents.{second:010d}.host.1.{number}").touch()
    (tmp_path / "events.of.mine").touch()
    renamed = put_before(tmp_path, now + 0.5)
    names = [f"events.out.tfevents.{second:010d}.host.1.{number}" for number, second in enumerate(expected)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.of.mine", *names]
    assert renamed == sum(a != b for a, b in zip(seconds, expected, strict=True))


def test_curves_are_in_order_after_the_clock_was_set_back(tmp_path: Path) -> None:
    words = [*TINY, f"--logs_dir={tmp_path}"]
    assert main(["fit", *words, "--trainer.max_epochs=2"]) == 0
    run = tmp_path / "run" / "version_0"
    (events,) = run.glob("events.*")
    tomorrow = int(events.name.split(".")[3]) + 86_400
    events.rename(run / events.name.replace(events.name.split(".")[3], str(tomorrow)))
    with pytest.warns(UserWarning, match="clock was set back since the earlier part of the run: 1 event file"):
        assert main(["fit", *words, "--trainer.max_epochs=4", "--ckpt_path=last"]) == 0
    read = EventAccumulator(str(run), size_guidance={"scalars": 0})
    read.Reload()
    assert [point.step for point in read.Scalars("drift/mean")] == [1, 2, 3, 4]
