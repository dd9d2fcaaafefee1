"""What a site is, in words that can be compared: versions, network, loss, optimizer, algorithm and data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from fedlit.clients.client import ClientModule
from fedlit.data.describe import kind_of
from fedlit.data.examples import Examples
from fedlit.federated.resume import settings_of
from fedlit.flower.frame import Value
from fedlit.flower.site_data import OwnData

#: What must be the same at the server and at a site, and what to do where it is not.
SAME = {
    "fedlit": "install the server's version there",
    "torch": "install the server's version there",
    "layout": "the site's network is built of other code: install the server's there",
    "client": "the site's client is of other code: install the server's there",
    "loss": "install the server's code there",
    "optimizer": "install the server's code there",
    "algorithm": "install the server's code there",
    "inputs": "give the site inputs of that shape and type",
}


def identity(client: ClientModule) -> dict[str, str]:
    """What a local problem is: versions, and the network's layout, the loss, the optimizer and the algorithm."""
    state, algorithm = client.net.state_dict(), client.algorithm
    shapes = [(name, str(tensor.dtype), [*tensor.shape]) for name, tensor in state.items()]
    kept = {"kept_size": algorithm.kept_size, "local": sorted(algorithm.local)}
    optimizer = client.configure_optimizers()
    return {
        "fedlit": version("fedlit"),
        "torch": torch.__version__.partition("+")[0],
        "layout": _hash(json.dumps([client.layout.trainable, shapes]).encode()),
        "client": f"{_name(client)}, client_clip_norm {client.clip_norm}",
        "loss": _loss(client.loss),
        "optimizer": str(settings_of(optimizer) if isinstance(optimizer, Optimizer) else optimizer)[:1000],
        "algorithm": f"{algorithm.name} {_hash(json.dumps(kept).encode())}",
    }


def inputs_of(examples: Examples) -> str:
    """Shape and type of a data set's inputs."""
    kind = "int64 tokens" if examples.inputs.dtype == torch.int64 else kind_of(examples.inputs)
    return f"{'x'.join(map(str, examples.inputs.shape[1:]))} {kind}"


def introduction(name: str, client: ClientModule, data: OwnData) -> dict[str, Value]:
    """A site's answer to a greeting; the hash of its data is of no use to compare sites with each other."""
    return {
        **identity(client),
        "name": name,
        "inputs": inputs_of(data.train),
        "classes": data.own_names,
        "examples": len(data.train),
        "data": fingerprint(name, data.train),
    }


def fingerprint(name: str, examples: Examples) -> str:
    """16 hex digits that differ where the examples, their order or the site's name differ."""
    digest = hashlib.blake2b(digest_size=8, key=name.encode()[:64])
    for part in (examples.inputs, examples.targets):
        digest.update(np.ascontiguousarray(part.cpu().numpy()).tobytes())
    return digest.hexdigest()


def differences(site: Mapping[str, Value], server: Mapping[str, Value], classes: list[str]) -> Iterator[str]:
    """Why a site cannot take part, a line each.

    Args:
        site: Its introduction.
        server: What ``SAME`` names, here.
        classes: Names of the federation's classes, (C,).
    """
    for name, remedy in SAME.items():
        if name in server and site[name] != server[name]:
            yield f"{name} is {site[name]} there and {server[name]} here; {remedy}"
    theirs = [*site["classes"]]  # type: ignore[misc]
    numbered = theirs == [str(number) for number in range(len(theirs))]  # no names were given there
    if theirs != classes and not (numbered and len(theirs) <= len(classes)):
        yield (
            f"its classes are {', '.join(theirs)[:100]} and the federation's {', '.join(classes)[:100]}; name them "
            "there as here, in the same order"
        )
    if int(site["examples"]) < 1:  # type: ignore[arg-type]
        yield "it has no training examples; give it some, or take it off data.sites"


def _loss(loss: object) -> str:
    settings = {name: value for name, value in vars(loss).items() if isinstance(value, bool | int | float | str)}
    state = loss.state_dict() if isinstance(loss, nn.Module) else {}
    held = b"".join(tensor.cpu().numpy().tobytes() for tensor in state.values())
    return f"{_name(loss)} {settings} {_hash(held) if held else ''}".strip()


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
