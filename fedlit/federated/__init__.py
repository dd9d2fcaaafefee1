"""A federated round: cohort, broadcast, local fits, average, server step."""

from fedlit.algorithms.algorithm import Algorithm
from fedlit.clients.client import ClientModule
from fedlit.core.records import Broadcast, ClientAnswer, ClientFailure, ClientTask, ClientUpdate, Weights
from fedlit.federated.diagnostics import Diagnostics
from fedlit.federated.loop import FederatedLoop
from fedlit.federated.module import FederatedModule
from fedlit.mu import AdaptiveMu, ConstantMu, Mu, MuByName
from fedlit.sampling import Draw, Sampling, SizeSampling, UniformSampling
from fedlit.stragglers import FixedSlow, NoStragglers, PartialWork, Stragglers, Trace

__all__ = [
    "AdaptiveMu",
    "Algorithm",
    "Broadcast",
    "ClientAnswer",
    "ClientFailure",
    "ClientModule",
    "ClientTask",
    "ClientUpdate",
    "ConstantMu",
    "Diagnostics",
    "Draw",
    "FederatedLoop",
    "FederatedModule",
    "FixedSlow",
    "Mu",
    "MuByName",
    "NoStragglers",
    "PartialWork",
    "Sampling",
    "SizeSampling",
    "Stragglers",
    "Trace",
    "UniformSampling",
    "Weights",
]
