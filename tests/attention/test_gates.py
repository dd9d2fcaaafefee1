"""Properties of every attention module."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

import fedlit.attention
from fedlit.attention import (
    CBAM,
    ECA,
    Channel,
    ChannelMLP,
    GlobalSpatial,
    Sensorwise,
    Spatial,
    SpatioTemporal,
    SqueezeExcite,
    Temporal,
)
from fedlit.core.errors import InputError

CHANNEL = {
    "channel": lambda channels: Channel(channels),
    "channel_mlp": lambda channels: ChannelMLP(channels),
    "squeeze_excite": lambda channels: SqueezeExcite(channels),
    "eca": lambda channels: ECA(channels),
}
SPATIAL = {
    "spatial": lambda channels: Spatial(channels),
    "spatial_group": lambda channels: Spatial(channels, norm="group"),
    "spatial_batch": lambda channels: Spatial(channels, norm="batch"),
    "cbam": lambda channels: CBAM(channels),
    "cbam_batch": lambda channels: CBAM(channels, norm="batch"),
    "global_spatial": lambda channels: GlobalSpatial(channels),
    "spatio_temporal": lambda channels: SpatioTemporal(channels),
}
TEMPORAL = {"temporal": lambda channels: Temporal(channels)}
SENSORWISE = {"sensorwise": lambda channels: Sensorwise(channels)}
#: By the shape of the gate on features (3, 12, 6, 5).
SHAPES = {(3, 12, 1, 1): CHANNEL, (3, 1, 6, 5): SPATIAL, (3, 1, 6, 1): TEMPORAL, (3, 1, 1, 5): SENSORWISE}
ALL = CHANNEL | SPATIAL | TEMPORAL | SENSORWISE
WITHOUT_BATCH_STATISTICS = [name for name in ALL if not name.endswith("_batch")]


def build(name: str, channels: int = 12) -> nn.Module:
    torch.manual_seed(1)
    return ALL[name](channels)


def features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def test_the_variants_above_are_all_that_the_package_exports() -> None:
    assert {type(build(name)).__name__ for name in ALL} == set(fedlit.attention.__all__)


@pytest.mark.parametrize("shape", [(2, 12, 14, 14), (1, 12, 7, 7), (3, 1, 5, 9), (2, 3, 1, 2)], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_the_shape_is_kept(name: str, shape: tuple[int, ...]) -> None:
    x = features(*shape)
    assert build(name, shape[1])(x).shape == x.shape


@pytest.mark.parametrize("name", ALL)
def test_the_gate_lies_between_0_and_1_and_has_one_value_a_channel_or_a_place(name: str) -> None:
    gate = build(name).gate(features(3, 12, 6, 5))
    assert name in SHAPES[tuple(gate.shape)]
    assert ((gate > 0) & (gate < 1)).all()


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("cbam")])
def test_the_output_is_the_input_times_the_gate(name: str) -> None:
    module, x = build(name), features(3, 12, 6, 5)
    torch.testing.assert_close(module(x), x * module.gate(x))


def test_cbam_is_the_channel_gate_followed_by_the_spatial_gate() -> None:
    module, x = build("cbam"), features(3, 12, 6, 5)
    refined = x * module.channel.gate(x)
    torch.testing.assert_close(module.gate(x), module.spatial.gate(refined))
    torch.testing.assert_close(module(x), refined * module.gate(x))


@pytest.mark.parametrize("name", ["channel", "global_spatial", "temporal", "sensorwise"])
def test_an_open_gate_starts_at_the_sigmoid_of_2_everywhere(name: str) -> None:
    x = features(3, 12, 6, 5)
    torch.testing.assert_close(build(name)(x), x / (1 + torch.tensor(-2.0).exp()))


@pytest.mark.parametrize("side", [4, 7, 14])
@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_every_parameter_and_every_cell_of_a_map(name: str, side: int) -> None:
    module = build(name)
    (module(features(4, 12, side, side)) * features(4, 12, side, side).flip(0)).sum().backward()
    for path, parameter in module.named_parameters():
        assert parameter.grad is not None, path
        reached = parameter.grad != 0
        assert reached.all() if path == "grid" else reached.any(), path


@pytest.mark.parametrize("name", ALL)
def test_channels_last_gives_the_same_values_and_stays_channels_last(name: str) -> None:
    module, x = build(name), features(2, 12, 6, 5)
    y = module(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y, module(x))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", WITHOUT_BATCH_STATISTICS)
def test_many_clients_as_one_vmapped_program_give_what_each_gives_alone(name: str) -> None:
    clients, x = [ALL[name](6) for _ in range(3)], features(3, 2, 6, 5, 4)
    with torch.no_grad():
        for client in clients:
            for parameter in client.parameters():
                parameter.normal_()
    parameters, buffers = stack_module_state(clients)

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(clients[0], (parameters, buffers), x).square().sum()

    gradients = vmap(torch.func.grad(loss))(parameters, buffers, x)
    for k, client in enumerate(clients):
        client(x[k]).square().sum().backward()
        for path, parameter in client.named_parameters():
            torch.testing.assert_close(gradients[path][k], parameter.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_autocast_keeps_the_dtype_of_the_features(name: str, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert build(name)(features(2, 12, 6, 5).to(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Channel(0), "channels must be at least 1, got 0; use"),
        (lambda: SqueezeExcite(-1), "channels must be at least 1, got -1; use"),
        (lambda: ECA(0), "channels must be at least 1, got 0; use"),
        (lambda: Spatial(0), "channels must be at least 1, got 0; use"),
        (lambda: GlobalSpatial(0), "channels must be at least 1, got 0; use"),
        (lambda: Temporal(0), "channels must be at least 1, got 0; use"),
        (lambda: SpatioTemporal(8, time_kernel_size=2), "kernel_size must be odd and positive, got 2; use 3"),
        (lambda: ChannelMLP(8, reduction=0), "reduction must be at least 1, got 0; use"),
        (lambda: CBAM(8, min_hidden=0), "min_hidden must be at least 1, got 0; use"),
        (lambda: GlobalSpatial(8, size=0), "size must be at least 1, got 0; use"),
        (lambda: Spatial(8, kernel_size=4), "kernel_size must be odd and positive, got 4; use 5"),
        (lambda: CBAM(8, kernel_size=0), "kernel_size must be odd and positive, got 0; use 1"),
        (lambda: ECA(8, kernel_size=-3), "kernel_size must be odd and positive, got -3; use 1"),
        (lambda: Spatial(8, norm="layer"), "'none', 'group', 'batch', got 'layer'; use 'none'"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_option_is_named_with_its_remedy(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
