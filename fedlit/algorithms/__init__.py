"""Algorithms beyond FedAvg and FedProx, each as its difference from them; ``--federation.algorithm`` names one.

FedAvgM, FedAdam, FedYogi and FedAdagrad are optimizers of the server instead: see ``fedlit.optim``.
"""

from fedlit.algorithms.attentive import AttentiveAggregation
from fedlit.algorithms.feddyn import FedDyn
from fedlit.algorithms.fednova import FedNova
from fedlit.algorithms.personal import BatchNormPolicy, KeepLocal
from fedlit.algorithms.private import PrivateMean
from fedlit.algorithms.robust import ClippedMean, CoordinateMedian, Krum, TrimmedMean
from fedlit.algorithms.scaffold import Scaffold

__all__ = [
    "AttentiveAggregation",
    "BatchNormPolicy",
    "ClippedMean",
    "CoordinateMedian",
    "FedDyn",
    "FedNova",
    "KeepLocal",
    "Krum",
    "PrivateMean",
    "Scaffold",
    "TrimmedMean",
]
