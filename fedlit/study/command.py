"""``fedlit study``: run every combination of a study file's axes at every seed, several at once, and resume them.

A study file NAME.yaml starts the runs LOGS_DIR/NAME/COMBINATION/seed_K:

  base: plain_iid.yaml              a config; its path is relative to the study file's folder
  rounds: 50                        optional; by default the rounds of the base
  seeds: [0, 1, 2]                  at one seed all combinations share cohorts, stragglers and batch order
  axes:
    variant:                        an axis; each value has a name and its changes to the base: any keys of fedlit fit
      plain: {}
      channel: {model.net.attention: fedlit.attention.Channel}
    partition:
      iid: {data.partition: fedlit.data.Uniform}
      dir05: {data.partition: fedlit.data.Dirichlet, data.partition.alpha: 0.5}

A dict that is the value of an argument, such as model.mu.names, replaces the base's; model.mu.names.KEY sets one key.

To choose settings, for example a learning rate and mu, without looking at the test set:

  set: {data.validation_clients: 10}    settings of all runs; here 10 clients never train and validate each round
  select: global/accuracy               choose the best mean over seeds and the last five rounds (lowest for a loss);
                                        for other metrics write lowest global/mae, or highest my/score

To test claims on the runs, with verdicts in fedlit report:

  claims: claims.yaml                   a file like configs/claims.yaml; it is kept in study.json, with the runs
  baseline: plain                       the variant with which claims and the report compare the others

To compare variants at each value of another axis than partition, such as several data sets:

  within: data                          claims and the report compare variants at the same value of this axis

To run as many seeds as the claims need, and no more:

  seeds: {at_least: 5, at_most: 60, until: decided}     optional: batch: 5, first: 0

After the first seeds and after each batch, all parts of the claims are tested, by a rule that keeps its error rate
however often it looks. A decided part gets no more runs. An open part gets the next batch of seeds, for the variants
and partitions that it compares.

If you run the same command again, it keeps finished runs, resumes stopped runs from their last checkpoint, and tries
failed runs again.
"""

from __future__ import annotations

import json
import math
import shlex
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
from rich.table import Table

from fedlit.command.parser import Parser
from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write
from fedlit.core.tables import write_table
from fedlit.core.terminal import Terminal
from fedlit.engines.workers import available_cores
from fedlit.report.select import best_first, mean, metric_of, scores_of
from fedlit.runs.folder import STUDY, folder_name, usable
from fedlit.runs.read import rows_of
from fedlit.runs.state import FolderLock
from fedlit.study.ending import conclude
from fedlit.study.plan import Plan, read_plan, untestable_claims
from fedlit.study.run import StudyRun
from fedlit.study.sweep import run_all
from fedlit.study.unchanged import changed_code, check_plan, check_runs
from fedlit.study.until import Status, asked_for, likely, status, table


def parser() -> Parser:
    """The parser of the command."""
    options = Parser(prog="fedlit study", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--config", type=str, required=True, help="The study file.")
    options.add_argument("--dry_run", action="store_true", help="Show the runs and their expected time, and run none.")
    options.add_argument(
        "--jobs",
        type=int | None,
        default=None,
        help="Number of runs side by side, one core each; by default the number of cores, or 1 if there is a GPU.",
    )
    options.add_argument(
        "--logs_dir", type=str, default="logs", help="Folder of all runs; the study is in LOGS_DIR/NAME."
    )
    options.add_argument(
        "--name", type=str | None, default=None, help="Name of the study; by default that of the file."
    )
    return options


def main(words: Sequence[str]) -> int:
    """Run a study.

    Returns:
        0 if all runs have finished, 1 if some failed.
    """
    options = parser().parse_args(list(words))
    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {options.jobs}; leave it out for one run on each core")
    file = Path(options.config)
    folder = Path(options.logs_dir) / folder_name(options.name or file.stem, "the study's name")
    usable(folder, "--logs_dir or --name")
    plan = read_plan(file)
    jobs = options.jobs or (1 if torch.cuda.is_available() else available_cores())
    check_plan(plan, folder)
    now = status(plan, folder) if plan.looks else None
    runs = _runs(plan, now, folder)
    check_runs(runs, folder)
    console = Terminal()
    for line in changed_code(runs):
        console.print(line)
    for number, why in untestable_claims(plan).items():
        console.print(f"claim {number} cannot be tested: {why}")
    if options.dry_run:
        _show(runs, jobs, console)
        _outlook(plan, now, folder, jobs, console)
        return 0
    lock = FolderLock(folder)
    try:
        runs, failed, now = _train(plan, runs, folder, jobs, words, console)
    except KeyboardInterrupt:
        console.print(f"stopped; resume with: {shlex.join(['fedlit', 'study', *words])}")
        raise
    finally:
        lock.release()
    conclude(folder, console)
    if failed:
        console.print(f"{len(failed)} of {len(runs)} runs failed; the same command tries them again")
        if now and (waiting := _waiting(now, failed)):
            console.print(
                f"claim {' and '.join(map(str, waiting))} cannot be tested further without them: a look needs all of "
                "its seeds, as a verdict would depend on which seeds fail if others took their place"
            )
    elif plan.select:
        _select(plan, runs, folder, console)
    console.print(f"view it: tensorboard --logdir {shlex.quote(str(folder))}")
    return 1 if failed else 0


def _train(
    plan: Plan, runs: list[StudyRun], folder: Path, jobs: int, words: Sequence[str], console: Terminal
) -> tuple[list[StudyRun], list[StudyRun], Status | None]:
    """Train the runs, and those that claims then need, until nothing is left to do.

    Returns:
        All runs, those that failed, and how far the claims are decided.
    """
    failed: list[StudyRun] = []
    try:
        while True:
            for run in runs:
                run.clear()
            _write(plan, runs, folder, words)
            for damage in filter(None, (run.damage for run in runs)):
                console.print(f"ignored: {damage}")
            console.print(f"{len(runs)} runs in {folder}: {_estimate(runs, jobs)}")
            failed += run_all([run for run in runs if run not in failed], jobs, console)
            now = status(plan, folder) if plan.looks else None
            _outlook(plan, now, folder, jobs, console)
            runs = _runs(plan, now, folder)
            if all(run.finished or run in failed for run in runs):
                return runs, failed, now
    finally:
        _write(plan, runs, folder, words)


def _runs(plan: Plan, now: Status | None, folder: Path) -> list[StudyRun]:
    """The runs that are needed now, seed by seed, so that a study stopped half-way has the same seeds of all
    combinations.

    If the study does not test claims while seeds are added, there is no status and all runs are needed.
    """
    every = [(each, seed) for seed in plan.seeds for each in plan.combinations]
    asked = asked_for(plan, now) if now else every
    return [StudyRun(plan.base, each, seed, folder) for each, seed in asked]


def _waiting(now: Status, failed: Sequence[StudyRun]) -> list[int]:
    """The claims that have an open part which compares one of these runs."""
    names = {run.combination for run in failed}
    return sorted(
        {each.claim for each in now.undecided if any(now.cells[cell] in names for cell in each.part.contrast.cells)}
    )


def _outlook(plan: Plan, now: Status | None, folder: Path, jobs: int, console: Terminal) -> None:
    """Show how far the claims of a study are decided, and how many runs are likely to be needed."""
    if now is None or not now.judged:
        return
    console.print(table(plan, now))
    for judged in now.judged:
        console.print(f"claim {judged.number} {judged.verdict}: {judged.text}")
    ended = [StudyRun(plan.base, each, seed, folder) for each, seed in likely(plan, now)]
    if now.undecided and not all(run.finished for run in ended):
        console.print(f"about {len(ended)} runs in total if the differences stay as they are: {_estimate(ended, jobs)}")


def _select(plan: Plan, runs: Sequence[StudyRun], folder: Path, console: Terminal) -> None:
    """Rank the combinations by the metric, write ``selection.csv`` and say how to train the best on all clients.

    Raises:
        InputError: If the runs have no such metric.
    """
    assert plan.select is not None
    select, metric = plan.select, metric_of(plan.select)
    tables = [rows_of(run.folder) for run in runs]
    if not all(any(row.get(metric) for row in rows) for rows in tables):
        raise InputError(f"select: the runs have no metric {metric}; give the name of a column of their metrics.csv")
    common = min(int(rows[-1]["round"]) for rows in tables)  # a run may have stopped early; the report compares there
    scores = scores_of(((run.combination, run.folder) for run in runs), metric, common)
    ranked = best_first(select, scores)
    if not math.isfinite(mean(scores[ranked[0]])):
        raise InputError(f"select: {metric} is not finite in any combination at all seeds; lower the learning rate")
    table = Table("combination", *(f"seed {seed}" for seed in plan.seeds), "mean", title=plan.select, box=None)
    rows = [[each.name, *scores[each], mean(scores[each])] for each in ranked]
    for name, *numbers in rows:
        table.add_row(str(name), *(f"{number:.4f}" for number in numbers))
    console.print(table)
    write_table(folder / "selection.csv", ["combination", *(f"seed_{seed}" for seed in plan.seeds), "mean"], rows)
    given = zip(ranked[0].arguments[::2], ranked[0].arguments[1::2], strict=True)
    words = [word for pair in given if pair not in plan.common for word in pair]
    command = ["fedlit", "fit", "--config", str(plan.base), *words]
    console.print(f"to train the best on all clients: {shlex.join(command)}")


def _write(plan: Plan, runs: Sequence[StudyRun], folder: Path, words: Sequence[str]) -> None:
    """Write the study's record, ``study.json``, atomically."""
    facts = {
        "command": ["fedlit", "study", *words],
        "started_in": str(Path.cwd()),
        "file": plan.tree,
        "base": str(plan.base),
        "seeds": list(dict.fromkeys(run.seed for run in runs)),
        "rounds": max(each.rounds for each in plan.combinations),
        "select": plan.select,
        "claims": plan.claims.tree if plan.claims else None,
        "baseline": plan.baseline,
        "within": plan.within,
        "looks": plan.looks.at if plan.looks else None,
        "axes": plan.axes,
        "runs": [{"name": run.combination.name, "seed": run.seed, "axes": run.combination.values} for run in runs],
        "combinations": {
            each.name: {"rounds": each.rounds, "words": each.arguments, "config": each.config}
            for each in plan.combinations
        },
        "hashes": {f"{run.combination.name}/{run.version}": found for run in runs if (found := run.hashes())},
    }
    with atomic_write(folder / STUDY) as file:
        file.write(json.dumps(facts, indent=1) + "\n")


def _show(runs: Sequence[StudyRun], jobs: int, console: Terminal) -> None:
    """Show all runs and their progress, in the order in which they are started."""
    table = Table("run", "seed", "state", "rounds", box=None)
    for run in runs:
        table.add_row(run.combination.name, str(run.seed), run.state, f"{run.rounds_done}/{run.rounds}")
    console.print(table)
    states = [run.state for run in runs]
    console.print(
        f"{len(runs)} runs: " + ", ".join(f"{states.count(state)} {state}" for state in ("done", "part-done", "to do"))
    )
    console.print(_estimate(runs, jobs))


def _estimate(runs: Sequence[StudyRun], jobs: int) -> str:
    """The estimated time left, from finished rounds, of the same combination if possible."""
    seconds: dict[str, list[float]] = {}
    for run in runs:
        seconds.setdefault(run.combination.name, []).extend(each for each in run.round_seconds() if each == each)
    known = [each for rounds in seconds.values() for each in rounds]
    left = [run for run in runs if not run.finished]
    if not left:
        return "all runs have finished"
    side_by_side = f"{min(jobs, len(left))} side by side" if min(jobs, len(left)) > 1 else "one after the other"
    if not known:
        return f"{side_by_side}; time unknown until the first rounds have finished"
    mean = sum(known) / len(known)
    total = 0.0
    for run in left:
        own = seconds[run.combination.name]
        total += (run.rounds - run.rounds_done) * (sum(own) / len(own) if own else mean)
    return f"about {timedelta(seconds=round(total / min(jobs, len(left))))} left, {side_by_side}"
