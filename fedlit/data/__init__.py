"""Data sets, and how they are split over clients."""

from fedlit.data.augment import PerExample
from fedlit.data.bundled import MNIST5k
from fedlit.data.emnist import EMNIST
from fedlit.data.examples import Batches, Examples
from fedlit.data.flower import FlowerPartitioner
from fedlit.data.hugging_face import HuggingFace
from fedlit.data.leaf import Leaf
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
    "FlowerPartitioner",
    "HuggingFace",
    "Leaf",
    "MNIST5k",
    "Partition",
    "Partitioner",
    "PerExample",
    "QuantitySkew",
    "Shards",
    "SimulatedSensors",
    "Synthetic",
    "Tensors",
    "TorchDataset",
    "Uniform",
]
