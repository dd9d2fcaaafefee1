"""Federated learning as a Lightning training run."""
