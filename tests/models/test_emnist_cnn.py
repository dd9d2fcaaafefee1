from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentError, ArgumentParser
from timm.layers import EcaModule
from torch import Tensor, nn

import fedlit.attention
from fedlit.attention import CBAM, Spatial
from fedlit.core.errors import InputError
from fedlit.models import EmnistCNN

ATTENTIONS = [None, *(getattr(fedlit.attention, name) for name in fedlit.attention.__all__), EcaModule]
images = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def net(*args: object, seed: int = 0, **options: object) -> EmnistCNN:
    torch.manual_seed(seed)
    return EmnistCNN(*args, **options)  # type: ignore[arg-type]


def test_the_default_is_two_convolutions_of_32_and_64_channels_and_128_hidden_units() -> None:
    shapes = {name: tuple(parameter.shape) for name, parameter in net().named_parameters()}
    assert shapes == {
        "blocks.0.conv.weight": (32, 1, 3, 3),
        "blocks.0.conv.bias": (32,),
        "blocks.1.conv.weight": (64, 32, 3, 3),
        "blocks.1.conv.bias": (64,),
        "head.0.weight": (128, 64 * 7 * 7),
        "head.0.bias": (128,),
        "head.3.weight": (47, 128),
        "head.3.bias": (47,),
    }


def test_the_default_computes_conv_relu_pool_twice_and_then_a_perceptron() -> None:
    model = net()
    w = dict(model.named_parameters())
    x = images
    for block in (0, 1):
        x = F.conv2d(x, w[f"blocks.{block}.conv.weight"], w[f"blocks.{block}.conv.bias"], padding=1)
        x = F.max_pool2d(x.relu(), 2)
    x = F.linear(x.flatten(1), w["head.0.weight"], w["head.0.bias"]).relu()
    torch.testing.assert_close(model(images), F.linear(x, w["head.3.weight"], w["head.3.bias"]))


def test_the_first_loss_is_near_that_of_guessing() -> None:
    loss = F.cross_entropy(net()(images), torch.tensor([3, 5]))
    assert loss.item() == pytest.approx(math.log(47), abs=0.1)


@pytest.mark.parametrize("attention", ATTENTIONS, ids=lambda attention: getattr(attention, "__name__", "none"))
@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_gradients_reach_every_parameter_with_any_attention_and_norm(attention: type[nn.Module], norm: str) -> None:
    model = net(attention, norm=norm, widths=(8, 16), hidden=16)
    F.cross_entropy(model(images), torch.tensor([3, 5])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_attention_comes_after_each_block_and_is_named_attention() -> None:
    model = net(CBAM)
    names = [name for name, _ in model.named_parameters() if ".attention." in name]
    assert {name.split(".attention.")[0] for name in names} == {"blocks.0", "blocks.1"}
    seen: list[torch.Size] = []
    for block in model.blocks:
        block.attention.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
    model(images)
    assert seen == [(2, 32, 14, 14), (2, 64, 7, 7)]


@pytest.mark.parametrize("norm", ["none", "group"])
def test_attention_before_the_pool_gates_the_output_of_the_relu(norm: str) -> None:
    model = net(Spatial, norm=norm, attention_at="before_pool")
    x = images
    for block in model.blocks:
        gated = block.attention(block.norm(block.conv(x)).relu())
        assert gated.shape[-1] == x.shape[-1]
        x = F.max_pool2d(gated, 2)
    torch.testing.assert_close(model(images), model.head(x.flatten(1)))


def test_at_one_seed_all_variants_start_from_the_same_weights_elsewhere() -> None:
    plain = net().state_dict()
    attentive = net(CBAM).state_dict()
    assert {name for name in attentive if ".attention." not in name} == set(plain)
    for name, weight in plain.items():
        assert torch.equal(weight, attentive[name]), name


class KernelFirst(nn.Module):
    """It keeps the shape with any size of its kernel."""

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, kernel_size, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x.mean(1, keepdim=True)).sigmoid()


class SimAM(nn.Module):
    def __init__(self, e_lambda: float = 1e-4) -> None:
        super().__init__()


class Windows(nn.Module):
    """Attention within windows of 7x7 places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.within = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.unflatten(2, (-1, 7)).unflatten(4, (-1, 7))  # (B, C, R, 7, S, 7)
        tokens = rows.permute(0, 2, 4, 3, 5, 1).flatten(0, 2).flatten(1, 2)  # (B * R * S, 49, C)
        mixed = self.within(tokens, tokens, tokens, need_weights=False)[0]
        mixed = mixed.view(len(x), rows.shape[2], rows.shape[4], 7, 7, -1).permute(0, 5, 1, 3, 2, 4)
        return x + mixed.reshape(x.shape)


def lazy_places(channels: int) -> nn.Module:
    """A layer over all places, which takes their number from its first input."""
    return nn.Sequential(nn.Flatten(2), nn.LazyLinear(49), nn.Unflatten(2, (7, 7)))


def test_attention_is_built_for_the_size_of_its_feature_map() -> None:
    assert net(Windows, widths=(2, 4))(images).shape == (2, 47)
    assert net(Windows, widths=(2, 4), attention_at="before_pool")(images).shape == (2, 47)
    with pytest.raises(InputError, match=r"attention Windows failed on \(2, 4, 8, 8\)"):
        net(Windows, widths=(4,), image_size=16)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_lazy_attention_takes_its_sizes_from_its_feature_map() -> None:
    assert net(lazy_places, widths=(2,), image_size=14).blocks[0].attention[1].in_features == 49


def test_a_partial_function_is_named_by_what_it_calls() -> None:
    with pytest.raises(InputError, match="attention Spatial failed for 32 channels"):
        net(partial(Spatial, channels=3))
    with pytest.raises(InputError, match=r"the first argument of attention .*KernelFirst is kernel_size"):
        from_command_line("--net.attention", f"{__name__}.KernelFirst")


def test_building_attention_leaves_its_statistics_and_the_random_state_alone() -> None:
    def noisy(channels: int) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(channels, momentum=0.5), nn.Dropout(0.5))

    model = net(noisy, widths=(4,))
    drawn = torch.rand(1)
    net(widths=(4,))
    assert torch.equal(drawn, torch.rand(1))
    assert model.blocks[0].attention[0].num_batches_tracked == 0
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("options", "shape", "classes"),
    [
        ({"image_size": 32, "in_channels": 3, "num_classes": 10}, (2, 3, 32, 32), 10),
        ({"image_size": 29, "widths": [4, 6, 10], "norm": "group"}, (1, 1, 29, 29), 47),
        ({"image_size": 2, "widths": [4]}, (1, 1, 2, 2), 47),
    ],
)
def test_sizes_follow_from_the_options(options: dict[str, object], shape: tuple[int, ...], classes: int) -> None:
    assert net(**options)(torch.randn(shape)).shape == (shape[0], classes)


def test_group_norm_does_not_mix_images_and_batch_norm_does() -> None:
    for norm, alone in {"group": True, "batch": False}.items():
        model = net(norm=norm, widths=(8,))
        assert torch.allclose(model(images)[:1], model(images[:1]), atol=1e-6) is alone


def test_dropout_is_active_in_training_only() -> None:
    model = net(dropout=0.5)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_channels_last_gives_the_same_logits() -> None:
    x = torch.randn(3, 1, 28, 28)
    model = net(Spatial)
    expected = model(x)
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0; use"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0; use"),
        ({"hidden": -1}, "hidden must be at least 1, got -1; use"),
        ({"widths": []}, r"widths must be one or more positive numbers, got \[\]; use"),
        ({"widths": [8, 0]}, r"widths must be one or more positive numbers, got \[8, 0\]; use"),
        ({"image_size": 3}, "image_size 3 is too small for 2 blocks; use 4 or more"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0; use 0"),
        ({"attention_at": "start"}, "attention_at must be one of 'after_pool', 'before_pool', got 'start'; use"),
        ({"norm": "layer"}, "norm must be one of 'none', 'group', 'batch', got 'layer'; use"),
        ({"attention": nn.Conv2d}, "attention Conv2d failed for 32 channels .*out_channels.*; use a class"),
        ({"attention": lambda channels: channels}, "returned a int, not a module; use a class"),
        ({"attention": nn.LayerNorm}, r"attention LayerNorm failed on \(2, 32, 14, 14\) .*; use a class"),
        ({"attention": nn.AdaptiveAvgPool2d}, r"turned \(2, 32, 14, 14\) into \(2, 32, 32, 32\); use a class"),
        ({"attention": Spatial(32)}, r"attention Spatial\( \(conv\): Conv2d.* failed for 32 channels .*; use a class"),
        (
            {"attention": KernelFirst},
            "first argument of attention KernelFirst is kernel_size, not the number of .*; use",
        ),
        (
            {"attention": SimAM},
            "first argument of attention SimAM is e_lambda, not the number of channels; use a class",
        ),
        ({"attention": lambda channels: Spatial(channels, 4)}, "kernel_size must be odd and positive, got 4; use 5"),
    ],
)
def test_a_bad_option_is_named_with_its_remedy(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        net(**options)
    assert "\n" not in str(caught.value)


def from_command_line(*arguments: str) -> EmnistCNN:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=nn.Module)
    config = parser.parse_args(["--net", "fedlit.models.EmnistCNN", *arguments])
    model = parser.instantiate(config).net
    assert isinstance(model, EmnistCNN)
    return model


def test_the_command_line_chooses_attention_by_class_path_with_options() -> None:
    model = from_command_line("--net.attention", "fedlit.attention.Spatial", "--net.attention.kernel_size", "5")
    assert isinstance(model.blocks[1].attention, Spatial)
    assert model.blocks[1].attention.conv.kernel_size == (5, 5)


def test_the_command_line_accepts_a_users_attention() -> None:
    model = from_command_line("--net.attention", "timm.layers.EcaModule", "--net.widths", "[64, 128]")
    assert [block.attention.conv.kernel_size for block in model.blocks] == [(3,), (5,)]
    assert all(isinstance(block.attention, EcaModule) for block in model.blocks)


def test_the_command_line_refuses_a_class_path_that_does_not_exist() -> None:
    with pytest.raises(ArgumentError, match=r"fedlit\.attention\.Nothing"):
        from_command_line("--net.attention", "fedlit.attention.Nothing")


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28), standardised, and labels (N,): the idx headers are 16 and 8 bytes long."""
    raw = folder / "EMNIST" / "raw"
    pixels = np.fromfile(raw / f"emnist-balanced-{part}-images-idx3-ubyte", np.uint8, offset=16)
    labels = np.fromfile(raw / f"emnist-balanced-{part}-labels-idx1-ubyte", np.uint8, offset=8)
    standardised = (torch.from_numpy(pixels).view(-1, 1, 28, 28) / 255 - 0.1736) / 0.3317
    return standardised.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels).long()


@pytest.mark.slow
def test_reaches_87_percent_centralised_on_real_characters(real_data: Path) -> None:
    (x, y), (x_test, y_test) = read(real_data, "train"), read(real_data, "test")
    model = net(norm="batch", dropout=0.3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    epochs, batches = 8, len(x) // 64
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=epochs * batches)
    for _ in range(epochs):
        for batch in torch.randperm(len(x))[: 64 * batches].view(batches, 64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        predicted = torch.cat([model.eval()(block).argmax(1) for block in x_test.split(500)])
    assert (predicted == y_test).double().mean() >= 0.87
