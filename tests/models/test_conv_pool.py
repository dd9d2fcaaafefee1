"""The one operation against PyTorch's three."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, vmap

from fedlit.models import EmnistCNN
from fedlit.models import conv_pool as module
from fedlit.models.conv_pool import MANY_THREADS, conv_pool, reference
from fedlit.native import library

compiled = pytest.mark.skipif(not library("conv_pool"), reason="fedlit was installed without a C compiler")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def whole_numbers(*shape: int, seed: int) -> Tensor:
    """From -3 to 3: sums of their products are exact, in whatever order they are made, and many are equal."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def operands(images: int, depth: int, channels: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, ...]:
    """x, weight and bias."""
    shapes = (images, depth, height, width), (channels, depth, 3, 3), (channels,)
    return tuple(whole_numbers(*shape, seed=seed + i).requires_grad_() for i, shape in enumerate(shapes))


def gradients(output: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Of the outputs' sum with random factors."""
    return torch.autograd.grad(output, inputs, whole_numbers(*output.shape, seed=99))


def assert_same(inputs: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    """Outputs and gradients are PyTorch's."""
    with patch.object(module, "reference", side_effect=AssertionError("PyTorch's was taken")):
        mine = conv_pool(*inputs)
    theirs = reference(*inputs)
    assert torch.equal(mine, theirs)
    for a, b in zip(gradients(mine, wanted), gradients(theirs, wanted), strict=True):
        assert torch.equal(a, b)


@compiled
@settings(deadline=None, max_examples=300)
@given(
    images=st.integers(1, 5),
    depth=st.sampled_from((1, 2, 3, 16, 32, 48, 80)),
    channels=st.sampled_from((1, 2, 7, 16, 32, 33)),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_it_is_the_three_operations(
    images: int, depth: int, channels: int, height: int, width: int, seed: int, data: st.DataObject
) -> None:
    """Of any size, with any of the inputs fixed."""
    inputs = operands(images, depth, channels, height, width, seed)
    chosen = data.draw(st.sets(st.sampled_from(range(3)), min_size=1))
    for i in set(range(3)) - chosen:
        inputs[i].requires_grad_(False)
    assert_same(inputs, tuple(inputs[i] for i in sorted(chosen)))


@compiled
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=("contiguous", "channels-last"))
@pytest.mark.parametrize(("depth", "channels", "side"), [(1, 32, 28), (32, 64, 14)], ids=("first block", "second"))
def test_the_blocks_of_the_network(depth: int, channels: int, side: int, layout: torch.memory_format) -> None:
    """In both layouts, on slices of larger tensors too."""
    x, weight, bias = (t.detach() for t in operands(8, depth, channels, side, side))
    x, weight = (t.to(memory_format=layout) for t in (x, weight))
    inputs = x[::2], weight.requires_grad_(), bias.repeat_interleave(2)[::2].requires_grad_()
    assert_same(inputs, inputs[1:])
    assert_same((x[1:].requires_grad_(), *inputs[1:]), inputs[1:])


@compiled
def test_ties_go_to_the_first_place_and_zeros_get_no_gradient() -> None:
    """As in PyTorch: the maximum is where it is met first, and ReLU has no slope at 0."""
    weight, bias = torch.zeros(1, 1, 3, 3), torch.zeros(1, requires_grad=True)
    weight[0, 0, 1, 1] = 1
    for x in (torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)):
        inputs = x.requires_grad_(), weight.requires_grad_(), bias
        for mine, theirs in zip(
            gradients(conv_pool(*inputs), inputs), gradients(reference(*inputs), inputs), strict=True
        ):
            assert torch.equal(mine, theirs)


@compiled
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_not_hidden(value: float, depth: int, place: int) -> None:
    """A fit that diverges has to be seen: NaN comes through ReLU and maximum."""
    x, weight, bias = operands(1, depth, 2, 4, 4)
    with torch.no_grad():
        x[0, 0, 1 + place // 2, 1 + place % 2] = value
        torch.testing.assert_close(conv_pool(x, weight, bias), reference(x, weight, bias), equal_nan=True)


@compiled
@pytest.mark.parametrize("depth", [1, 3, 16])
def test_gradients_of_gradients(depth: int) -> None:
    """A penalty on a gradient can be trained."""
    inputs = operands(2, depth, 4, 6, 6)

    def penalty(output: Tensor) -> Tensor:
        of_all = torch.autograd.grad(output.square().sum(), inputs, create_graph=True)
        return torch.stack([g.square().sum() for g in of_all]).sum()

    mine = torch.autograd.grad(penalty(conv_pool(*inputs)), inputs)
    theirs = torch.autograd.grad(penalty(reference(*inputs)), inputs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


@compiled
def test_the_order_of_sums_is_fixed() -> None:
    """Twice the same bits, whatever memory held before."""
    generator = torch.Generator().manual_seed(0)  # not whole numbers: of these any order gives the same
    shapes = [tensor.shape for tensor in operands(4, 16, 16, 8, 8)]
    inputs = tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)
    first = gradients(conv_pool(*inputs), inputs)
    torch.full((10_000,), float("nan"))
    for a, b in zip(first, gradients(conv_pool(*inputs), inputs), strict=True):
        assert torch.equal(a, b)


def taken_from_pytorch(*inputs: Tensor) -> bool:
    with patch.object(module, "reference", wraps=reference) as call:
        conv_pool(*inputs)
    return call.called


def test_elsewhere_it_is_pytorchs() -> None:
    """In other types and on many threads, under transforms and autocast, and without the library."""
    inputs = operands(2, 1, 4, 6, 6)
    assert taken_from_pytorch(*inputs) is (not library("conv_pool"))
    assert taken_from_pytorch(*(t.double() for t in inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert taken_from_pytorch(*inputs)
    with patch.object(module, "library", return_value=None):
        assert taken_from_pytorch(*inputs)
    torch.set_num_threads(MANY_THREADS)
    assert taken_from_pytorch(*inputs)


def test_transforms_see_through_it() -> None:
    """What vectorizes and differentiates functions gets PyTorch's operations, and the same gradients."""
    x, weight, bias = (t.detach() for t in operands(3, 1, 16, 6, 6))

    def loss(weight: Tensor, x: Tensor) -> Tensor:
        return conv_pool(x[None], weight, bias).square().sum()

    of_each = vmap(grad(loss), (None, 0))(weight, x)
    weight.requires_grad_()
    (whole,) = torch.autograd.grad(conv_pool(x, weight, bias).square().sum(), weight)
    torch.testing.assert_close(of_each.sum(0), whole, rtol=1e-4, atol=1e-3)


def test_empty_inputs_and_wrong_ones_are_pytorchs_to_judge() -> None:
    _, weight, bias = operands(1, 3, 4, 6, 6)
    assert conv_pool(torch.empty(0, 3, 6, 6), weight, bias).shape == (0, 4, 3, 3)
    with pytest.raises(RuntimeError, match="to have 3 channels"):
        conv_pool(torch.rand(2, 1, 6, 6), weight, bias)


@compiled
@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_network_takes_the_same_step(norm: str) -> None:
    """With the norm between convolution and pool there is nothing to fuse, and nothing changes."""
    torch.manual_seed(0)
    net = EmnistCNN(norm=norm)  # type: ignore[arg-type]
    x, y = torch.randn(6, 1, 28, 28), torch.arange(6)

    def step() -> list[Tensor]:
        loss = torch.nn.functional.cross_entropy(net(x), y)
        return list(torch.autograd.grad(loss, list(net.parameters())))

    mine = step()
    with patch.object(module, "library", return_value=None):
        theirs = step()
    for a, b in zip(mine, theirs, strict=True):
        # Places that are equal but for rounding may change which of them a gradient goes to: one of many.
        assert (a - b).norm() <= 1e-2 * b.norm()
        assert torch.equal(a, b) or norm == "none"
