"""Whether settings work together, tried at random: ``python -m tests.fuzz``. Run by hand, never by pytest."""
