"""Server optimizers of federated learning, for ``model.server_optimizer``.

Their gradient is the pseudo-gradient -Delta = w_t - mean_k w_k. FedAvgM (Hsu et al. 2019, arXiv:1909.06335) is
``torch.optim.SGD`` with momentum. The adaptive ones differ from PyTorch's Adam and Adagrad: there is no bias
correction, and the second moment starts at tau^2 rather than 0.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fedlit.core.errors import InputError
from fedlit.core.limits import FLOAT32_MAX


class _Adaptive(Optimizer):
    """Algorithm 2 of Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv:2003.00295).

    The steps are m <- beta1 m + (1 - beta1) Delta; the one of v; w <- w + lr m / (sqrt(v) + tau).

    Args:
        params: The parameters to optimize.
        lr: The server's learning rate eta, more than 0.
        beta1: Momentum, in [0, 1).
        beta2: Decay rate of the second moment, in [0, 1).
        tau: Degree of adaptivity, more than 0: with a smaller tau, the steps of scalars differ more.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.1,
        beta1: float = 0.9,
        beta2: float = 0.99,
        tau: float = 1e-3,
    ) -> None:
        for name, value in (("lr", lr), ("tau", tau)):
            if not 0 < value <= FLOAT32_MAX**0.5:  # the second moment starts at tau^2
                raise InputError(f"{name} must be a finite number > 0, got {value}; the paper tunes it by powers of 10")
        for name, value in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= value < 1:
                raise InputError(f"{name} must be in [0, 1), got {value}; the paper has 0.9 and 0.99")
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "tau": tau})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One round of the server."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state: dict[str, Any] = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                    state["second_moment"] = torch.full_like(parameter, group["tau"] ** 2)
                delta = -parameter.grad
                state["momentum"].lerp_(delta, 1 - group["beta1"])
                square = delta.square()
                state["second_moment"] += self.growth(state["second_moment"], square, group["beta2"])
                parameter.addcdiv_(state["momentum"], state["second_moment"].sqrt() + group["tau"], value=group["lr"])
        return loss

    @abstractmethod
    def growth(self, second_moment: Tensor, square: Tensor, beta2: float) -> Tensor:
        """The increment of v, given v and Delta^2."""


class FedAdagrad(_Adaptive):
    """FedAdagrad: v <- v + Delta^2.

    Algorithm 2 of Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv:2003.00295).

    The steps are m <- beta1 m + (1 - beta1) Delta; the one of v; w <- w + lr m / (sqrt(v) + tau).

    Args:
        params: The parameters to optimize.
        lr: The server's learning rate eta, more than 0.
        beta1: Momentum, in [0, 1); 0 in the paper.
        tau: Degree of adaptivity, more than 0: with a smaller tau, the steps of scalars differ more.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.1, beta1: float = 0.0, tau: float = 1e-3) -> None:
        super().__init__(params, lr, beta1, tau=tau)

    def growth(self, second_moment: Tensor, square: Tensor, beta2: float) -> Tensor:
        return square


class FedAdam(_Adaptive):
    __doc__ = f"""FedAdam: v <- beta2 v + (1 - beta2) Delta^2.

    {_Adaptive.__doc__}"""

    def growth(self, second_moment: Tensor, square: Tensor, beta2: float) -> Tensor:
        return (1 - beta2) * (square - second_moment)


class FedYogi(_Adaptive):
    __doc__ = f"""FedYogi: v <- v - (1 - beta2) Delta^2 sign(v - Delta^2).

    {_Adaptive.__doc__}"""

    def growth(self, second_moment: Tensor, square: Tensor, beta2: float) -> Tensor:
        return -(1 - beta2) * square * torch.sign(second_moment - square)
