"""How fast fedlit is beside a loop written by hand: ``python -m tests.benchmarks``. Run by hand, never by pytest."""
