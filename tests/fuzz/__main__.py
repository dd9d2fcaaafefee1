"""Do settings work together? ``python -m tests.fuzz [--seed 0] [--configs 100]``

Draws configurations of small federations so that all pairs of levels (``tests.fuzz.levels``) come together, and
checks for each what must hold for every one of them:

- it is trained, or refused before its first round by one line;
- the engines agree: to the bit, and ``VectorizedEngine`` to rounding;
- a run that was stopped and is resumed by new objects, with the same engine or another, ends like an uninterrupted one;
- a second fit of the same objects equals one of new objects that start from the same weights;
- another ``eval_batch_size``, logger, or callback that only looks on changes nothing, and nor do settings that say the
  same in other words (``mu`` of 0.1 and ``ConstantMu(0.1)``, no schedule and a constant one);
- what the user passed in is as it was.

A violation is reduced to the fewest settings that still show it, and reported. A configuration takes a few seconds; the
same seed draws the same configurations.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from fedlit import algorithms, schedules
from fedlit.core.errors import InputError
from fedlit.core.messages import find_input_error
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import AdaptiveMu, Diagnostics, FixedSlow, MuByName, PartialWork
from fedlit.mu import ConstantMu
from fedlit.runs import MetricsTable, Participation, checkpoints
from tests.contents import contents
from tests.fuzz.levels import FACTORS, PLAIN, SAME_SOURCES, Config, Objects, build

ROUNDS = 3
ENGINES: dict[str, Callable[[], Engine | None]] = {
    "LoopEngine": LoopEngine,
    "WorkersEngine": lambda: WorkersEngine(workers=2),
    "TrainerEngine": TrainerEngine,
    "default": lambda: None,
    "VectorizedEngine": lambda: VectorizedEngine(2),
}
#: What is compared by other files.
LEFT_OUT = ("TensorBoard",)

Change = Callable[[Objects], Objects | None]


class RefusedError(Exception):
    """fedlit refused a configuration before its first round."""


class BrokenError(Exception):
    """A relation does not hold."""


class StopError(Exception):
    """The run is interrupted."""


class StopAt(Callback):
    """Interrupts a run at the begin of a round, counted from 0, or counts its rounds."""

    def __init__(self, stop: int | None = None) -> None:
        self._at = stop  # not by the argument's name, as checkpoints record such attributes
        self.begun = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begun += 1
        if trainer.current_epoch == self._at:
            raise StopError


class Looks(Callback):
    """Draws random numbers and evaluates the network, and changes nothing."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
        with torch.no_grad():
            sum(parameter.sum() for parameter in pl_module.parameters())


class Memory(Logger):
    """Keeps what it is told, and changes the mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[dict[str, float]] = []

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> str:
        return "0"

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.heard.append(dict(metrics))
        metrics.clear()


class Ended(NamedTuple):
    """What a run leaves behind."""

    state: dict[str, Tensor]
    files: dict[str, Any]


def train(
    objects: Objects, folder: Path, engine: Engine | None, stop: int | None = None, resume: bool = False
) -> Ended:
    """Fit for ``ROUNDS`` rounds, or until the begin of a round; with ``resume`` from the last checkpoint.

    Raises:
        RefusedError: If it is refused before the first round.
        BrokenError: If it fails otherwise, or its refusal is no line.
    """
    objects.loop.engine = engine
    objects.loop.folder = folder
    watch = StopAt(stop)
    last = folder / "checkpoints" / "last.ckpt"
    finished = 0
    if resume:
        finished = int(torch.load(last, weights_only=True)["global_step"])
    seed_everything(1, verbose=False)
    own = [*checkpoints(folder / "checkpoints"), Participation(folder)]
    try:
        trainer = Trainer(
            max_epochs=ROUNDS,
            accelerator="cpu",
            logger=[*objects.loggers, MetricsTable(folder / "metrics.csv", finished)],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            callbacks=[objects.loop, *objects.callbacks, watch, *own],
            **objects.trainer,
        )
        trainer.fit(objects.module, datamodule=objects.data, ckpt_path=last if resume else None, weights_only=True)
    except StopError:
        pass
    except Exception as error:
        found = find_input_error(error)
        where = f"{watch.begun} rounds begun"
        if found is None or watch.begun:
            lines = "".join(traceback.format_exception(error)).splitlines()
            at = next((line.strip() for line in reversed(lines) if "/fedlit/" in line), "")
            raise BrokenError(f"fails ({where}): {type(error).__name__}: {str(error)[:300]} {at}") from error
        if "\n" in str(found) or len(str(found)) > 700:
            raise BrokenError(f"is refused by more than a line: {found}") from error
        raise RefusedError(str(found)) from error
    for name, value in objects.module.net.state_dict().items():
        if not torch.isfinite(value).all():
            raise RefusedError(f"diverges: {name}")
    state = {name: value.clone() for name, value in objects.module.net.state_dict().items()}
    return Ended(state, of_run(folder))


def of_run(folder: Path) -> dict[str, Any]:
    """The contents of a run's files, except those of other loggers."""
    found = contents(folder)
    return {name: value for name, value in found.items() if not name.startswith(LEFT_OUT)}


def difference(mine: Ended, other: Ended, without: tuple[str, ...] = (), rel: float = 0.0) -> str | None:
    """In words, the first difference of two runs; files and columns that begin with ``without`` do not count."""
    for name, value in mine.state.items():
        if not torch.equal(value, other.state[name]):
            return f"weights {name} differ by {float((value.double() - other.state[name].double()).abs().max()):.3g}"
    names = {name for name in (*mine.files, *other.files) if not name.startswith(without)}
    for name in sorted(names):
        one, two = mine.files.get(name), other.files.get(name)
        if name == "metrics.csv" and one is not None and two is not None:
            if found := _difference_of_rows(one, two, without, rel):
                return f"metrics.csv: {found}"
        elif one != two:
            return f"{name}: {_short(one)} and {_short(two)}"
    return None


def _difference_of_rows(
    one: list[dict[str, str]], two: list[dict[str, str]], without: tuple[str, ...], rel: float
) -> str | None:
    if len(one) != len(two):
        return f"{len(one)} rows and {len(two)}"
    for round, (mine, other) in enumerate(zip(one, two, strict=True), 1):
        for name in sorted({*mine, *other}):
            a, b = mine.get(name) or "", other.get(name) or ""
            if name.startswith(without) or a == b:
                continue
            if rel and a and b and math.isclose(float(a), float(b), rel_tol=rel, abs_tol=rel):
                continue
            return f"{name} of round {round}: {a or 'nothing'} and {b or 'nothing'}"
    return None


def _short(value: Any) -> str:
    return "missing" if value is None else str(value)[:120]


class Case:
    """A configuration and the runs made of it, in folders that are removed at the end."""

    def __init__(self, config: Config, seed: int) -> None:
        self.config, self.seed = dict(config), seed
        self.root = Path(tempfile.mkdtemp(prefix="fedlit_settings_"))
        self._base: Ended | None = None
        self._folders = 0

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def folder(self) -> Path:
        self._folders += 1
        folder = self.root / f"run{self._folders}" / "run"
        folder.mkdir(parents=True)
        return folder

    def objects(self, folder: Path, config: Config | None = None) -> Objects:
        try:
            return build(config or self.config, folder, self.seed)
        except InputError as error:
            raise RefusedError(str(error)) from error

    def run(
        self, engine: str = "LoopEngine", change: Change | None = None, config: Config | None = None
    ) -> Ended | None:
        """A run of new objects; None if the change does not apply."""
        folder = self.folder()
        objects = self.objects(folder, config)
        changed = objects if change is None else change(objects)
        return None if changed is None else train(changed, folder, ENGINES[engine]())

    @property
    def base(self) -> Ended:
        if self._base is None:
            self._base = self.run()
            assert self._base is not None
        return self._base


# --- relations: None, or the difference in words ---------------------------------------------------------------------

Relation = Callable[[Case], str | None]


def same_engine(engine: str) -> Relation:
    def check(case: Case) -> str | None:
        # checkpoints hold how many clients train together
        return difference(case.base, _run(case, engine), ("checkpoints", "own"))

    return check


def _run(case: Case, engine: str) -> Ended:
    ended = case.run(engine)
    assert ended is not None
    return ended


def vectorized(case: Case) -> str | None:
    """The change of the weights is the same to a hundredth, where nothing turns small differences into large ones."""
    config = case.config
    steep = ("krum", "multi-krum", "median", "clip, median", "trimmed", "attentive", "similarity", "clipped mean")
    if config["server_optimizer"] not in ("average", "momentum", "decay") or config["algorithm"] in steep:
        return None
    if config["client_optimizer"].startswith(("adam", "rms")) or config["precision"] != "32-true":
        return None
    try:
        mine = _run(case, "VectorizedEngine")
    except RefusedError:
        return None
    start = case.objects(case.folder()).module.net.state_dict()
    for name, value in mine.state.items():
        expected = case.base.state[name].double()
        scale = float((expected - start[name].double()).abs().max()) + 1e-4
        if (apart := float((value.double() - expected).abs().max())) > 0.01 * scale:
            return f"weights {name} differ by {apart:.3g}, and changed by {scale:.3g}"
    return None


def resumed(stop: int, first: str, second: str) -> Relation:
    def check(case: Case) -> str | None:
        if len(case.base.files["metrics.csv"]) <= stop:
            return None  # it stopped by itself before; resumed after that, Lightning trains until the next check
        folder = case.folder()
        train(case.objects(folder), folder, ENGINES[first](), stop)
        # An engine that is given takes the place of the one that was.
        ended = train(case.objects(folder), folder, ENGINES[second](), resume=True)
        # Checkpoints hold how many clients train together, and the folder of a user's own ModelCheckpoint.
        same = first == second == "LoopEngine" and case.config["callbacks"] != "checkpoint"
        return difference(case.base, ended, () if same else ("checkpoints", "own"))

    return check


def second_fit(case: Case) -> str | None:
    folder = case.folder()
    used = case.objects(folder)
    train(used, folder, LoopEngine())
    state, again, alone = copy.deepcopy(used.module.net.state_dict()), case.folder(), case.folder()
    fresh = case.objects(again)  # callbacks and loggers of the other folder
    second = train(used._replace(callbacks=fresh.callbacks, loggers=fresh.loggers), again, LoopEngine())
    new = case.objects(alone)
    new.module.net.load_state_dict(state)
    own = ("checkpoints", "own") if case.config["callbacks"] == "checkpoint" else ()
    return difference(train(new, alone, LoopEngine()), second, own)


def untouched(case: Case) -> str | None:
    folder = case.folder()
    objects = case.objects(folder)
    before = [copy.deepcopy(each) for each in objects.given]
    module, callbacks = objects.module, list(objects.callbacks)
    flags = {name: parameter.requires_grad for name, parameter in module.net.named_parameters()}
    modes = {name: each.training for name, each in module.net.named_modules()}
    loss = copy.deepcopy(module.loss.state_dict())
    threads, default, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    train(objects, folder, LoopEngine())
    for place, (one, two) in enumerate(zip(before, objects.given, strict=True)):
        if not np.array_equal(np.asarray(one), np.asarray(two)):
            return f"array {place} was changed"
    if flags != {name: parameter.requires_grad for name, parameter in module.net.named_parameters()}:
        return "requires_grad was changed"
    if modes != {name: each.training for name, each in module.net.named_modules()}:
        return "the training mode was changed"
    if any(not torch.equal(value, module.loss.state_dict()[name]) for name, value in loss.items()):
        return "the loss was changed"
    if any(parameter.grad is not None for parameter in module.net.parameters()):
        return "gradients were left behind"
    if callbacks != objects.callbacks:
        return "callbacks were changed"
    if (threads, default, grad) != (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()):
        return "a global setting of torch was changed"
    return None


def changed(change: Change, without: tuple[str, ...] = (), rel: float = 0.0, may_be_refused: bool = False) -> Relation:
    """A change of the objects that must not change the results."""

    def check(case: Case) -> str | None:
        try:
            ended = case.run(change=change)
        except RefusedError:
            if may_be_refused:
                return None
            raise
        return None if ended is None else difference(case.base, ended, ("checkpoints", "own/", *without), rel)

    return check


def eval_batch_size(objects: Objects) -> Objects:
    objects.data.eval_batch_size = 3
    return objects


def another_logger(objects: Objects) -> Objects:
    return objects._replace(loggers=[*objects.loggers, Memory()])


def onlooker(objects: Objects) -> Objects:
    return objects._replace(callbacks=[Looks(), *objects.callbacks])


def onlooker_last(objects: Objects) -> Objects:
    return objects._replace(callbacks=[*objects.callbacks, Looks()])


def constant_schedules(objects: Objects) -> Objects | None:
    module, done = objects.module, False
    if module.client_schedule is None:
        module.client_schedule, done = schedules.Step(100), True
    if module.server_schedule is None:
        module.server_schedule, done = schedules.Exponential(1.0), True
    return objects if done else None


def loose_clip_norm(objects: Objects) -> Objects | None:
    if objects.module.client_clip_norm is not None:
        return None
    objects.module.client_clip_norm = 1e30
    return objects


def loose_clip(norm: float) -> Change:
    def change(objects: Objects) -> Objects | None:
        loop = objects.loop
        loop.algorithm = algorithms.chain(algorithms.Clip(norm), loop.algorithm)
        return objects

    return change


def chain_of_one(objects: Objects) -> Objects:
    objects.loop.algorithm = [algorithms.chain(algorithms.chain(objects.loop.algorithm))]  # type: ignore[assignment]
    return objects


def with_fedavg(objects: Objects) -> Objects:
    objects.loop.algorithm = [algorithms.Algorithm(), objects.loop.algorithm]  # type: ignore[assignment]
    return objects


def other_words_of_mu(which: int) -> Change:
    def change(objects: Objects) -> Objects | None:
        if not isinstance(objects.module.mu, ConstantMu):
            return None
        value = objects.module.mu.value
        objects.module.mu = (
            ConstantMu(value),
            MuByName({".": value}, value),
            AdaptiveMu(value, least=value, most=value),
        )[which]
        return objects

    return change


def no_stragglers(which: int) -> Change:
    def change(objects: Objects) -> Objects | None:
        if type(objects.loop.stragglers).__name__ != "NoStragglers":
            return None
        objects.loop.stragglers = (PartialWork(0.0), PartialWork(0.0, drop=True), FixedSlow(0.0))[which]
        return objects

    return change


def diagnosed(objects: Objects) -> Objects | None:
    if objects.loop.diagnostics is not None:
        return None
    objects.loop.diagnostics = Diagnostics(every=1)
    return objects


def identity_augment(objects: Objects) -> Objects | None:
    if objects.data.augmentation is not None:
        return None
    objects.data.augment = nn.Identity()  # type: ignore[assignment]
    return objects


def never_stops(objects: Objects) -> Objects:
    objects.loop.max_rejected = 1.0
    return objects


def explicit_averaging(objects: Objects) -> Objects:
    objects.loop.averaging = objects.loop.averaging
    return objects


def server_momentum_zero(objects: Objects) -> Objects | None:
    from torch.optim import SGD

    made = objects.module.configure_optimizers()
    if type(made) is not SGD or made.defaults["momentum"] or made.defaults["weight_decay"]:
        return None
    objects.module.server_optimizer = lambda p: SGD([{"params": list(p)}], lr=1.0, momentum=0.0, dampening=0.0)
    return objects


def copied(objects: Objects) -> Objects:
    """A copy of the network in another memory format."""
    module = copy.deepcopy(objects.module.net)
    for parameter in module.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    objects.module.net = module
    return objects


def another_source(case: Case) -> str | None:
    for same in SAME_SOURCES:
        if case.config["source"] in same:
            others = [name for name in same if name != case.config["source"]]
            for other in others:
                ended = case.run(config=case.config | {"source": other})
                assert ended is not None
                if found := difference(case.base, ended, ("checkpoints", "own")):
                    return f"{other}: {found}"
    return None


def unvalidated(case: Case) -> str | None:
    """How often the model is validated does not change how it is trained, unless a callback stops it then."""
    if any(word in case.config["callbacks"] for word in ("validated", "early stopping")):
        return None
    other = "1" if case.config["check_val_every_n_epoch"] == "2" else "2"
    ended = case.run(config=case.config | {"check_val_every_n_epoch": other})
    assert ended is not None
    return difference(
        case.base,
        ended,
        (
            "checkpoints",
            "own",
            "global/",
            "metrics.csv",
            "attention_",
            "confusion",
            "client_accuracy",
            "partition",
            "fairness",
            "classes",
        ),
    )


RELATIONS: dict[str, Relation] = {
    "WorkersEngine": same_engine("WorkersEngine"),
    "TrainerEngine": same_engine("TrainerEngine"),
    "VectorizedEngine": vectorized,
    "resumed after 1": resumed(1, "LoopEngine", "LoopEngine"),
    "resumed after 2": resumed(2, "LoopEngine", "LoopEngine"),
    "resumed by workers": resumed(1, "LoopEngine", "WorkersEngine"),
    "resumed by a trainer": resumed(2, "WorkersEngine", "TrainerEngine"),
    "second fit": second_fit,
    "untouched": untouched,
    # In bf16-mixed, gradients that are measured are rounded to three digits.
    "eval_batch_size": changed(eval_batch_size, rel=1e-5, without=("rounds/", "diagnostics/")),
    "another logger": changed(another_logger),
    "onlooker": changed(onlooker),
    "onlooker last": changed(onlooker_last),
    "constant schedules": changed(constant_schedules, ("federation/",)),
    "loose clip norm": changed(loose_clip_norm),
    "Clip(inf)": changed(loose_clip(math.inf), may_be_refused=True),
    "Clip(1e30)": changed(loose_clip(1e30), may_be_refused=True),
    "chain of one": changed(chain_of_one),
    "chain with FedAvg": changed(with_fedavg),
    "ConstantMu": changed(other_words_of_mu(0)),
    # FedDyn needs a constant mu, and a private mean one that does not follow the losses.
    "MuByName": changed(other_words_of_mu(1), may_be_refused=True),
    "AdaptiveMu": changed(other_words_of_mu(2), may_be_refused=True),
    "PartialWork(0)": changed(no_stragglers(0)),
    "PartialWork(0, drop)": changed(no_stragglers(1)),
    "FixedSlow(0)": changed(no_stragglers(2)),
    "diagnosed": changed(diagnosed, ("diagnostics/", "drift/", "clients/gamma")),
    "identity augment": changed(identity_augment),
    "max_rejected": changed(never_stops),
    "explicit averaging": changed(explicit_averaging),
    "server momentum 0": changed(server_momentum_zero),
    "copied network": changed(copied),
    "another source": another_source,
    "unvalidated": unvalidated,
}
#: Relations in groups: of each group so many are checked with a configuration.
GROUPS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (2, ("WorkersEngine", "TrainerEngine", "VectorizedEngine")),
    (1, ("resumed after 1", "resumed after 2", "resumed by workers", "resumed by a trainer")),
    (1, ("second fit", "untouched")),
    (3, tuple(name for name in list(RELATIONS)[9:])),
)


def holds(config: Config, name: str, seed: int) -> str | None:
    """What is wrong with a relation (``runs`` is the run itself), or None.

    Raises:
        RefusedError: If the configuration is refused.
    """
    case = Case(config, seed)
    try:
        return _holds(case, name)
    finally:
        case.close()


def _holds(case: Case, name: str) -> str | None:
    try:
        case.base  # noqa: B018
    except BrokenError as error:
        return str(error) if name == "runs" else None
    if name == "runs":
        return None
    try:
        return RELATIONS[name](case)
    except RefusedError as refusal:
        return f"refused: {refusal}"
    except BrokenError as error:
        return str(error)


def minimised(config: dict[str, str], name: str, seed: int) -> dict[str, str]:
    """The fewest settings that differ from the plain ones and break the relation, found by leaving out ever less."""
    kept = chosen(config)
    size = len(kept)
    while size > 1:
        size = (size + 1) // 2
        names = list(kept)
        for part in (names[start : start + size] for start in range(0, len(names), size)):
            fewer = {name: level for name, level in kept.items() if name not in part}
            try:
                is_broken = holds(PLAIN | fewer, name, seed) is not None
            except RefusedError:
                continue
            if is_broken:
                kept = fewer
    return kept


def chosen(config: Config) -> dict[str, str]:
    """The settings that are not plain."""
    return {name: level for name, level in config.items() if level != PLAIN[name]}


def pairs_of(config: Config) -> set[tuple[str, str, str, str]]:
    return {(a, config[a], b, config[b]) for a, b in combinations(FACTORS, 2)}


def drawn(covered: set[tuple[str, str, str, str]], draw: random.Random) -> dict[str, str]:
    """The configuration of a few random ones that has the most new pairs."""
    candidates = [{name: draw.choice(levels) for name, levels in FACTORS.items()} for _ in range(20)]
    return max(candidates, key=lambda config: len(pairs_of(config) - covered))


class Attempts:
    """Runs configurations, and makes plain what they are refused for."""

    def __init__(self) -> None:
        self.refusals: Counter[str] = Counter()
        self._culprits: dict[str, str] = {}  # from how a refusal begins to the setting that it was for

    def accepted(self, config: dict[str, str], seed: int, draw: random.Random) -> tuple[Case, str | None] | None:
        """The run of a configuration that is not refused, and how it failed; None if there is none."""
        names = list(FACTORS)
        draw.shuffle(names)
        tried = self._try(config, seed)
        while isinstance(tried, str):
            self.refusals[tried[:160]] += 1
            first = [self._culprits[tried[:40]]] if tried[:40] in self._culprits else []
            for name in (name for name in [*first, *names] if config[name] != PLAIN[name]):
                simpler = config | {name: PLAIN[name]}
                found = self._try(simpler, seed)
                if not isinstance(found, str) or found[:40] != tried[:40]:
                    self._culprits[tried[:40]], config, tried = name, simpler, found
                    break
            else:
                return None
        return tried

    def _try(self, config: dict[str, str], seed: int) -> tuple[Case, str | None] | str:
        case = Case(config, seed)
        try:
            return case, _holds(case, "runs")
        except RefusedError as refusal:
            case.close()
            return str(refusal)


def total_pairs() -> int:
    return sum(len(FACTORS[a]) * len(FACTORS[b]) for a, b in combinations(FACTORS, 2))


def main() -> int:
    """Check configurations until their number is reached; 1 if a relation does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the configurations")
    parser.add_argument("--configs", type=int, default=100, help="their number")
    parser.add_argument("--start", type=int, default=0, help="leave out the first so many")
    parser.add_argument("--all", action="store_true", help="check every relation with each configuration")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning").setLevel(logging.CRITICAL)
    for name in ("pytorch", "pytorch.utilities.rank_zero", "fabric.utilities.seed"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    covered: set[tuple[str, str, str, str]] = set()
    attempts = Attempts()
    checked: Counter[str] = Counter()
    known: Counter[str] = Counter()
    configs = 0
    for index in range(options.start, options.configs):
        draw = random.Random(f"{options.seed}/{index}")
        found = attempts.accepted(drawn(covered, draw), index, draw)
        if found is None:
            continue
        case, broken = found
        configs += 1
        covered |= pairs_of(case.config)
        failures = [("runs", broken)] if broken else []
        for name in [] if broken else picked(draw, options.all):
            checked[name] += 1
            if problem := _holds(case, name):
                failures.append((name, problem))
        for name, problem in failures:
            kind = f"{name}: {problem[:60]}"
            known[kind] += 1
            if known[kind] > 1:
                continue
            try:
                small: Any = minimised(case.config, name, index)
            except Exception as error:
                small = f"{error!r} {chosen(case.config)}"
            say(f"BROKEN config {index}, {name}: {problem}\n    {small}")
        case.close()
        if index % 5 == 4:
            done = f"{configs} configurations, {len(covered)} of {total_pairs()} pairs, {sum(known.values())} broken"
            say(f"{time.process_time():.0f} s: {done}")
    say(f"{configs} configurations, {len(covered)} of {total_pairs()} pairs; relations: {dict(checked)}")
    for refusal, times in attempts.refusals.most_common():
        say(f"refused {times}: {refusal}")
    for kind, times in known.most_common():
        say(f"broken {times}: {kind}")
    return int(bool(known))


def picked(draw: random.Random, every: bool) -> Iterator[str]:
    if every:
        yield from RELATIONS
        return
    for count, names in GROUPS:
        yield from draw.sample(names, count)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
