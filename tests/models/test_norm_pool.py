"""Group norm, ReLU and pool as one operation, against PyTorch's three in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import federations
import pytest
import torch
import torch.nn.functional as F
from federations import fit
from odd_nets import group_norm
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedlit.core.layout import read_state
from fedlit.engines import Engine, LoopEngine, VectorizedEngine
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.models import EmnistCNN, loops
from fedlit.models.norm_pool import norm_pool
from fedlit.native.versions import PYTORCH, runnable, version

each_version = pytest.mark.parametrize("name", runnable())
#: Images, groups, channels, height, width.
SIZES = [
    (32, 8, 32, 28, 28),
    (4, 8, 64, 14, 14),
    (1, 4, 16, 6, 6),
    (2, 1, 16, 5, 8),
    (2, 16, 16, 8, 5),
    (3, 3, 48, 7, 7),
    (2, 2, 32, 2, 2),
    (2, 8, 80, 3, 9),
]


@contextmanager
def running(name: str) -> Iterator[None]:
    """With that version of the loops, or PyTorch's kernels alone."""
    with patch.object(loops, "version", lambda: name):
        yield


@contextmanager
def by_loops(name: str) -> Iterator[None]:
    """With that version, which has to run."""
    with running(name), patch.object(F, "max_pool2d", side_effect=AssertionError("PyTorch's was taken")):
        yield


def norm(groups: int, channels: int, **arguments: bool) -> nn.GroupNorm:
    """With weights and biases of both signs."""
    made, generator = group_norm(groups, channels, **arguments), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made


def images(*shape: int) -> Tensor:
    """Whose mean is not 0, with channels last."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 2 + 1
    return drawn.to(memory_format=torch.channels_last).requires_grad_()


def results(x: Tensor, made: nn.Module) -> list[Tensor]:
    """Outputs, and gradients of their sum with random factors: of x, weight and bias."""
    output = norm_pool(x, made)
    factors = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output.dtype)
    return [output, *torch.autograd.grad(output, [x, *made.parameters()], factors, retain_graph=True)]


def exact(x: Tensor, made: nn.GroupNorm, **arguments: bool) -> list[Tensor]:
    """The same in float64, which is PyTorch's."""
    twin = group_norm(made.num_groups, made.num_channels, **arguments).double()
    twin.eps = made.eps
    twin.load_state_dict(made.state_dict())
    return results(x.detach().double().requires_grad_(), twin)


@each_version
@pytest.mark.parametrize("arguments", [{}, {"affine": False}, {"bias": False}], ids=("affine", "plain", "no bias"))
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_the_three_operations(size: tuple[int, ...], arguments: dict[str, bool], name: str) -> None:
    count, groups, channels, height, width = size
    x, made = images(count, channels, height, width), norm(groups, channels, **arguments)
    with by_loops(name):
        found = results(x, made)
    for ours, theirs in zip(found, exact(x, made, **arguments), strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


@each_version
def test_rounding_errors_are_no_larger_than_pytorchs_for_a_large_mean(name: str) -> None:
    """As after a convolution with a large bias: the mean is much larger than the standard deviation."""
    x, made = (images(2, 32, 64, 64) + 300).detach().requires_grad_(), norm(4, 32)
    wanted = exact(x, made)
    with by_loops(name):
        ours = results(x, made)
    with running(PYTORCH):
        theirs = results(x, made)
    assert (ours[0] - wanted[0]).abs().max() <= 2 * (theirs[0] - wanted[0]).abs().max()


@each_version
def test_any_layout_and_slices_of_larger_tensors(name: str) -> None:
    made, x = norm(4, 16), images(6, 16, 8, 8).detach()
    for each in (x[::2], x.contiguous(), x[:, :, 1:7, 2:], x[3:]):
        each = each.requires_grad_()
        with by_loops(name):
            found = results(each, made)
        for ours, theirs in zip(found, exact(each, made), strict=True):
            assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_all_versions_give_the_same_bits() -> None:
    """The results of a run do not depend on which of them its processor takes."""
    for count, groups, channels, height, width in SIZES:
        x, made = images(count, channels, height, width), norm(groups, channels)
        found = []
        for name in runnable():
            with by_loops(name):
                found.append(results(x, made))
        for other in found[1:]:
            assert all(map(torch.equal, other, found[0]))


@each_version
def test_ties_go_to_the_first_place_and_zeros_get_no_gradient(name: str) -> None:
    """As in PyTorch: with a weight of 0 all places are equal; ReLU has no slope at 0."""
    x, made = images(2, 16, 4, 4), norm(4, 16)
    for bias in (0.0, 1.0):
        nn.init.zeros_(made.weight)
        nn.init.constant_(made.bias, bias)
        with by_loops(name):
            found = results(x, made)
        for ours, theirs in zip(found, exact(x, made), strict=True):
            torch.testing.assert_close(ours, theirs.float())


@each_version
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_is_not_hidden(value: float, name: str) -> None:
    """A fit that diverges has to be seen: it spoils its group in its image, and nothing else."""
    x, made = images(2, 16, 5, 4), norm(4, 16)
    with torch.no_grad():
        x[1, 5, 2, 3] = value
    with by_loops(name):
        output = norm_pool(x, made)
    torch.testing.assert_close(output, F.max_pool2d(made(x), 2).relu(), equal_nan=True)
    spoilt = output.isnan().all(-1).all(-1)
    assert spoilt.nonzero().tolist() == [[1, 4], [1, 5], [1, 6], [1, 7]]


@each_version
def test_gradients_of_gradients(name: str) -> None:
    """A penalty on a gradient can be trained."""
    x, made = images(2, 16, 6, 6), norm(4, 16)
    inputs = [x, *made.parameters()]

    def penalty(output: Tensor) -> Tensor:
        of_all = torch.autograd.grad(output.square().sum(), inputs, create_graph=True)
        return torch.stack([g.square().sum() for g in of_all]).sum()

    with running(name):
        mine = torch.autograd.grad(penalty(norm_pool(x, made)), inputs)
    theirs = torch.autograd.grad(penalty(F.max_pool2d(made(x), 2).relu()), inputs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-2)


@each_version
def test_the_order_of_sums_is_fixed(name: str) -> None:
    """The same bits twice, for any previous content of memory."""
    x, made = images(4, 16, 9, 9), norm(4, 16)
    with by_loops(name):
        first = results(x, made)
        torch.full((10_000,), float("nan"))
        assert all(map(torch.equal, results(x, made), first))


def is_pytorchs(x: Tensor, made: nn.Module) -> bool:
    with patch.object(F, "max_pool2d", wraps=F.max_pool2d) as call:
        norm_pool(x, made)
    return call.called


class Own(nn.GroupNorm):
    pass


def test_in_other_cases_pytorchs_kernels_run() -> None:
    """In other types and on more threads, under autocast, for other norms and sizes, where hooks are to be called."""
    x, made = images(2, 16, 6, 6), norm(4, 16)
    assert is_pytorchs(x, made) is (version() == PYTORCH)
    assert is_pytorchs(x.double(), norm(4, 16).double())
    assert is_pytorchs(x.bfloat16(), norm(4, 16).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert is_pytorchs(x, made)
    with running(PYTORCH):
        assert is_pytorchs(x, made)
    for other in (nn.BatchNorm2d(16), nn.Identity(), Own(4, 16)):
        assert is_pytorchs(x, other)
    assert is_pytorchs(images(2, 24, 6, 6), norm(4, 24))
    assert is_pytorchs(images(0, 16, 6, 6), made)
    torch.set_num_threads(2)
    assert is_pytorchs(x, made)
    torch.set_num_threads(1)
    seen: list[str] = []
    made.register_forward_hook(lambda *_: seen.append("hook"))
    assert is_pytorchs(x, made)
    assert seen == ["hook"]


def test_invalid_inputs_are_left_to_pytorch() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        norm_pool(images(2, 16, 6, 6), norm(4, 32))
    with pytest.raises(RuntimeError, match=r"[Oo]utput size is too small"):
        norm_pool(images(2, 16, 1, 6), norm(4, 16))


def test_transforms_work_on_the_operation() -> None:
    """Transforms that vectorize and differentiate functions get PyTorch's operations, and the same gradients."""
    x, made = images(3, 16, 6, 6).detach(), norm(4, 16)
    weights = {name: parameter.detach() for name, parameter in made.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return norm_pool(x[None], lambda z: functional_call(made, weights, z)).square().sum()  # type: ignore[arg-type]

    of_each = vmap(grad(loss), (None, 0))(weights, x)
    whole = torch.autograd.grad(norm_pool(x, made).square().sum(), list(made.parameters()))
    for each, all_together in zip(of_each.values(), whole, strict=True):
        torch.testing.assert_close(each.sum(0), all_together, rtol=1e-4, atol=1e-3)


def test_engines_agree_on_a_network_with_it_and_a_second_fit_is_as_good_as_the_first() -> None:
    """The vectorized engine goes its own way, to the same to rounding."""

    def weights(engine: Engine, fits: int) -> Tensor:
        torch.manual_seed(0)
        net = EmnistCNN(num_classes=3, image_size=8, widths=(16,), hidden=8, norm="group")
        federated, loop = FederatedModule(net), FederatedLoop(2, 1, seed=0, engine=engine)
        for _ in range(fits):
            fit(federated, loop, federations.images(), rounds=1)
        return read_state(federated.net, federated.layout).floats.clone()

    once = weights(LoopEngine(), 1)
    assert torch.equal(weights(LoopEngine(), 1), once)
    assert torch.equal(weights(LoopEngine(), 2), weights(LoopEngine(), 2))
    torch.testing.assert_close(weights(VectorizedEngine(), 1), once, rtol=1e-3, atol=1e-4)
