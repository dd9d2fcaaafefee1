"""The largest numbers that fedlit computes with."""

from __future__ import annotations

#: The largest float32: beyond, a tensor overflows.
FLOAT32_MAX = 3.4028234e38

#: The largest count of anything: it fits an int32 index.
COUNT_MAX = 2**31 - 1
