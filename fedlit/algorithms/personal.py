"""Personal models: a part of the network stays with the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from fedlit.algorithms.algorithm import Algorithm, Facts, overrides
from fedlit.algorithms.chained import leaves
from fedlit.core.errors import InputError
from fedlit.core.given import one_of
from fedlit.core.messages import warn
from fedlit.core.patterns import compile_pattern
from fedlit.core.private_torch import BatchNorm
from fedlit.core.records import Broadcast, Weights

#: What of BatchNorm layers stays with the clients.
LocalPart = Literal["all", "statistics"]


class KeepLocal(Algorithm):
    r"""Keeps some parameters with each client, from one of its rounds to the next; the rest is shared as in FedProx.

    By default these are the attention's: every client has its own gates on shared features (as in PFedAtt, Jiang et
    al.; with the classifier instead it is FedPer, Arivazhagan et al. 2019, arXiv:1912.00818). Local parameters have no
    proximal term. The server still averages them, as a start for new clients and for evaluating a global model; the
    accuracy of the personal models is ``clients/own_accuracy_mean``, measured with ``data.client_holdout``.

    As the server averages them, they count in the norms and distances of ``Clip``, ``ClippedMean``, ``Krum`` and
    ``PrivateMean`` beside it; where they are far from the server's, these clip or leave out more of the shared part.

    Args:
        names: Regular expressions, searched for in the names of the network's state (parameters and buffers); each must
            be found in at least one.
    """

    def __init__(self, names: Sequence[str] = (r"\battention\b",)) -> None:
        if isinstance(names, str):
            raise InputError(f"names must be a list of regular expressions, got the text {names!r}; give [{names!r}]")
        self._patterns = [compile_pattern(name) for name in names]

    def chosen(self, net: nn.Module, names: Sequence[str]) -> list[str]:
        """Which of the names of a network's floating-point state stay with the clients."""
        return [name for name in names if any(pattern.search(name) for pattern in self._patterns)]

    def prepare(self, facts: Facts) -> None:
        super().prepare(facts)
        self._names = self.chosen(facts.net, facts.layout.trainable + facts.layout.fixed)
        unused = [p.pattern for p in self._patterns if not any(p.search(name) for name in self._names)]
        if unused or not self._names:
            named = f"named {unused[0]!r}" if self._names else "to keep"
            raise InputError(
                f"{type(self).__name__} found nothing {named} in this network, whose tensors are named "
                f"{', '.join(facts.layout.trainable[:4])}, ...; name some of them, or leave federation.algorithm out"
            )

    @property
    def local(self) -> frozenset[str]:
        return frozenset(self._names)

    @property
    def kept_size(self) -> int:
        return len(self.facts.layout.positions(self._names))

    def start(self, floats: Tensor, kept: Tensor | None) -> Tensor:
        if kept is None:
            return floats
        return floats.index_copy(0, self._where(floats), kept.to(floats))

    def end(self, sent: Broadcast, ended: Weights, steps: int, kept: Tensor | None) -> Tensor:
        return ended.floats[self._where(ended.floats)].float()

    def _where(self, floats: Tensor) -> Tensor:
        return self.facts.layout.positions(self._names).to(floats.device)


class BatchNormPolicy(KeepLocal):
    """Keeps BatchNorm layers or their statistics local; without this all of them are averaged.

    If clients differ, averaged statistics fit none of them, while the weights were trained with each client's own: a
    known cause of instability. The extreme case is a spatial gate with BatchNorm before its sigmoid (CBAM's published
    code), whose map has one channel: one mean and one variance shift every pixel of every image on the sigmoid.

    Args:
        local: ``all``: statistics and affine parameters (FedBN, Li et al. 2021, arXiv:2102.07623). ``statistics``: the
            running means and variances alone, so that only affine parameters are averaged (SiloBN, Andreux et al. 2020,
            arXiv:2008.07424).
    """

    def __init__(self, local: LocalPart = "all") -> None:
        one_of("local", local, get_args(LocalPart))
        super().__init__(("",) if local == "all" else (r"running_(mean|var)$",))

    def chosen(self, net: nn.Module, names: Sequence[str]) -> list[str]:
        layers = [name for name, module in net.named_modules() if isinstance(module, BatchNorm)]
        return [name for name in super().chosen(net, names) if name.rpartition(".")[0] in layers]


def warn_of_local(algorithm: Algorithm) -> None:
    """Warn that the global model is evaluated, if a part of the network stays with each client."""
    names = [part.name for part in leaves(algorithm) if overrides(part, "local")]
    if names:
        warn(
            f"{', '.join(names)}: the global model is evaluated, in which the parameters that stay with clients are "
            "averaged; for the accuracy of the clients' own models, set data.client_holdout and see "
            "clients/own_accuracy_* in metrics.csv"
        )
