"""The distribution of labels at each client, and its distance from that of all clients together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedlit.core.bins import bin_width, num_bins
from fedlit.data.module import FederatedData
from fedlit.data.partition import Partition


def skew_of_clients(data: FederatedData) -> NDArray[np.float64]:
    """`label_skew` of the clients' training examples, (K,)."""
    return label_skew(data.train.targets.cpu().numpy(), data.partition)


def label_skew(labels: NDArray[np.integer], partition: Partition) -> NDArray[np.float64]:
    """Total variation distance of each client's label distribution from that of all data, (K,), in [0, 1).

    It is 1/2 sum_c |p_k(c) - p(c)|, the share of the client's examples that would need another label to match the
    whole training set: 0 for equal distributions, and 1 - p(c) for a client with a single class c. It is NaN for a
    client without examples. Memory and time grow with the number of examples, not with clients times classes.

    Args:
        labels: Class of each example, from 0, shape (N,).
        partition: Which client holds which example.
    """
    classes = int(labels.max()) + 1
    population = np.bincount(labels, minlength=classes) / len(labels)  # (C,)
    pairs, counts = np.unique(partition.owners * classes + labels, return_counts=True)  # the pairs that occur
    client, label = np.divmod(pairs, classes)
    # 1/2 sum |p - q| = 1 - sum min(p, q), to which only classes that the client has contribute.
    shared = np.minimum(counts / partition.sizes[client], population[label])
    common = np.bincount(client, shared, minlength=partition.num_clients)
    return np.where(partition.sizes > 0, np.clip(1 - common, 0, 1), np.nan)


def label_counts(data: FederatedData, most: int) -> NDArray[np.int64]:
    """Number of training examples of each class, or bin of classes, at the first clients: (min(K, most), bins)."""
    bins = data.train.targets.cpu().numpy() // bin_width(data.num_classes)
    shown = range(min(data.num_clients, most))
    return np.stack([np.bincount(bins[data.partition.client(k)], minlength=num_bins(data.num_classes)) for k in shown])
