"""Describes a site by texts that can be compared: versions, network, loss, optimizer, algorithm and data."""

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

#: What must be the same at the server and at a site, and the remedy if it differs.
SAME = {
    "fedlit": "install the server's version at the site",
    "torch": "install the server's version at the site",
    "layout": "the site's network comes from other code; install the server's code at the site",
    "client": "the site's client comes from other code; install the server's code at the site",
    "loss": "install the server's code at the site",
    "optimizer": "install the server's code at the site",
    "algorithm": "install the server's code at the site",
    "inputs": "give the site inputs of the server's shape and type",
}


def identity(client: ClientModule) -> dict[str, str]:
    """A description of the local problem: versions, network layout, loss, optimizer and algorithm."""
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
    """Shape and type of the inputs."""
    kind = "int64 tokens" if examples.inputs.dtype == torch.int64 else kind_of(examples.inputs)
    return f"{'x'.join(map(str, examples.inputs.shape[1:]))} {kind}"


def introduction(name: str, client: ClientModule, data: OwnData) -> dict[str, Value]:
    """A site's answer to a greeting. The hash of its data is keyed, so hashes of different sites cannot be compared."""
    return {
        **identity(client),
        "name": name,
        "inputs": inputs_of(data.train),
        "classes": data.own_names,
        "examples": len(data.train),
        "data": fingerprint(name, data.train),
    }


def fingerprint(name: str, examples: Examples) -> str:
    """16 hex digits that change if the examples, their order or the site's name change."""
    digest = hashlib.blake2b(digest_size=8, key=name.encode()[:64])
    for part in (examples.inputs, examples.targets):
        digest.update(np.ascontiguousarray(part.cpu().numpy()).tobytes())
    return digest.hexdigest()


def differences(site: Mapping[str, Value], server: Mapping[str, Value], classes: list[str]) -> Iterator[str]:
    """The reasons why a site cannot take part, a line each.

    Args:
        site: Its introduction.
        server: The server's values for the keys of ``SAME``.
        classes: Names of the federation's classes, (C,).
    """
    for name, remedy in SAME.items():
        if name in server and site[name] != server[name]:
            yield f"{name} is {site[name]} at the site and {server[name]} at the server; {remedy}"
    theirs = [*site["classes"]]  # type: ignore[misc]
    numbered = theirs == [str(number) for number in range(len(theirs))]  # the site gave no names
    if theirs != classes and not (numbered and len(theirs) <= len(classes)):
        yield (
            f"its classes are {', '.join(theirs)[:100]}, but the federation's are {', '.join(classes)[:100]}; use the "
            "server's names at the site, in the same order"
        )
    if int(site["examples"]) < 1:  # type: ignore[arg-type]
        yield "it has no training examples; give it some, or remove it from data.sites"


def _loss(loss: object) -> str:
    settings = {name: value for name, value in vars(loss).items() if isinstance(value, bool | int | float | str)}
    state = loss.state_dict() if isinstance(loss, nn.Module) else {}
    held = b"".join(tensor.cpu().numpy().tobytes() for tensor in state.values())
    return f"{_name(loss)} {settings} {_hash(held) if held else ''}".strip()


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
