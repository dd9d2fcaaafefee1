"""The joined operation, compared with PyTorch's three."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, vmap

from fedlit.models import EmnistCNN, loops
from fedlit.models import conv_pool as module
from fedlit.models.conv_pool import THREADS, conv_pool, reference
from fedlit.native.versions import PYTORCH, runnable, version

compiled = pytest.mark.skipif(not runnable(), reason="no version of the loops in C runs here")
each_version = pytest.mark.parametrize("name", runnable())


@contextmanager
def running(name: str) -> Iterator[None]:
    """With that version of the loops."""
    with patch.object(loops, "version", lambda: name):
        yield


def whole_numbers(*shape: int, seed: int) -> Tensor:
    """Whole numbers from -3 to 3: sums of their products are exact in any order, and many are equal."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def operands(images: int, depth: int, channels: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, ...]:
    """x, weight and bias; of grey images the gradient is not asked for."""
    shapes = (images, depth, height, width), (channels, depth, 3, 3), (channels,)
    wanted = depth > 1, True, True
    return tuple(whole_numbers(*shape, seed=seed + i).requires_grad_(wanted[i]) for i, shape in enumerate(shapes))


def with_gradient(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor for tensor in inputs if tensor.requires_grad)


def gradients(output: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Of the outputs' sum with random factors."""
    return torch.autograd.grad(output, inputs, whole_numbers(*output.shape, seed=99), retain_graph=True)


def results(inputs: tuple[Tensor, ...], name: str) -> tuple[Tensor, ...]:
    """Outputs and gradients of that version."""
    with running(name), patch.object(module, "reference", side_effect=AssertionError("PyTorch's was taken")):
        output = conv_pool(*inputs)
        return output, *gradients(output, with_gradient(inputs))


def assert_same(inputs: tuple[Tensor, ...]) -> None:
    """Outputs and gradients are PyTorch's, in every version."""
    output = reference(*inputs)
    theirs = output, *gradients(output, with_gradient(inputs))
    for name in runnable():
        assert all(map(torch.equal, results(inputs, name), theirs))


@compiled
@settings(deadline=None, max_examples=100)
@given(
    images=st.integers(2, 5),
    depth=st.sampled_from((1, 16, 32, 48, 80)),
    channels=st.sampled_from((16, 32, 48)),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    seed=st.integers(0, 1000),
)
def test_it_is_the_three_operations(images: int, depth: int, channels: int, height: int, width: int, seed: int) -> None:
    """Of any size."""
    assert_same(operands(images, depth, channels, height, width, seed))


@compiled
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=("contiguous", "channels-last"))
@pytest.mark.parametrize(("depth", "channels", "side"), [(1, 32, 28), (32, 64, 14)], ids=("first block", "second"))
def test_the_blocks_of_the_network(depth: int, channels: int, side: int, layout: torch.memory_format) -> None:
    """In both layouts, on slices of larger tensors too."""
    x, weight, bias = (t.detach() for t in operands(8, depth, channels, side, side))
    x, weight = (t.to(memory_format=layout) for t in (x, weight))
    inputs = x[::2].requires_grad_(depth > 1), weight.requires_grad_(), bias.repeat_interleave(2)[::2].requires_grad_()
    assert_same(inputs)
    assert_same((x[1:].requires_grad_(depth > 1), *inputs[1:]))


@compiled
@settings(deadline=None, max_examples=50)
@given(
    depth=st.sampled_from((1, 16, 48, 96)),
    channels=st.sampled_from((16, 48)),
    height=st.integers(2, 15),
    width=st.integers(2, 15),
    seed=st.integers(0, 1000),
)
def test_all_versions_give_the_same_bits(depth: int, channels: int, height: int, width: int, seed: int) -> None:
    """Of real numbers too: the results of a run do not depend on which of them its processor takes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(
        torch.randn(like.shape, generator=generator).requires_grad_(like.requires_grad)
        for like in operands(3, depth, channels, height, width)
    )
    first, *others = (results(inputs, name) for name in runnable())
    for other in others:
        assert all(map(torch.equal, other, first))


@compiled
def test_ties_go_to_the_first_place_and_zeros_get_no_gradient() -> None:
    """As in PyTorch: the first of equal maxima counts, and ReLU has no slope at 0."""
    weight, bias = torch.zeros(16, 1, 3, 3), torch.zeros(16, requires_grad=True)
    weight[:, 0, 1, 1] = 1
    for x in (torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)):
        assert_same((x, weight.requires_grad_(), bias))


@each_version
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_is_not_hidden(value: float, depth: int, place: int, name: str) -> None:
    """A fit that diverges has to be seen: NaN comes through ReLU and maximum."""
    x, weight, bias = operands(2, depth, 16, 4, 4)
    with torch.no_grad():
        x[0, 0, 1 + place // 2, 1 + place % 2] = value
    wanted = reference(x, weight, bias)
    with running(name), patch.object(module, "reference", side_effect=AssertionError("PyTorch's was taken")):
        torch.testing.assert_close(conv_pool(x, weight, bias), wanted, equal_nan=True)


@each_version
@pytest.mark.parametrize("depth", [1, 16])
def test_gradients_of_gradients(depth: int, name: str) -> None:
    """A penalty on a gradient can be trained."""
    inputs = operands(2, depth, 16, 6, 6)
    wanted = with_gradient(inputs)

    def penalty(output: Tensor) -> Tensor:
        of_all = torch.autograd.grad(output.square().sum(), wanted, create_graph=True)
        return torch.stack([g.square().sum() for g in of_all]).sum()

    with running(name):
        mine = torch.autograd.grad(penalty(conv_pool(*inputs)), wanted)
    theirs = torch.autograd.grad(penalty(reference(*inputs)), wanted)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


@each_version
def test_the_order_of_sums_is_fixed(name: str) -> None:
    """The same bits twice, for any previous content of memory."""
    generator = torch.Generator().manual_seed(0)  # not whole numbers: of these any order gives the same
    shapes = [tensor.shape for tensor in operands(4, 16, 16, 8, 8)]
    inputs = tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)
    with running(name):
        first = gradients(conv_pool(*inputs), inputs)
        torch.full((10_000,), float("nan"))
        for a, b in zip(first, gradients(conv_pool(*inputs), inputs), strict=True):
            assert torch.equal(a, b)


def taken_from_pytorch(*inputs: Tensor) -> bool:
    with patch.object(module, "reference", wraps=reference) as call:
        conv_pool(*inputs)
    return call.called


def test_in_other_cases_pytorchs_kernels_run() -> None:
    """In other types and on many threads, under transforms and autocast, and without a version for the processor."""
    inputs = operands(2, 1, 16, 6, 6)
    assert taken_from_pytorch(*inputs) is (version() == PYTORCH)
    assert taken_from_pytorch(*(t.double() for t in inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert taken_from_pytorch(*inputs)
    with running(PYTORCH):
        assert taken_from_pytorch(*inputs)
    torch.set_num_threads(THREADS + 1)
    assert taken_from_pytorch(*inputs)


@each_version
@pytest.mark.parametrize(
    ("images", "depth", "channels", "gradients_of", "threads", "wins"),
    [
        (2, 1, 16, "weight bias", 1, True),
        (2, 1, 16, "weight bias", 2, True),
        (2, 1, 16, "", 1, True),
        (2, 1, 16, "", 2, False),
        (2, 1, 16, "bias", 1, False),
        (2, 1, 16, "x weight bias", 1, False),
        (2, 16, 48, "x weight bias", 1, True),
        (2, 16, 48, "x weight bias", 2, False),
        (2, 16, 48, "weight bias", 1, False),
        (2, 16, 48, "x", 1, False),
        (2, 16, 48, "", 1, False),
        (1, 1, 16, "weight bias", 1, False),
        (1, 16, 16, "x weight bias", 1, False),
        (2, 3, 32, "x weight bias", 1, False),
        (2, 24, 32, "x weight bias", 1, False),
        (2, 1, 8, "weight bias", 1, False),
        (2, 16, 40, "x weight bias", 1, False),
    ],
)
def test_the_loops_run_where_they_were_measured_to_be_faster(
    images: int, depth: int, channels: int, gradients_of: str, threads: int, wins: bool, name: str
) -> None:
    torch.set_num_threads(threads)
    inputs = operands(images, depth, channels, 6, 6)
    for tensor, which in zip(inputs, ("x", "weight", "bias"), strict=True):
        tensor.requires_grad_(which in gradients_of.split())
    with running(name):
        assert taken_from_pytorch(*inputs) is not wins
        with torch.no_grad():
            assert taken_from_pytorch(*inputs) is not (images > 1 and depth == 1 and channels == 16 and threads == 1)


def test_transforms_work_on_the_operation() -> None:
    """Transforms that vectorize and differentiate functions get PyTorch's operations, and the same gradients."""
    x, weight, bias = (t.detach() for t in operands(3, 1, 16, 6, 6))

    def loss(weight: Tensor, x: Tensor) -> Tensor:
        return conv_pool(x[None], weight, bias).square().sum()

    of_each = vmap(grad(loss), (None, 0))(weight, x)
    weight.requires_grad_()
    (whole,) = torch.autograd.grad(conv_pool(x, weight, bias).square().sum(), weight)
    torch.testing.assert_close(of_each.sum(0), whole, rtol=1e-4, atol=1e-3)


def test_empty_and_invalid_inputs_are_left_to_pytorch() -> None:
    _, weight, bias = operands(1, 3, 4, 6, 6)
    assert conv_pool(torch.empty(0, 3, 6, 6), weight, bias).shape == (0, 4, 3, 3)
    with pytest.raises(RuntimeError, match="to have 3 channels"):
        conv_pool(torch.rand(2, 1, 6, 6), weight, bias)


@each_version
@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_network_takes_the_same_step(norm: str, name: str) -> None:
    """With and without the norm between convolution and pool."""
    torch.manual_seed(0)
    net = EmnistCNN(norm=norm)  # type: ignore[arg-type]
    x, y = torch.randn(6, 1, 28, 28), torch.arange(6)

    def step() -> list[Tensor]:
        loss = torch.nn.functional.cross_entropy(net(x), y)
        return list(torch.autograd.grad(loss, list(net.parameters())))

    with running(name):
        mine = step()
    with running(PYTORCH):
        theirs = step()
    for a, b in zip(mine, theirs, strict=True):
        # Places that are equal but for rounding may change which of them a gradient goes to: one of many.
        assert (a - b).norm() <= 1e-2 * b.norm()
