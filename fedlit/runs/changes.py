"""Settings that differ when a run is resumed: each takes effect and is reported, or is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import yaml

from fedlit.core.errors import InputError
from fedlit.core.messages import one_line
from fedlit.federated.resume import CHECKPOINT_REMEDY

#: Settings of a command rather than of the run: which run, and where it is kept.
PLACE = ("config", "name", "logs_dir", "version", "ckpt_path", "weights_only")

#: Whether a run may be resumed with another value, by the pattern of a setting's key; the first that matches counts.
#: What makes the federation is fixed: its data, seeds, network and algorithm, and whatever keeps state from round to
#: round that a new value would not fit. ``KEY.class_path`` stands for the choice of another class.
MAY_CHANGE = {
    "seed_everything": False,  # cohorts, the order of batches, and the partition
    "model.net*": False,
    "model.mu.*": False,  # a rule may have moved mu; a plain number can be changed
    "model.server_optimizer.class_path": False,  # its moments are those of its class
    "data.batch_size": True,
    "data.eval_batch_size": True,
    "data.download": True,
    "data.wait_s": True,  # for real sites
    "data*.path": True,  # the same data may have been moved: its partition is compared by its hash
    "data*.root": True,
    "data*": False,
    "federation.seed": False,
    "federation.algorithm*": False,
    "*": True,
}

#: Patterns of the keys of settings that do not affect results, so that compared runs may differ in them: the number of
#: rounds, where data and results are, what is displayed, and the machine.
WITHOUT_EFFECT = (
    "trainer.max_epochs",
    "trainer.max_time*",
    "trainer.logger*",
    "trainer.enable_*",
    "trainer.log_every_n_steps",
    "trainer.profiler*",
    "trainer.default_root_dir",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy*",
    "data.root",
    "data.download",
    "data.eval_batch_size",
)
#: The precision that depends on the machine, and the settings that choose the machine.
AUTO, MACHINE = "auto", ("trainer.accelerator",)
#: At most this many changes are shown in a message, and this many characters of a value.
SHOWN, SHOWN_WIDTH = 3, 60


class Change(NamedTuple):
    """A setting with another value than the run had.

    Attributes:
        key: Its dotted key in the config.
        before: The run's earlier value; None if it had none.
        now: The new value.
    """

    key: str
    before: Any
    now: Any

    @property
    def is_new(self) -> bool:
        """Whether the earlier config does not know the setting."""
        return self.before is _NOTHING

    @property
    def is_allowed(self) -> bool:
        """Whether a run may be resumed with it."""
        of_class = any(isinstance(value, Mapping) and "class_path" in value for value in (self.before, self.now))
        key = f"{self.key}.class_path" if of_class else self.key
        return next(may for pattern, may in MAY_CHANGE.items() if fnmatchcase(key, pattern))

    @property
    def affects_results(self) -> bool:
        """Whether results may depend on it; False if the earlier config does not have the setting."""
        return not self.is_new and not any(fnmatchcase(self.key, pattern) for pattern in WITHOUT_EFFECT)

    def __str__(self) -> str:
        before, now = _shown(self.before), _shown(self.now)
        shown = [one_line(text, SHOWN_WIDTH) for text in (before, now)]
        if shown[0] == shown[1]:  # they differ only further on
            alike = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), None)
            start = max(before.rfind(end, 0, alike) for end in "([ ") + 1
            shown = [one_line(f"...{text[start:]}", SHOWN_WIDTH) for text in (before, now)]
        return f"{self.key}: {shown[0]} -> {shown[1]}"


def config_in(checkpoint: Mapping[str, Any], callback: str) -> dict[str, Any] | None:
    """The config that a checkpoint was trained with; None if it was saved from Python or by an early version.

    Args:
        checkpoint: Its content.
        callback: The name of the callback that keeps it.

    Raises:
        InputError: If it is not a config.
    """
    kept = checkpoint.get("callbacks")
    state = kept.get(callback) if isinstance(kept, Mapping) else None
    if state is None:
        return None
    try:
        config = yaml.safe_load(str(state["config"]))
    except (LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"the config in the checkpoint cannot be read: {one_line(str(error))}; {CHECKPOINT_REMEDY}"
        ) from error
    if not isinstance(config, dict):
        raise InputError(
            f"the config in the checkpoint is not a mapping but {one_line(str(config), SHOWN_WIDTH)}; "
            f"{CHECKPOINT_REMEDY}"
        )
    return config


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The differences between two configs, as read from YAML.

    A class that replaces another is one change, including its arguments. So is a dict that is the value of an argument,
    whatever its keys. A setting that is missing in the earlier config, for example of an earlier version, is a change
    from nothing.
    """
    first, second = ({key: value for key, value in tree.items() if key not in PLACE} for tree in (before, now))
    return list(_differences(first, second, "", has_settings=True))


def with_effect(
    before: Mapping[str, Any], now: Mapping[str, Any], precision_before: str | None, precision_now: str | None
) -> list[Change]:
    """The changes between two configs that may affect results, including those of a precision that is ``auto``.

    Args:
        before, now: The configs, as read from YAML.
        precision_before, precision_now: What ``auto`` is, or was, on the machine of each; None if it is unknown, as for
            a run of an earlier version. If one is, another accelerator may mean another precision.
    """
    are_known = precision_before is not None and precision_now is not None
    if are_known:
        before, now = _with_precision(before, precision_before), _with_precision(now, precision_now)
    is_auto = not are_known and AUTO in (_precision(before), _precision(now))
    return [
        each
        for each in changes(before, now)
        if each.affects_results or (is_auto and each.key in MACHINE and not each.is_new)
    ]


def _precision(config: Mapping[str, Any]) -> Any:
    """The precision of a config; None for one without a Trainer's settings."""
    trainer = config.get("trainer")
    return trainer.get("precision", AUTO) if isinstance(trainer, Mapping) else None


def _with_precision(config: Mapping[str, Any], precision: str | None) -> Mapping[str, Any]:
    """A config with this precision in place of ``auto``."""
    if _precision(config) != AUTO:
        return config
    return {**config, "trainer": {**config["trainer"], "precision": precision}}


def refuse(found: Iterable[Change]) -> None:
    """Refuse changes with which a run cannot be resumed.

    Raises:
        InputError: Naming all of them.
    """
    refused = [change for change in found if not change.is_allowed and not change.is_new]
    if refused:
        raise InputError(
            f"a run cannot be resumed with {in_words(refused)}; leave it as in the run's config.yaml, or start a new "
            "run without --ckpt_path"
        )


def other_results(found: Iterable[Change]) -> str | None:
    """A warning about changes that give a checkpoint other scores than its run had; None if there are no such changes.

    These are changes of the network, the loss and the data, except the data's path and batch sizes. They may be
    intended, so they are not refused.
    """
    other = [
        change
        for change in found
        if change.key.startswith(("model.net", "model.loss"))
        or (change.key.startswith("data") and not change.is_allowed)
    ]
    if not other:
        return None
    return (
        f"the checkpoint was trained with other settings: {in_words(other)}; the results are for the new ones; to use "
        "those of the run, give its config.yaml"
    )


def in_words(found: Sequence[Change]) -> str:
    """The first few changes, and the number of the others."""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{'; '.join(map(str, found[:SHOWN]))}{more}"


class _Nothing:
    """A setting that is missing."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def _differences(before: Any, now: Any, key: str, has_settings: bool = False) -> Iterator[Change]:
    """The differences at and below a key.

    Args:
        before, now: The values.
        key: The key.
        has_settings: Whether the keys of a mapping are settings, as those of a section of the config and of a class's
            ``init_args`` are; those of a dict that is an argument's value are not.
    """
    if _are_alike(before, now) and (has_settings or "class_path" in before):
        for name in dict.fromkeys((*before, *now)):
            within = key if name == "init_args" else f"{key}.{name}".strip(".")
            absent: Any = {} if name == "dict_kwargs" else _NOTHING  # no version adds these by itself
            was, new = before.get(name, absent), now.get(name, absent)
            yield from _differences(was, new, within, has_settings=not key or name == "init_args")
    elif before != now and not (before in (None, _NOTHING) and now in (None, _NOTHING)):
        yield Change(key, before, now)


def _are_alike(before: Any, now: Any) -> bool:
    """Whether both are mappings, and of one class if they are of a class."""
    both = isinstance(before, Mapping) and isinstance(now, Mapping)
    return both and before.get("class_path") == now.get("class_path")


def _shown(value: Any) -> str:
    """A value as text; a class with its arguments as if it were called."""
    if isinstance(value, Mapping) and "class_path" in value:
        arguments = ", ".join(f"{name}={_shown(each)}" for name, each in (value.get("init_args") or {}).items())
        return f"{value['class_path']}({arguments})"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return "null" if value is None else str(value)
