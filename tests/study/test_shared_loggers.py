"""A logger of a study that has the place of a single run."""

from __future__ import annotations

from typing import Any

import pytest

from fedlit.core.errors import InputError
from fedlit.study.shared_loggers import refuse_shared


def config(*loggers: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    made = [{"class_path": f"lightning.pytorch.loggers.{name}", "init_args": arguments} for name, arguments in loggers]
    return {"trainer": {"logger": made[0] if len(made) == 1 else made}}


FIXED = ("CSVLogger", {"save_dir": "logs", "version": 0})


@pytest.mark.parametrize(
    ("configs", "seeds"),
    [
        ([config(FIXED)], 2),
        ([config(FIXED), config(FIXED)], 1),
        ([config(("WandbLogger", {"id": "x", "version": None}))], 2),
        ([config(("TensorBoardLogger", {"save_dir": "tb"}), FIXED)], 2),
    ],
)
def test_a_place_of_one_run_is_refused_for_several(configs: list[dict[str, Any]], seeds: int) -> None:
    with pytest.raises(InputError, match=r"Logger has (version 0|id x) in 2 runs of the study, whose records"):
        refuse_shared(configs, seeds)


@pytest.mark.parametrize(
    ("configs", "seeds"),
    [
        ([{"trainer": {"logger": logger}} for logger in (None, True, False)], 3),
        ([config(("CSVLogger", {"save_dir": "logs", "version": None}))], 3),  # a new version for each run
        ([config(FIXED)], 1),
        ([config(("CSVLogger", {"save_dir": place, "version": 0})) for place in ("a", "b")], 1),
        ([{"trainer": {"logger": {"class_path": "mine.Logger"}}}], 3),
    ],
)
def test_each_run_may_have_a_place_of_its_own(configs: list[dict[str, Any]], seeds: int) -> None:
    refuse_shared(configs, seeds)
