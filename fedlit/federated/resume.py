"""A resumed run uses the settings that are given now, and the learned state from the checkpoint.

Besides their state, a checkpoint holds the hyper-parameters of the server's optimizer and the arguments of some
callbacks. If they were restored too, they would silently undo a changed setting.
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

#: The key of the server optimizer's settings in a checkpoint.
SERVER_OPTIMIZER = "server optimizer"
CHECKPOINT_REMEDY = "use --ckpt_path last, best or another file"
#: The key of Lightning's count of the server's steps.
STEPS = "epoch_loop.manual_optimization.optim_step_progress"
OPTIMIZER_REMEDY = "use the model.server_optimizer of the run's config.yaml, or start anew without --ckpt_path"


def settings_of(optimizer: Optimizer) -> dict[str, Any]:
    """The class of an optimizer and the hyper-parameters of each parameter group, as plain values."""
    groups = [
        {name: _plain(value) for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]
    return {"class": type(optimizer).__name__, "groups": groups}


def check_record(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that is inconsistent or does not identify its federation.

    Raises:
        InputError: Naming the fault.
        LookupError: If a part of its loops is missing.
    """
    for part in ("optimizer_states", "lr_schedulers", "loops"):
        if part not in checkpoint:
            raise InputError(
                f"the checkpoint has no {part}, like a checkpoint that holds only weights; {CHECKPOINT_REMEDY}"
            )
    steps = checkpoint["loops"]["fit_loop"][STEPS]["total"]["completed"]
    if steps != checkpoint["global_step"]:
        raise InputError(
            f"the checkpoint has {checkpoint['global_step']} rounds, but {steps} steps; {CHECKPOINT_REMEDY}"
        )
    if "federation seed" not in checkpoint["fedlit"]:
        raise InputError(f"the checkpoint does not say which federation it is of; {CHECKPOINT_REMEDY}")


def apply_settings(checkpoint: Mapping[str, Any], make: OptimizerCallable, net: nn.Module) -> list[str]:
    """Write changed hyper-parameters of the server's optimizer into its state in a checkpoint.

    Args:
        checkpoint: The checkpoint; changed in place.
        make: From parameters to the optimizer that is resumed.
        net: The network that it trains.

    Returns:
        A line for each change.

    Raises:
        InputError: If the optimizer's class has changed, or it cannot resume from that state.
    """
    (state,) = checkpoint["optimizer_states"]
    now = settings_of(make(trainable(net)))
    then = checkpoint["fedlit"].get(SERVER_OPTIMIZER) or {"groups": state["param_groups"]}
    if then.get("class", now["class"]) != now["class"] or _names(then) != _names(now):
        raise InputError(
            f"the run's server optimizer is {then.get('class', 'of another class')}, whose state {now['class']} cannot "
            f"use; {OPTIMIZER_REMEDY}"
        )
    said = []
    for stored, before, after in zip(state["param_groups"], then["groups"], now["groups"], strict=True):
        changed = {name: value for name, value in after.items() if _plain(before[name]) != value}
        stored.update(changed)
        said += [f"model.server_optimizer.{name}: {before[name]} -> {value}" for name, value in changed.items()]
    _check_step(state, make, net, said)
    return said


class ResumedStep:
    """The step that a resumed run would take, computed on copies before the server's optimizer steps.

    Args:
        optimizer: The server's optimizer, with gradients in place.
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
        """Compare with the optimizer's step, after it was taken.

        Raises:
            InputError: If the steps differ.
        """
        for copy, parameter in zip(self._copies, self._stepped, strict=True):
            if not torch.allclose(copy, parameter, rtol=1e-4, atol=1e-6, equal_nan=True):
                raise InputError(
                    f"model.server_optimizer {name} takes another step in a resumed run, because some of its state is "
                    "not in its state_dict; keep all state in self.state or in a parameter group"
                )


def _names(settings: Mapping[str, Any]) -> list[set[str]]:
    return [set(group) - {"params"} for group in settings["groups"]]


def _check_step(state: dict[str, Any], make: OptimizerCallable, net: nn.Module, said: list[str]) -> None:
    """Try a step with the checkpoint's state on copies, as some settings need state that the checkpoint lacks."""
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
            f"{what}: {type(optimizer).__name__} cannot resume from its state in the checkpoint "
            f"({type(error).__name__}: {error}); {OPTIMIZER_REMEDY}"
        ) from error


class GivenArguments:
    """The constructor arguments of callbacks that keep them in attributes of the same names.

    They are restored after a checkpoint is loaded, as ``EarlyStopping.load_state_dict``, for example, takes the
    checkpoint's ``patience``. An attribute that had changed since the checkpoint's run began is state, and stays as it
    was loaded unless its argument is another one now.

    Args:
        callbacks: The callbacks, before a checkpoint is loaded.
        then: ``record`` in the checkpoint's run; empty if it is unknown.
    """

    def __init__(self, callbacks: Iterable[Callback], then: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._given = [(callback, _arguments(callback)) for callback in callbacks]
        self._then = then or {}

    def record(self) -> dict[str, dict[str, Any]]:
        """The arguments by the callbacks' ``state_key``."""
        return {callback.state_key: arguments for callback, arguments in self._given}

    def are_as_then(self, callback: Callback) -> bool:
        """Whether a callback has the arguments that it had in the checkpoint's run."""
        return self._then.get(callback.state_key) == self.record()[callback.state_key]

    def restore(self) -> None:
        """Set the callbacks' arguments to their original values."""
        for callback, arguments in self._given:
            then = self._then.get(callback.state_key, {})
            for name, value in arguments.items():
                loaded = getattr(callback, name)
                is_state = name in then and then[name] == value != loaded
                if loaded != value and not is_state:
                    setattr(callback, name, value)


def _arguments(callback: Callback) -> dict[str, Any]:
    own = vars(callback)
    names = inspect.signature(type(callback)).parameters
    return {name: own[name] for name in names if isinstance(own.get(name), bool | int | float | str)}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.item()
    return tuple(value) if isinstance(value, list) else value
