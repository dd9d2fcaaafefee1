"""Let glibc's malloc keep freed memory.

By default glibc maps every buffer above a threshold afresh and returns it to the system when freed. A training step
allocates and frees the same large activations each time, so the kernel zeroes and faults in the same pages at every
step. Raising the thresholds of ``mallopt(3)`` keeps them in the process.
"""

from __future__ import annotations

import ctypes
import platform

# From malloc.h. The largest threshold that glibc takes on 64-bit machines is 32 MiB.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLD_BYTES = 32 * 2**20
TRIM_THRESHOLD_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Raise malloc's thresholds for this process; without glibc, do nothing and return False."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES), mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    return all(done)
