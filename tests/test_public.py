"""What ``import fedlit`` gives."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import fedlit


def test_every_public_name_is_that_of_its_module():
    assert {"FederatedModule", "Dirichlet", "chain", "attention"} <= set(fedlit.__all__) <= set(dir(fedlit))
    for name, home in fedlit._MODULE_OF.items():
        if home != "fedlit":
            assert getattr(fedlit, name) is getattr(importlib.import_module(home), name)


def test_packages_of_names_are_there_without_an_import():
    assert fedlit.attention.Spatial.__name__ == "Spatial"


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fedlit' has no attribute 'Spatail'"):
        _ = fedlit.Spatail


def test_the_import_itself_loads_no_torch():
    code = "import fedlit, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
