import torch
from torch import nn

from fedlit.federated.state import Layout, read, write


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
    write(other, layout, read(one, layout))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_buffers_alone_can_be_written():
    one, other = some_net(), some_net()
    other[1].running_mean.zero_()
    before = other[0].weight.clone()
    layout = Layout.of(one)
    write(other, layout, read(one, layout), trainable=False)
    assert torch.equal(other[0].weight, before)
    assert torch.equal(other[1].running_mean, one[1].running_mean)


def test_reading_copies():
    net = some_net()
    layout = Layout.of(net)
    state = read(net, layout)
    with torch.no_grad():
        net[0].weight.fill_(9)
    assert not (state.floats == 9).any()


def test_double_precision_survives():
    net = nn.Linear(2, 2).double()
    net.weight.data.fill_(1 / 3)
    layout = Layout.of(net)
    assert read(net, layout).floats.dtype == torch.float64
    assert (read(net, layout).floats[:4] == 1 / 3).all()
