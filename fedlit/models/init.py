"""Initialisation of the networks."""

from __future__ import annotations

from torch import nn

#: The most units or channels of a layer; more would not fit into memory, and much more not into a 64-bit count.
MAX_UNITS = 10_000_000


def he_(module: nn.Module, output: nn.Linear) -> None:
    """Initialise in place the linear and convolution layers of ``module``, of which ``output`` is the last.

    Weights are normal with variance 2 / fan_in, which keeps the scale of activations through ReLU layers; biases are
    zero. PyTorch's default has a sixth of that variance: signals shrink by 2.4 in each layer, and by 2 at each gate of
    attention that starts near 0.5, until plain SGD hardly makes progress. Source: He et al. 2015, arXiv 1502.01852,
    equation 10.

    The output layer is not followed by a ReLU: its weights get the standard deviation 0.01, so that the first loss is
    close to log(num_classes) and no rounds are lost on unlearning large random logits.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.normal_(output.weight, std=0.01)
