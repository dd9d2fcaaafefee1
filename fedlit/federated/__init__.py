"""The round: cohort, broadcast, local fits, average, server step."""

from fedlit.federated.client import ClientModule
from fedlit.federated.loop import FederatedLoop
from fedlit.federated.module import FederatedModule
from fedlit.federated.records import ClientTask, ClientUpdate, Weights
from fedlit.federated.stragglers import FixedSlow, NoStragglers, PartialWork, Stragglers, Trace

__all__ = [
    "ClientModule",
    "ClientTask",
    "ClientUpdate",
    "FederatedLoop",
    "FederatedModule",
    "FixedSlow",
    "NoStragglers",
    "PartialWork",
    "Stragglers",
    "Trace",
    "Weights",
]
