"""Algorithms beyond FedAvg and FedProx, each as its difference from them, for ``--federation.algorithm``.

FedAvgM, FedAdam, FedYogi and FedAdagrad are server optimizers instead: see ``fedlit.optim``.
"""

from fedlit.algorithms.algorithm import Algorithm, Average, Facts
from fedlit.algorithms.attentive import AttentiveAggregation
from fedlit.algorithms.chained import Chain, chain
from fedlit.algorithms.clip import Clip
from fedlit.algorithms.feddyn import FedDyn
from fedlit.algorithms.fednova import FedNova
from fedlit.algorithms.mean import Mean
from fedlit.algorithms.noise import Noise
from fedlit.algorithms.personal import BatchNormPolicy, KeepLocal
from fedlit.algorithms.private import PrivateMean
from fedlit.algorithms.robust import ClippedMean, CoordinateMedian, Krum, TrimmedMean
from fedlit.algorithms.scaffold import Scaffold

__all__ = [
    "Algorithm",
    "AttentiveAggregation",
    "Average",
    "BatchNormPolicy",
    "Chain",
    "Clip",
    "ClippedMean",
    "CoordinateMedian",
    "Facts",
    "FedDyn",
    "FedNova",
    "KeepLocal",
    "Krum",
    "Mean",
    "Noise",
    "PrivateMean",
    "Scaffold",
    "TrimmedMean",
    "chain",
]
