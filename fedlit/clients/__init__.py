"""One client: its local problem, one fit of it, what it keeps, and whether it fits the data."""
