import platform
import subprocess
import sys

import pytest

from fedlit.core.allocator import keep_freed_memory

PROGRAM = """
import ctypes, sys
from fedlit.core.allocator import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
class Info(ctypes.Structure):  # mallinfo2(3): hblkhd is the bytes that were mapped on their own, fordblks those kept
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
libc.mallinfo2.restype = Info

if sys.argv[1] == "tuned":
    assert keep_freed_memory()
before = libc.mallinfo2()
buffer = libc.malloc(20_000_000)
mapped = libc.mallinfo2().hblkhd - before.hblkhd
libc.free(buffer)
kept = libc.mallinfo2().fordblks - before.fordblks
print(mapped, kept)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")


def mapped_and_kept(how: str) -> tuple[int, int]:
    """Bytes mapped on their own for a buffer of 20 MB, and bytes kept once it is freed."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
    mapped, kept = map(int, done.stdout.split())
    return mapped, kept


@glibc
def test_a_large_buffer_is_kept_for_the_next_step():
    mapped, kept = mapped_and_kept("tuned")
    assert mapped == 0
    assert kept >= 19_000_000
    mapped, kept = mapped_and_kept("plain")
    assert mapped >= 20_000_000
    assert kept < 1_000_000


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
