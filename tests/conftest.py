"""Fixtures that more than one test module needs."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch

# The suite tests fits on CPUs, whose workers cannot be forked beside a GPU; test_gpu.py runs by itself. Processes of
# pytest-xdist have other arguments, and this environment from the process that started them.
if "PYTEST_XDIST_WORKER" not in os.environ and not any("test_gpu.py" in word for word in sys.argv):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real EMNIST files, or a skip."""
    folder = os.environ.get("FEDLIT_DATA")
    if not folder:
        pytest.skip("FEDLIT_DATA is not set: no folder with EMNIST files to test on")
    return Path(folder).resolve()


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """Small tensors are slower on many threads."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _interruptible() -> None:
    """Processes that a test starts heed Ctrl-C, which shells have jobs in the background ignore, and a Trainer its own
    process once it was interrupted."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _talkative_again() -> None:
    """The command silences loggers for its process, as do fixtures that run it; each test is to hear them."""
    for name in ("pytorch.utilities.rank_zero", "fabric.utilities.seed"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _no_earlier_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning keeps the seed of ``seed_everything`` in the environment, where later federations would find it."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


@pytest.fixture(autouse=True)
def _clean_folder() -> Iterator[None]:
    """A test that writes into the folder in which pytest runs fails; caches are hidden files."""
    folder = Path.cwd()
    before = set(folder.iterdir())
    yield
    new = [path.name for path in set(folder.iterdir()) - before if not path.name.startswith((".", "__"))]
    assert not new, f"left behind in {folder}: {', '.join(sorted(new))}; write to tmp_path"


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Writes past so many bytes of a file fail, as on a full disk."""
    resource = pytest.importorskip("resource", reason="this system has no limit of file sizes")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
