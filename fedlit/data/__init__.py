"""Data sets, and how they are split over clients."""

from fedlit.data.bundled import MNIST5k
from fedlit.data.emnist import EMNIST
from fedlit.data.examples import Batches, Examples
from fedlit.data.module import FederatedData
from fedlit.data.partition import Partition, Partitioner
from fedlit.data.partitioners import ByGroup, Dirichlet, QuantitySkew, Shards, Uniform
from fedlit.data.sensors import SimulatedSensors
from fedlit.data.synthetic import Synthetic
from fedlit.data.tensors import Tensors, TorchDataset

__all__ = [
    "EMNIST",
    "Batches",
    "ByGroup",
    "Dirichlet",
    "Examples",
    "FederatedData",
    "MNIST5k",
    "Partition",
    "Partitioner",
    "QuantitySkew",
    "Shards",
    "SimulatedSensors",
    "Synthetic",
    "Tensors",
    "TorchDataset",
    "Uniform",
]
