"""Layers of a Sequential that run as one operation: the same results, with unchanged modules and names."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from unittest.mock import Mock, patch

import pytest
import torch
from odd_nets import group_norm
from torch import Tensor, nn
from torch.optim import SGD

from fedlit.clients.client import ClientModule
from fedlit.models import joined as module
from fedlit.models.joined import joined


@pytest.fixture
def calls() -> Iterator[Mock]:
    """Of ``conv_pool``."""
    with patch.object(module, "conv_pool", wraps=module.conv_pool) as counted:
        yield counted


def net() -> nn.Sequential:
    """For (B, 1, 9, 8): two groups of layers that can be joined, among others."""
    layers = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    more = nn.Conv2d(16, 32, (3, 3), padding=(1, 1)), nn.ReLU(inplace=True), nn.MaxPool2d((2, 2), (2, 2))
    return with_whole_numbers(nn.Sequential(nn.Sequential(*layers), nn.Identity(), *more, nn.Flatten()))


def with_whole_numbers(made: nn.Sequential) -> nn.Sequential:
    """Sums of products of these are exact in any order."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=generator))
    return made


def answers(made: nn.Module) -> list[Tensor]:
    """The output for images, and the gradients of its weighted sum."""
    generator = torch.Generator().manual_seed(1)
    output = made(torch.randint(-3, 4, (4, 1, 9, 8), generator=generator).float())
    factors = torch.randint(-3, 4, output.shape, generator=generator).float()
    return [output, *torch.autograd.grad(output, list(made.parameters()), factors)]


def assert_same(made: nn.Module) -> None:
    ours, theirs = answers(joined(copy.deepcopy(made))), answers(made)
    assert len(ours) == len(theirs)
    assert all(map(torch.equal, ours, theirs))


def test_joined_layers_give_the_same_results(calls: Mock) -> None:
    assert_same(net())
    assert calls.call_count == 2


def test_modules_names_and_parameters_stay() -> None:
    made = net()
    before, names = dict(made.named_parameters()), [name for name, _ in made.named_modules()]
    assert joined(made) is made
    assert all(before[name] is parameter for name, parameter in made.named_parameters())
    assert [name for name, _ in made.named_modules()] == names
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other.state_dict().keys() == before.keys()
        assert all(map(torch.equal, answers(other), answers(made)))


class Convolution(nn.Conv2d):
    pass


class Own(nn.Sequential):
    pass


def hooked(layer: nn.Module, kind: str) -> nn.Module:
    getattr(layer, f"register_{kind}")(lambda *_: None)
    return layer


def convolution(**changed: object) -> nn.Conv2d:
    return nn.Conv2d(**{"in_channels": 1, "out_channels": 16, "kernel_size": 3, "padding": 1, **changed})  # type: ignore[arg-type]


def patched() -> nn.Module:
    layer = nn.ReLU()
    layer.forward = lambda x: x.relu()  # type: ignore[method-assign]
    return layer


#: Layers that do not amount to ``conv_pool``, or may not be passed by.
LEFT_ALONE: dict[str, Callable[[], nn.Sequential]] = {
    "kernel": lambda: nn.Sequential(convolution(kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
    "stride": lambda: nn.Sequential(convolution(stride=2), nn.ReLU(), nn.MaxPool2d(2)),
    "no padding": lambda: nn.Sequential(convolution(padding=0), nn.ReLU(), nn.MaxPool2d(2)),
    "padding of one side": lambda: nn.Sequential(convolution(padding=(1, 0)), nn.ReLU(), nn.MaxPool2d(2)),
    "dilation": lambda: nn.Sequential(convolution(dilation=2), nn.ReLU(), nn.MaxPool2d(2)),
    "padding mode": lambda: nn.Sequential(convolution(padding_mode="circular"), nn.ReLU(), nn.MaxPool2d(2)),
    "no bias": lambda: nn.Sequential(convolution(bias=False), nn.ReLU(), nn.MaxPool2d(2)),
    "own convolution": lambda: nn.Sequential(Convolution(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    "own sequential": lambda: Own(convolution(), nn.ReLU(), nn.MaxPool2d(2)),
    "other activation": lambda: nn.Sequential(convolution(), nn.LeakyReLU(0.5), nn.MaxPool2d(2)),
    "pool first": lambda: nn.Sequential(convolution(), nn.MaxPool2d(2), nn.ReLU()),
    "mean pool": lambda: nn.Sequential(convolution(), nn.ReLU(), nn.AvgPool2d(2)),
    "pool of three": lambda: nn.Sequential(convolution(), nn.ReLU(), nn.MaxPool2d(3)),
    "pool that overlaps": lambda: nn.Sequential(convolution(), nn.ReLU(), nn.MaxPool2d(2, 1)),
    "pool that pads": lambda: nn.Sequential(convolution(), nn.ReLU(), nn.MaxPool2d(2, padding=1)),
    "pool with dilation": lambda: nn.Sequential(convolution(), nn.ReLU(), nn.MaxPool2d(2, dilation=2)),
    "pool that rounds up": lambda: nn.Sequential(convolution(), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
    "no pool": lambda: nn.Sequential(convolution(), nn.ReLU()),
    "forward of its own": lambda: nn.Sequential(convolution(), patched(), nn.MaxPool2d(2)),
    "weight norm": lambda: nn.Sequential(
        torch.nn.utils.parametrizations.weight_norm(convolution()), nn.ReLU(), nn.MaxPool2d(2)
    ),
    **{
        kind: lambda kind=kind: nn.Sequential(convolution(), hooked(nn.ReLU(), kind), nn.MaxPool2d(2))  # type: ignore[misc]
        for kind in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook")
    },
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_other_layers_are_not_joined(name: str, calls: Mock) -> None:
    assert_same(with_whole_numbers(LEFT_ALONE[name]()))
    assert not calls.called


@pytest.mark.parametrize("arguments", [{}, {"affine": False}, {"bias": False}], ids=("affine", "plain", "no bias"))
def test_a_group_norm_before_relu_and_pool_is_joined_with_them(arguments: dict[str, bool], calls: Mock) -> None:
    norm = group_norm(4, 16, **arguments)
    made = nn.Sequential(convolution(bias=False), norm, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    with patch.object(module, "norm_pool", wraps=module.norm_pool) as counted:
        for ours, theirs in zip(answers(joined(copy.deepcopy(made))), answers(made), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert counted.call_count == 1
        answers(joined(nn.Sequential(convolution(), hooked(norm, "forward_hook"), nn.ReLU(), nn.MaxPool2d(2))))
        answers(joined(nn.Sequential(convolution(), norm, nn.LeakyReLU(), nn.MaxPool2d(2))))
        assert counted.call_count == 1
    assert not calls.called


def test_grouped_convolutions_and_pools_that_return_indices_are_not_joined(calls: Mock) -> None:
    grouped = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.MaxPool2d(2))
    places = nn.Sequential(convolution(), nn.ReLU(), nn.MaxPool2d(2, return_indices=True))
    joined(grouped)(torch.zeros(2, 16, 4, 4))
    pooled, where = joined(places)(torch.zeros(2, 1, 4, 4))
    assert pooled.shape == where.shape
    assert not calls.called


def test_hooks_that_are_added_or_removed_later_are_respected(calls: Mock) -> None:
    made, seen = joined(net()), []
    handle = made[0][1].register_forward_hook(lambda *_: seen.append("relu"))  # type: ignore[index]
    answers(made)
    assert (seen, calls.call_count) == (["relu"], 1)
    handle.remove()
    answers(made)
    assert (seen, calls.call_count) == (["relu"], 3)


def test_clients_join_layers_and_the_servers_network_stays_as_it_is(calls: Mock) -> None:
    servers = net()
    client = ClientModule(servers, lambda parameters: SGD(parameters, lr=0.1), nn.CrossEntropyLoss())
    assert all(map(torch.equal, answers(client.net), answers(servers)))
    assert calls.call_count == 2
    assert {type(each) for each in (servers, servers[0])} == {nn.Sequential}
