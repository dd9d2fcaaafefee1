"""Formats numbers for a report: with real minus signs, and a dash for unknown values."""

from __future__ import annotations

import math
import re

from fedlit.report.intervals import LEAST_SEEDS, Interval
from fedlit.report.metrics import Metric

MINUS, DASH = "\u2212", "\u2013"


def number(metric: Metric, value: float) -> str:
    """A value of a metric, with the metric's number of digits."""
    return fixed(value, metric.digits)


def fixed(value: float, digits: int, sign: str = "") -> str:
    """A value with ``digits`` digits after the point; ``sign="+"`` also writes a plus."""
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return f"{MINUS if value < 0 else sign}\u221e"
    return f"{value:{sign},.{digits}f}".replace("-", MINUS)


def effect_in_words(metric: Metric, interval: Interval) -> tuple[str, str]:
    """The signed mean of differences in a metric and its interval; a dash if the interval is unknown."""
    digits = max(metric.digits, 4)
    if interval.n < LEAST_SEEDS or math.isnan(interval.low):
        return fixed(interval.mean, digits, "+"), DASH
    return fixed(interval.mean, digits, "+"), span(fixed(interval.low, digits, "+"), fixed(interval.high, digits, "+"))


def span(low: str, high: str) -> str:
    """The two ends of an interval as text."""
    return f"{low} … {high}"


def p_value(value: float) -> str:
    if math.isnan(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def minus_signs(text: str) -> str:
    """A text, such as the contrast ``a - b``, with real minus signs between its terms."""
    return re.sub(r"(?<= )-(?= )", MINUS, text)


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 seed``, ``3 seeds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
