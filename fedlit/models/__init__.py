"""Networks for federated training."""

from fedlit.models.emnist_cnn import EmnistCNN
from fedlit.models.mlp import MLP
from fedlit.models.sequence_cnn import SequenceCNN
from fedlit.models.softmax import SoftmaxRegression

__all__ = ["MLP", "EmnistCNN", "SequenceCNN", "SoftmaxRegression"]
