"""``fedlit report logs/STUDY``: a study's runs as tables, curves, statistical tests and verdicts."""
