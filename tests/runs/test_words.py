"""A config in a few words."""

from __future__ import annotations

from typing import Any

import pytest

from fedlit.runs.words import facts, in_a_word, opening

CONFIG: dict[str, Any] = {
    "seed_everything": 3,
    "trainer": {"max_epochs": 20},
    "data": {
        "class_path": "fedlit.data.EMNIST",
        "init_args": {
            "num_clients": None,
            "partition": {"class_path": "fedlit.Dirichlet", "init_args": {"alpha": 0.5, "min_samples": 1}},
        },
    },
    "model": {
        "net": {"class_path": "mine.Net", "init_args": {"attention": {"class_path": "fedlit.attention.Spatial"}}},
        "mu": 0.01,
        "client_optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.0}},
    },
    "federation": {"clients_per_round": 10, "local_epochs": 2.0, "algorithm": [{"class_path": "a.Clip"}, "b.Mean"]},
}


def test_facts_are_numbers_and_names_of_classes() -> None:
    assert facts(CONFIG) == {
        "data": "EMNIST",
        "partition": "Dirichlet 0.5",
        "net": "Net",
        "attention": "Spatial",
        "mu": "0.01",
        "optimizer": "SGD 0.1",
        "algorithm": "Clip + Mean",
        "a round": "10",
        "local epochs": "2",
        "rounds": "20",
        "seed": "3",
    }


@pytest.mark.parametrize(
    "config", [None, 3, [], {"model": 3, "data": []}, {"data": {"class_path": 1, "init_args": "x"}}]
)
def test_missing_settings_are_left_out(config: Any) -> None:
    assert facts(config) == {}


@pytest.mark.parametrize(
    ("value", "word"),
    [(0, "0"), (1e-4, "0.0001"), (True, ""), (None, ""), ("a.b.C", "C"), ([], ""), (["x.A", 2], "A + 2")],
)
def test_a_value_is_described_by_a_word(value: Any, word: str) -> None:
    assert in_a_word(value) == word


def test_the_first_line_describes_the_run() -> None:
    assert opening(CONFIG, 100, "LoopEngine") == (
        "EMNIST, 100 clients (Dirichlet 0.5), 10 a round, Net with Spatial, mu 0.01, algorithm Clip + Mean, 20 rounds, "
        "LoopEngine"
    )
    assert opening({}, 5, "LoopEngine") == "data, 5 clients (Uniform), LoopEngine"
