"""A study's runs as tables, curves, tests and verdicts: ``fedlit report logs/STUDY``."""

from fedlit.report.command import main, report

__all__ = ["main", "report"]
