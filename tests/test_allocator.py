import platform
import subprocess
import sys

import pytest

from fedlit.allocator import keep_freed_memory

PROGRAM = """
import resource, sys, torch
from fedlit.allocator import keep_freed_memory
if sys.argv[1] == "tuned":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    activations = [torch.ones(200_000) for _ in range(8)]  # 0.8 MB each, freed together
for _ in range(10):
    step()
before = faults()
for _ in range(20):
    step()
print(faults() - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")


def page_faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True).stdout)


@glibc
def test_large_buffers_are_no_longer_faulted_in_again():
    # 160 buffers of 0.8 MB are 31,250 pages of 4 KB; once memory is kept, hardly any of them is new.
    assert page_faults("tuned") < 0.1 * page_faults("plain")


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
