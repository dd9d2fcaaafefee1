"""Personal models: a part of the network stays with the client."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedlit.errors import InputError
from fedlit.federated.algorithm import Algorithm
from fedlit.federated.client import ClientModule
from fedlit.federated.mu import Mu
from fedlit.federated.records import ClientTask


class KeepLocal(Algorithm):
    r"""Some parameters stay with each client from one of its rounds to the next; the rest is shared as in FedProx.

    By default those of the attention: every client has gates of its own on common features (as in PFedAtt, Jiang et
    al.; with a classifier instead it is FedPer, Arivazhagan et al. 2019, arXiv:1912.00818). What stays is not pulled
    towards the server's: it has no proximal term. The server still averages what clients have, as a start for those
    that take part for the first time and to evaluate a global model; what a client itself has gained shows in
    ``clients/own_accuracy_mean`` with ``data.client_holdout``.

    Args:
        names: Regular expressions, searched for in the names of the network's state (parameters and buffers).
    """

    keeps = True
    changes_fit = True

    def __init__(self, names: Sequence[str] = (r"\battention\b",)) -> None:
        try:
            self._patterns = [re.compile(name) for name in names]
        except re.error as error:
            raise InputError(f"{error.pattern!r} is no regular expression: {error}; a plain word is one") from error

    def chosen(self, net: nn.Module, names: Sequence[str]) -> list[str]:
        """Which of the names of a network's floating-point state stay with the clients."""
        return [name for name in names if any(pattern.search(name) for pattern in self._patterns)]

    def prepare(self, client: ClientModule, mu: Mu, num_clients: int) -> None:
        self._names = self.chosen(client.net, client.layout.trainable + client.layout.fixed)
        if not self._names:
            raise InputError(
                f"{type(self).__name__} found nothing to keep in this network; its state is named "
                f"{', '.join(client.layout.trainable[:4])}, ...: name a part of it, or leave federation.algorithm out"
            )
        client.free = frozenset(self._names)

    @torch.no_grad()
    def begin(self, client: ClientModule, kept: Tensor | None) -> None:
        if kept is None:
            return
        mine = self._state(client)
        for tensor, part in zip(mine, kept.split([tensor.numel() for tensor in mine]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def end(self, client: ClientModule, task: ClientTask, kept: Tensor | None) -> Tensor:
        return torch.cat([tensor.detach().reshape(-1).float() for tensor in self._state(client)])

    def _state(self, client: ClientModule) -> list[Tensor]:
        state = client.net.state_dict()
        return [state[name] for name in self._names]


class BatchNormPolicy(KeepLocal):
    """What of the BatchNorm layers stays with each client; averaging all of it is what happens without this.

    Averaged statistics fit no client where clients differ, and the weights were trained under each client's own: a
    known cause of instability. A spatial gate with BatchNorm before its sigmoid (CBAM's published code) is the extreme
    case, as its map has one channel: one mean and one variance place every pixel of every image on the sigmoid.

    Args:
        local: ``all``: statistics and affine parameters (FedBN, Li et al. 2021, arXiv:2102.07623). ``statistics``: the
            running means and variances alone, so that only affine parameters are averaged (SiloBN, Andreux et al. 2020,
            arXiv:2008.07424).
    """

    def __init__(self, local: Literal["all", "statistics"] = "all") -> None:
        super().__init__(("",) if local == "all" else (r"running_(mean|var)$",))

    def chosen(self, net: nn.Module, names: Sequence[str]) -> list[str]:
        layers = [name for name, module in net.named_modules() if isinstance(module, _BatchNorm)]
        return [name for name in super().chosen(net, names) if name.rpartition(".")[0] in layers]
