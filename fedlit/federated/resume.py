"""On a resume, settings are those that are given now; what has been learned is taken from the checkpoint.

A checkpoint holds the hyper-parameters of the server's optimizer, and the arguments of some callbacks, beside their
state. Restored as they are they would silently undo a changed setting.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from fedlit.core.errors import InputError
from fedlit.core.layout import trainable

#: Under which an optimizer's settings stand in a checkpoint.
SERVER_OPTIMIZER = "server optimizer"
CHECKPOINT_REMEDY = "use --ckpt_path last, best or another file"
#: Under which Lightning counts the server's steps.
STEPS = "epoch_loop.manual_optimization.optim_step_progress"
OPTIMIZER_REMEDY = "use the model.server_optimizer of the run's config.yaml, or start anew without --ckpt_path"


def settings_of(optimizer: Optimizer) -> dict[str, Any]:
    """The class of an optimizer and, for each of its groups of parameters, the hyper-parameters: plain values."""
    groups = [
        {name: _plain(value) for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]
    return {"class": type(optimizer).__name__, "groups": groups}


def check_record(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose parts contradict each other, or that does not say which federation it is of.

    Raises:
        InputError: Naming what is wrong.
        LookupError: When a part of its loops is missing.
    """
    for part in ("optimizer_states", "lr_schedulers", "loops"):
        if part not in checkpoint:
            raise InputError(f"the checkpoint has no {part}, as one of weights alone has none; {CHECKPOINT_REMEDY}")
    steps = checkpoint["loops"]["fit_loop"][STEPS]["total"]["completed"]
    if steps != checkpoint["global_step"]:
        raise InputError(
            f"the checkpoint is of {checkpoint['global_step']} rounds and has made {steps} steps; {CHECKPOINT_REMEDY}"
        )
    if "federation seed" not in checkpoint["fedlit"]:
        raise InputError(f"the checkpoint does not say which federation it is of; {CHECKPOINT_REMEDY}")


def apply_settings(checkpoint: Mapping[str, Any], make: OptimizerCallable, net: nn.Module) -> list[str]:
    """Put changed hyper-parameters of the server's optimizer into its state in a checkpoint, beside the moments.

    Args:
        checkpoint: Of a run; changed in place.
        make: From parameters to the optimizer that is resumed.
        net: The network that it trains.

    Returns:
        A line for each change.

    Raises:
        InputError: When the optimizer is of another class, or cannot resume from that state.
    """
    (state,) = checkpoint["optimizer_states"]
    now = settings_of(make(trainable(net)))
    then = checkpoint["fedlit"].get(SERVER_OPTIMIZER) or {"groups": state["param_groups"]}
    if then.get("class", now["class"]) != now["class"] or _names(then) != _names(now):
        raise InputError(
            f"the run's server optimizer is {then.get('class', 'of another class')}, whose state means nothing to "
            f"{now['class']}; {OPTIMIZER_REMEDY}"
        )
    said = []
    for stored, before, after in zip(state["param_groups"], then["groups"], now["groups"], strict=True):
        changed = {name: value for name, value in after.items() if _plain(before[name]) != value}
        stored.update(changed)
        said += [f"model.server_optimizer.{name}: {before[name]} -> {value}" for name, value in changed.items()]
    _check_step(state, make, net, said)
    return said


class ResumedStep:
    """What a resumed run would make of the gradients that the server's optimizer is about to step on.

    Args:
        optimizer: It, with gradients in place.
        make: From parameters to such an optimizer.
    """

    def __init__(self, optimizer: Optimizer, make: OptimizerCallable) -> None:
        self._stepped = [p for group in optimizer.param_groups for p in group["params"]]
        self._copies = [nn.Parameter(p.detach().clone()) for p in self._stepped]
        for copy, parameter in zip(self._copies, self._stepped, strict=True):
            copy.grad = None if parameter.grad is None else parameter.grad.clone()
        other = make(self._copies)
        other.load_state_dict(deepcopy(optimizer.state_dict()))
        with torch.random.fork_rng(devices={p.device for p in self._stepped if p.is_cuda}):
            other.step(lambda: None)  # type: ignore[arg-type, return-value]  # as Lightning calls it

    def check(self, name: str) -> None:
        """Compare with the step, once it is made.

        Raises:
            InputError: When it was another one.
        """
        for copy, parameter in zip(self._copies, self._stepped, strict=True):
            if not torch.allclose(copy, parameter, rtol=1e-4, atol=1e-6, equal_nan=True):
                raise InputError(
                    f"model.server_optimizer {name} steps otherwise in a resumed run: it remembers what its state_dict "
                    "lacks, as in an attribute; keep it in self.state, or in a group's settings"
                )


def _names(settings: Mapping[str, Any]) -> list[set[str]]:
    return [set(group) - {"params"} for group in settings["groups"]]


def _check_step(state: dict[str, Any], make: OptimizerCallable, net: nn.Module, said: list[str]) -> None:
    """Let an optimizer with the state of the checkpoint step on copies: some settings need a state that it lacks."""
    copies = [nn.Parameter(torch.zeros_like(parameter)) for parameter in trainable(net)]
    for copy in copies:
        copy.grad = torch.zeros_like(copy)
    optimizer = make(copies)
    optimizer.load_state_dict(deepcopy(state))
    try:
        optimizer.step()
    except Exception as error:
        what = "; ".join(said) or "the checkpoint"
        raise InputError(
            f"{what}: {type(optimizer).__name__} cannot go on from its state of the rounds before "
            f"({type(error).__name__}: {error}); {OPTIMIZER_REMEDY}"
        ) from error


class GivenArguments:
    """The arguments that callbacks were made with, where they keep them under the same names.

    ``load_state_dict`` of ``EarlyStopping``, for one, takes the checkpoint's ``patience``.

    Args:
        callbacks: As they were made, before a checkpoint is restored.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._given = [(callback, _arguments(callback)) for callback in callbacks]

    def restore(self) -> None:
        """Give the callbacks what they were made with."""
        for callback, arguments in self._given:
            for name, value in arguments.items():
                if getattr(callback, name) != value:
                    setattr(callback, name, value)


def _arguments(callback: Callback) -> dict[str, Any]:
    own = vars(callback)
    names = inspect.signature(type(callback)).parameters
    return {name: own[name] for name in names if isinstance(own.get(name), bool | int | float | str)}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.item()
    return tuple(value) if isinstance(value, list) else value
