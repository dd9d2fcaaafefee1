"""Reasons why clients cannot train as one batched program: it would fail or compute something else than each alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from fedlit.clients.client import ClientModule
from fedlit.clients.members import client_members, overridden_member
from fedlit.clients.probe import draws_random_numbers, mixes_examples, unreached_parameter, written_buffer
from fedlit.clients.step_checks import is_plain_mean
from fedlit.core.layout import read_state
from fedlit.core.messages import one_line
from fedlit.core.private_torch import BatchNorm, Dropout, compiled_parts, has_gradient_hooks
from fedlit.core.records import Broadcast, ClientTask
from fedlit.core.seeding import isolated_rng
from fedlit.data.module import FederatedData
from fedlit.engines.block import CALLED_BY_BLOCKS, Block
from fedlit.engines.loop import single_optimizer
from fedlit.engines.site import Site

#: Elementwise optimizers, which can treat the stacked parameters of many clients as one parameter.
ELEMENTWISE = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
    optim.Adagrad,
    optim.Adadelta,
    optim.RMSprop,
)


def cannot_vectorize(client: ClientModule, site: Site) -> str | None:
    """Why clients cannot train as one batched program, as a clause for a message; None if they can."""
    reasons = chain(
        _client_reasons(client, site),
        _net_reasons(client.net, site.data),
        _loss_reasons(client, site),
        _optimizer_reasons(client),
    )
    return next(reasons, None)


def fails_in_block(client: ClientModule, site: Site) -> str | None:
    """Why the network's code fails in a batched program, such as on a branch that depends on values; None if not."""
    start, sizes = read_state(client.net, client.layout), site.data.partition.sizes
    client.receive(Broadcast(start, (0.0,) * len(client.layout.trainable), start.floats[:0]))
    largest = int(sizes.argmax())
    task = ClientTask(largest, 0, 0, steps=1, epochs=1.0, num_examples=int(sizes[largest]), weight=1.0)
    try:
        block = Block(client, [task] * 2, site.data, site.precision)
        batch = block.batch(0)
    except Exception:  # an error of this client's data, which its fit will show
        return None
    try:
        with isolated_rng(0, site.device):
            block.try_step(batch)
    except Exception as error:  # any kind; training one by one will show an error of the network itself
        return f"{type(client.net).__name__} does not train in a block ({one_line(str(error), 100)})"
    return None


def _client_reasons(client: ClientModule, site: Site) -> Iterator[str]:
    if own := overridden_member(client, client_members(), CALLED_BY_BLOCKS):
        yield own
    for name, parameter in zip(client.layout.trainable, client.parameters_, strict=True):
        if not parameter.requires_grad:
            yield f"{type(client).__name__} freezes {name}"
        if has_gradient_hooks(parameter):
            yield f"{type(client).__name__} has a hook for the gradient of {name}"
    state, blocks_type = client.net.state_dict(), read_state(client.net, client.layout).floats.dtype
    for name in client.layout.trainable + client.layout.fixed:
        if state[name].dtype != blocks_type:
            yield f"{name} is {state[name].dtype}, but would be trained in {blocks_type}"
    if client.algorithm.changes_fit:
        yield f"{client.algorithm.name} changes how clients train"
    if client.algorithm.kept_size:
        yield f"{client.algorithm.name} keeps a vector with each client"
    if site.data.augmentation:
        yield "data.augment draws for each batch of each client separately"
    if site.precision.precision == "16-mixed":
        yield "precision 16-mixed scales gradients"


def _net_reasons(net: nn.Module, data: FederatedData) -> Iterator[str]:
    for part in compiled_parts(net):
        yield f"{part or 'the net'} is compiled"
    for name, module in net.named_modules():
        if isinstance(module, BatchNorm):
            yield f"{name} is a {type(module).__name__}"
        if isinstance(module, Dropout) and module.p > 0:
            yield f"{name} drops out with p = {module.p}"
    rows = torch.linspace(0, len(data.train.inputs) - 1, 4).long()
    inputs, name = data.transform(data.train.inputs[rows]), type(net).__name__
    if written := written_buffer(net, inputs):
        yield f"{name} writes its buffer {written} as it trains"
    if draws_random_numbers(net, inputs):
        yield f"{name} draws random numbers as it trains"
    if mixes_examples(net, inputs):  # in a block some examples are padding
        yield f"{name} computes an example's logits from the others of its batch"
    if unreached := unreached_parameter(net, inputs):  # its gradient is zero in a block, and None otherwise
        yield f"the loss does not reach {unreached}"
    if shared := _shared_module(net):
        yield f"{shared} is a second name of a module of the net"


def _loss_reasons(client: ClientModule, site: Site) -> Iterator[str]:
    if isinstance(client.loss, nn.Module):
        for part in compiled_parts(client.loss):
            yield f"{part or 'the loss'} is compiled"
    if not is_plain_mean(client.loss, site.data.num_classes, site.device):
        yield f"the loss {type(client.loss).__name__} is not a plain mean over samples"


def _optimizer_reasons(client: ClientModule) -> Iterator[str]:
    optimizer = single_optimizer(client)
    if type(optimizer) not in ELEMENTWISE:  # a subclass may step otherwise
        yield f"{type(optimizer).__name__} is not known to be elementwise"
    stacks = [parameter.detach()[None].requires_grad_() for parameter in client.parameters_]
    if _arguments(optimizer, client.parameters_) != _arguments(client.optimizer(stacks), stacks):
        yield "model.client_optimizer depends on the parameters' shapes, which have one dimension more in a block"


def _arguments(optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[dict[str, str]]:
    """The optimizer's arguments for each parameter, as texts; empty for a parameter that it does not have."""
    found = {
        id(parameter): {name: repr(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return [found.get(id(parameter), {}) for parameter in parameters]


def _shared_module(net: nn.Module) -> str | None:
    """A second name of a module with parameters, which ``torch.func.functional_call`` does not restore."""
    once = {name for name, _ in net.named_modules()}
    for name, module in net.named_modules(remove_duplicate=False):
        if name not in once and any(True for _ in module.parameters()):
            return str(name)
    return None
