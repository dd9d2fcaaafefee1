"""The part of a checkpoint that describes its federation, and resuming from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from fedlit.core.checkpoint import check_format
from fedlit.core.errors import InputError
from fedlit.core.layout import trainable
from fedlit.core.private_lightning import finish_epoch
from fedlit.core.private_torch import uncompiled_names
from fedlit.data.fingerprint import differences, differences_in_sets, rounded
from fedlit.data.module import FederatedData, data_of
from fedlit.federated.resume import SERVER_OPTIMIZER, GivenArguments, apply_settings, check_record, settings_of
from fedlit.native import versions

if TYPE_CHECKING:
    from fedlit.federated.module import FederatedModule

MU_RULE = "rule for mu"
ARGUMENTS = "arguments of callbacks"
#: What the data hold; checkpoints of earlier versions have one hash instead.
CONTENTS, EARLY = "contents of the data", "hash of the training samples"


def write_record(module: FederatedModule, checkpoint: dict[str, Any]) -> None:
    """Write the federation's identity and settings into a checkpoint, and the state of mu and the schedules."""
    checkpoint["fedlit"] = {
        "format": 1,
        **_identity(module),
        CONTENTS: data_of(module.trainer).contents,
        "mu": module.mu.state_dict(),
        "rates": module.rates.state_dict(),
        ARGUMENTS: module.arguments_of_callbacks.record(),
        **_settings(module),
    }


def resume_from(module: FederatedModule, checkpoint: dict[str, Any]) -> None:
    """Resume from a checkpoint with the settings that are given now; a second call has no effect.

    Raises:
        InputError: If the checkpoint is of another federation, naming the difference.
    """
    check_format(checkpoint)
    check_record(checkpoint)
    then, settings = checkpoint["fedlit"], _settings(module)
    is_fit = module.trainer.state.fn == TrainerFn.FITTING
    if other := next(_other_facts(module, then, is_fit), None):
        or_anew = ", or start anew without --ckpt_path" if is_fit else ""
        raise InputError(
            f"the checkpoint is of another federation: {other}; use the run's config.yaml and the same data{or_anew}"
        )
    if is_fit and (parts := rounded(then.get(CONTENTS, {}), data_of(module.trainer).contents)):
        rank_zero_warn(
            f"the {' and '.join(parts)} inputs differ from those of the checkpoint's run in their last digits, so bits "
            "may differ from those of an uninterrupted run"
        )
    if changed := versions.other_kernels(then.get("kernels"), settings["kernels"]):
        rank_zero_warn(changed)
    module.mu.load_state_dict(then.get("mu", {}))
    module.rates.load_state_dict(then.get("rates", {}))
    for change in apply_settings(checkpoint, module.server_optimizer, module.net):
        rank_zero_info(f"{change} from round {checkpoint['global_step'] + 1} on")
    finish_epoch(checkpoint["loops"], checkpoint["global_step"])
    then |= settings
    callbacks = module.trainer.callbacks  # type: ignore[attr-defined]
    module.arguments_of_callbacks = GivenArguments(callbacks, then.get(ARGUMENTS))


def check_net(here: Mapping[str, Tensor], checkpoint: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of another net.

    Args:
        here: The module's ``state_dict``.
        checkpoint: The checkpoint.

    Raises:
        InputError: Naming the difference.
    """
    there = checkpoint["state_dict"]
    if there.keys() != here.keys() and uncompiled_names(there) == uncompiled_names(here):
        raise InputError(
            "the checkpoint has the same net, but only one of the two uses torch.compile; use it here if and only if "
            "the run did"
        )
    for name, tensor in here.items():
        if name not in there:
            raise _other_net_error(f"it lacks {name}")
        if there[name].shape != tensor.shape:
            raise _other_net_error(f"{name} is {tuple(there[name].shape)} there and {tuple(tensor.shape)} here")
    for name in sorted(there.keys() - here.keys()):
        raise _other_net_error(f"it also has {name}")


def stay_with_clients(checkpoint: Mapping[str, Any]) -> list[str]:
    """Names of the tensors that stay with each client in a checkpoint's run, of which the net has the average."""
    states = [state for state in checkpoint["callbacks"].values() if isinstance(state, Mapping)]
    return next((list(state["local"] or ()) for state in states if {"local", "together"} <= state.keys()), [])


def warn_of_other_data(data: FederatedData, checkpoint: Mapping[str, Any]) -> None:
    """Warn of data other than those of a checkpoint's run, or converted otherwise, on which it is evaluated."""
    if found := [*differences(checkpoint.get("fedlit", {}).get(CONTENTS, {}), data.contents)]:
        rank_zero_warn(
            f"the data are not those of the checkpoint's run: {'; '.join(found)}; the results are for the present data"
        )


def _other_facts(module: FederatedModule, then: Mapping[str, Any], is_fit: bool) -> Iterator[str]:
    """What makes the federation another one than the checkpoint's; for an evaluation, the test set may be another.

    Hashes come last, as they say least.
    """
    data = data_of(module.trainer)
    said = {
        fact: f"{fact} is {then[fact]} there, but {value} here"
        for fact, value in _identity(module).items()
        if fact in then and then[fact] != value
    }
    yield from (text for fact, text in said.items() if "hash" not in fact)
    if CONTENTS in then:
        was, here = then[CONTENTS], data.contents
        if found := [*(differences(was, here) if is_fit else differences_in_sets(was, here, ("training",)))]:
            yield "; ".join(found)
    elif EARLY in then and data.early_fingerprint and then[EARLY] != data.early_fingerprint:
        yield f"{EARLY} is {then[EARLY]} there, but {data.early_fingerprint} here"
    yield from (text for fact, text in said.items() if "hash" in fact)


def _identity(module: FederatedModule) -> dict[str, Any]:
    """Facts that must be the same in a resumed run."""
    return {**module.loop.identity(data_of(module.trainer)), MU_RULE: type(module.mu).__name__}


def _settings(module: FederatedModule) -> dict[str, Any]:
    """Settings that may change in a resumed run, which then reports the change."""
    return {
        SERVER_OPTIMIZER: settings_of(module.server_optimizer(trainable(module.net))),
        "kernels": versions.kernels_on(module.trainer.strategy.root_device, module.trainer.precision),
    }


def _other_net_error(what: str) -> InputError:
    return InputError(f"the checkpoint has another net: {what}; use the model section of the run's config.yaml")
