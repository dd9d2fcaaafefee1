"""One client: its local problem, its fit, the state that it keeps between rounds, and checks of net and data."""
