"""Short class names on the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fedlit.command.arguments import NAMED_SHORTLY

SHORT = {
    "federation.algorithm": ("Scaffold", "fedlit.algorithms"),
    "model.server_optimizer": ("FedYogi", "fedlit.optim"),
    "federation.engine": ("LoopEngine", "fedlit.engines"),
    "federation.stragglers": ("PartialWork", "fedlit.stragglers"),
    "model.mu": ("AdaptiveMu", "fedlit.mu"),
    "model.net": ("EmnistCNN", "fedlit.models"),
    "data.partition": ("Dirichlet", "fedlit.data"),
}


def test_fedlits_classes_are_found_by_short_name_in_a_fresh_process() -> None:
    words = [f"--{key}={name}" for key, (name, _) in SHORT.items()]
    command = [sys.executable, "-m", "fedlit", "fit", *words, "--print_config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = {*map(str.strip, done.stdout.splitlines())}
    for name, package in SHORT.values():
        assert {f"class_path: {package}.{name}", f"class_path: fedlit.{name}"} & lines


@pytest.mark.parametrize("name", NAMED_SHORTLY)
def test_each_package_with_short_names_exists(name: str) -> None:
    __import__(name)
