"""Numbers as a report has them: with real minus signs, and a dash for what is not known."""

from __future__ import annotations

import math
import re

from fedlit.report.intervals import LEAST_SEEDS, Interval
from fedlit.report.metrics import Metric

MINUS, DASH = "\u2212", "\u2013"


def number(metric: Metric, value: float) -> str:
    """A value of a metric, in its digits."""
    return fixed(value, metric.digits)


def fixed(value: float, digits: int, sign: str = "") -> str:
    """A value with so many digits after the point; with ``sign`` of ``+`` a plus is written too."""
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return f"{MINUS if value < 0 else sign}\u221e"
    return f"{value:{sign},.{digits}f}".replace("-", MINUS)


def effect_in_words(metric: Metric, interval: Interval) -> tuple[str, str]:
    """The signed mean of differences in a metric, and the ends of its interval, a dash where they are not known."""
    digits = max(metric.digits, 4)
    if interval.n < LEAST_SEEDS or math.isnan(interval.low):
        return fixed(interval.mean, digits, "+"), DASH
    return fixed(interval.mean, digits, "+"), span(fixed(interval.low, digits, "+"), fixed(interval.high, digits, "+"))


def span(low: str, high: str) -> str:
    """From here to there."""
    return f"{low} … {high}"


def p_value(value: float) -> str:
    if math.isnan(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def minus_signs(text: str) -> str:
    """A text, such as a contrast ``a - b``, with real minus signs between its terms."""
    return re.sub(r"(?<= )-(?= )", MINUS, text)


def count(number: int, noun: str) -> str:
    """As ``1 seed``, ``3 seeds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
