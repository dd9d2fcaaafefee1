"""The bars of a run."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from tiny import fit

from fedlit.core.terminal import Terminal
from fedlit.runs import progress


def test_the_bar_of_clients_counts_the_clients_of_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float | None]] = []

    class Seen(progress.RoundProgress):
        def __init__(self) -> None:
            super().__init__()
            self._console = Terminal(file=StringIO(), force_terminal=True)

        def on_train_epoch_end(self, *given: Any) -> None:
            assert self._bars is not None
            task = self._bars.tasks[self._clients]
            seen.append((task.completed, task.total))
            super().on_train_epoch_end(*given)

    monkeypatch.setattr("fedlit.command.fit.RoundProgress", Seen)
    assert fit(tmp_path, 2, "--federation.clients_per_round=3") == 0
    assert seen == [(3, 3), (3, 3)]
