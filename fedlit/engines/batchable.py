"""What keeps clients out of a batched program: what it would compute otherwise than a client alone, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from fedlit.clients.client import ClientModule
from fedlit.clients.members import of_client, overridden
from fedlit.clients.probe import draws, mixes_examples, unreached_parameter, written_buffer
from fedlit.clients.rehearsal import is_plain_mean
from fedlit.core.layout import read_state
from fedlit.core.messages import one_line
from fedlit.core.private_torch import BatchNorm, Dropout, compiled_parts
from fedlit.core.records import Broadcast, ClientTask
from fedlit.core.seeding import isolated_rng
from fedlit.data.module import FederatedData
from fedlit.engines.block import CALLED_BY_BLOCKS, Block
from fedlit.engines.loop import single_optimizer
from fedlit.engines.site import Site

#: Optimizers that treat every scalar by itself, so that a stack of clients is one parameter to them.
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
    """Why a client cannot be one of a batched program, in words; or None."""
    reasons = chain(
        _of_client(client, site), _of_net(client.net, site.data), _of_loss(client, site), _of_optimizer(client)
    )
    return next(reasons, None)


def fails_in_a_block(client: ClientModule, site: Site) -> str | None:
    """What keeps the network's code out of a batched program, as a choice by values does, in words; or None."""
    start, sizes = read_state(client.net, client.layout), site.data.partition.sizes
    client.receive(Broadcast(start, (0.0,) * len(client.layout.trainable), start.floats[:0]))
    largest = int(sizes.argmax())
    task = ClientTask(largest, 0, 0, steps=1, epochs=1.0, num_examples=int(sizes[largest]), weight=1.0)
    try:
        block = Block(client, [task] * 2, site.data, site.precision)
        batch = block.batch(0)
    except Exception:  # of that client's data: its fit will tell
        return None
    try:
        with isolated_rng(0, site.device):
            block.rehearse(batch)
    except Exception as error:  # of whatever kind: one by one, it shows whose it is
        return f"{type(client.net).__name__} does not train in a block ({one_line(str(error), 100)})"
    return None


def _of_client(client: ClientModule, site: Site) -> Iterator[str]:
    if own := overridden(client, of_client(), CALLED_BY_BLOCKS):
        yield own
    if client.algorithm.changes_fit:
        yield f"{client.algorithm.name} changes how clients train"
    if site.data.augmentation:
        yield "data.augment draws for each batch of each client anew"
    if site.precision.precision == "16-mixed":
        yield "precision 16-mixed scales gradients"


def _of_net(net: nn.Module, data: FederatedData) -> Iterator[str]:
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
    if draws(net, inputs):
        yield f"{name} draws random numbers as it trains"
    if mixes_examples(net, inputs):  # in a block some are padding
        yield f"{name} computes an example's logits from the others of its batch"
    if unreached := unreached_parameter(net, inputs):  # it has a gradient of zeros in a block, and else none
        yield f"the loss does not reach {unreached}"
    if shared := _shared_module(net):
        yield f"{shared} is a part of the net under another name"


def _of_loss(client: ClientModule, site: Site) -> Iterator[str]:
    if isinstance(client.loss, nn.Module):
        for part in compiled_parts(client.loss):
            yield f"{part or 'the loss'} is compiled"
    if not is_plain_mean(client.loss, site.data.num_classes, site.device):
        yield f"the loss {type(client.loss).__name__} is not a plain mean over samples"


def _of_optimizer(client: ClientModule) -> Iterator[str]:
    optimizer = single_optimizer(client)
    if type(optimizer) not in ELEMENTWISE:  # a subclass may step otherwise
        yield f"{type(optimizer).__name__} is not known to treat every scalar by itself"
    stacks = [parameter.detach()[None].requires_grad_() for parameter in client.parameters_]
    if _arguments(optimizer, client.parameters_) != _arguments(client.optimizer(stacks), stacks):
        yield "model.client_optimizer tells parameters apart by their shapes, which have one dimension more in a block"


def _arguments(optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[dict[str, str]]:
    """The optimizer's arguments for each parameter, as texts; none where it does not have it."""
    found = {
        id(parameter): {name: repr(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return [found.get(id(parameter), {}) for parameter in parameters]


def _shared_module(net: nn.Module) -> str | None:
    """A second name of a module with parameters, which ``torch.func.functional_call`` does not put back as it was."""
    once = {name for name, _ in net.named_modules()}
    for name, module in net.named_modules(remove_duplicate=False):
        if name not in once and any(True for _ in module.parameters()):
            return str(name)
    return None
