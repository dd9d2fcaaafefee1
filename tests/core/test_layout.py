import pytest
import torch
from torch import nn

from fedlit.core.errors import InputError
from fedlit.core.layout import Layout, read_state, shaped, write_state


class Whole(nn.Module):
    """Buffers of every kind that is no floating-point one."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))
        self.register_buffer("mask", torch.tensor([[True, False], [False, True]]))
        self.register_buffer("large", torch.tensor(2**62 + 1))
        self.register_buffer("small", torch.tensor([255, 0, 7], dtype=torch.uint8))
        self.register_buffer("on", torch.tensor(True))


def some_net() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False))
    net[2].weight.requires_grad_(False)
    net[1].running_mean += 5
    net[1].num_batches_tracked += 7
    return net


def test_trainable_parameters_come_first_then_frozen_ones_and_buffers_then_counts():
    layout = Layout.of(some_net())
    assert layout.trainable == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert layout.fixed == ("1.running_mean", "1.running_var", "2.weight")
    assert layout.counts == ("1.num_batches_tracked",)
    assert layout.num_trainable == 6 + 3 + 3 + 3


def test_what_is_written_is_what_was_read():
    one, other = some_net(), some_net()
    layout = Layout.of(one)
    write_state(other, layout, read_state(one, layout))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_integers_and_booleans_come_back_in_their_own_types_whatever_their_size():
    one, other = Whole(), Whole()
    for buffer in other.buffers():
        buffer.zero_()
    layout = Layout.of(one)
    assert (layout.counts, layout.flags) == (("large", "small"), ("mask", "on"))
    state = read_state(one, layout)
    assert state.counts.tolist() == [2**62 + 1, 255, 0, 7]
    assert state.flags.tolist() == [True, False, False, True, True]
    write_state(other, layout, state)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
        assert tensor.dtype == other.state_dict()[name].dtype


def test_complex_numbers_are_refused_with_the_remedy():
    net = nn.Linear(2, 2)
    net.register_buffer("phases", torch.zeros(3, dtype=torch.complex64))
    with pytest.raises(InputError, match=r"the net's phases holds complex numbers.*view_as_real"):
        Layout.of(net)
    net.register_buffer("phases", torch.zeros(3, dtype=torch.complex64), persistent=False)
    assert Layout.of(net).fixed == ()


def test_buffers_alone_can_be_written():
    one, other = some_net(), some_net()
    other[1].running_mean.zero_()
    before = other[0].weight.clone()
    layout = Layout.of(one)
    write_state(other, layout, read_state(one, layout), trainable=False)
    assert torch.equal(other[0].weight, before)
    assert torch.equal(other[1].running_mean, one[1].running_mean)


def test_reading_copies():
    net = some_net()
    layout = Layout.of(net)
    state = read_state(net, layout)
    with torch.no_grad():
        net[0].weight.fill_(9)
    assert not (state.floats == 9).any()


def test_a_tensor_without_dimensions_has_its_shape():
    net = nn.Linear(2, 1, bias=False)
    net.register_buffer("temperature", torch.tensor(3.0))
    layout = Layout.of(net)
    floats = read_state(net, layout).floats
    one, two = shaped(net, layout, floats), shaped(net, layout, floats.repeat(2, 1))
    assert {name: (one[name].shape, two[name].shape) for name in one} == {
        "weight": ((1, 2), (2, 1, 2)),
        "temperature": ((), (2,)),
    }
    assert two["temperature"].tolist() == [3.0, 3.0]


def test_double_precision_survives():
    net = nn.Linear(2, 2).double()
    net.weight.data.fill_(1 / 3)
    layout = Layout.of(net)
    assert read_state(net, layout).floats.dtype == torch.float64
    assert (read_state(net, layout).floats[:4] == 1 / 3).all()


class Extra(nn.Linear):
    """Keeps more than tensors."""

    def get_extra_state(self):
        return {"seen": 1}


class ExtraTensor(nn.Linear):
    def get_extra_state(self):
        return torch.ones(2)


class Copying(nn.Linear):
    """Gives copies of its tensors."""

    def state_dict(self, *args, **kwargs):
        return {name: tensor.clone() for name, tensor in super().state_dict(*args, **kwargs).items()}


@pytest.mark.parametrize(
    ("kind", "name"), [(Extra, "_extra_state"), (ExtraTensor, "_extra_state"), (Copying, "weight")]
)
def test_a_state_that_cannot_be_written_is_refused(kind, name):
    with pytest.raises(InputError, match=f"state_dict has {name}, .* none of its parameters and buffers"):
        Layout.of(kind(2, 2))
