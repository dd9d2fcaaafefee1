from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, stack_module_state, vmap

from fedlit.core.errors import InputError
from fedlit.models import MLP


def test_the_default_has_784_pixels_64_hidden_units_and_47_classes() -> None:
    assert [tuple(weight.shape) for weight in MLP().parameters()] == [(64, 784), (64,), (47, 64), (47,)]


def test_the_mlp_alternates_linear_layers_and_relu() -> None:
    model, x = MLP([5, 4], num_classes=3, in_channels=2, image_size=6), torch.randn(7, 2, 6, 6)
    w1, b1, w2, b2, w3, b3 = model.parameters()
    hidden = torch.relu(torch.relu(x.reshape(7, 72) @ w1.T + b1) @ w2.T + b2)
    torch.testing.assert_close(model(x), hidden @ w3.T + b3)


def test_the_scale_of_activations_survives_the_layers_and_the_first_loss_is_that_of_guessing() -> None:
    torch.manual_seed(0)
    model, x = MLP([512, 512], image_size=28), torch.randn(256, 1, 28, 28)
    z = x.flatten(1)
    for layer in model.layers[:-1]:
        z = layer(z).relu()
        assert z.square().mean().item() == pytest.approx(1, rel=0.2)  # E[relu(a)^2] = Var(a) / 2, Var(a) = 2 E[z^2]
    loss = F.cross_entropy(model(x), torch.arange(256) % 47)
    assert loss.item() == pytest.approx(math.log(47), abs=0.15)


def test_many_clients_as_one_vmapped_program_give_what_each_gives_alone() -> None:
    clients, x = [MLP([4], image_size=5) for _ in range(3)], torch.randn(3, 2, 1, 5, 5)
    stacked, _ = stack_module_state(clients)
    logits = vmap(lambda weights, images: functional_call(clients[0], weights, images))(stacked, x)
    torch.testing.assert_close(logits, torch.stack([client(images) for client, images in zip(clients, x, strict=True)]))


@pytest.mark.parametrize("options", [{"hidden": [0]}, {"num_classes": 0}, {"in_channels": -1}, {"image_size": 0}])
def test_a_layer_without_units_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"at least 1 unit, got .*; use"):
        MLP(**options)  # type: ignore[arg-type]
