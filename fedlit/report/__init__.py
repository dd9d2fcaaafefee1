"""A study's runs as tables, curves, tests and verdicts: ``fedlit report logs/STUDY``."""
