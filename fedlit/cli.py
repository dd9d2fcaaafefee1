"""The command line: ``fit``, ``validate``, ``test``, ``predict`` a run; ``study``, ``report``, ``runs`` for many."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.trainer.connectors.accelerator_connector import _PRECISION_INPUT
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

import fedlit.algorithms
import fedlit.optim  # noqa: F401  # their classes can be named without the package
from fedlit.core.checkpoint import BrokenCheckpointError, CheckpointFile, read
from fedlit.core.configs import check_config, plain_strings, read_text
from fedlit.core.errors import InputError
from fedlit.core.files import quiet_threads, refuse_endless, replacing, unwritten
from fedlit.core.messages import GO_ON, explain, lost_rank, missing_package, mistake, one_line, out_of_memory, warn
from fedlit.data.module import FederatedData
from fedlit.defaults import OwnDefaults
from fedlit.federated import FederatedLoop, FederatedModule, Mu
from fedlit.federated.resume import while_restoring
from fedlit.federated.trainer_settings import check_arguments, check_settings
from fedlit.given import check_section, flat
from fedlit.named import check_functions
from fedlit.runs import (
    Outcome,
    Participation,
    Pictures,
    RoundProgress,
    RunLog,
    checkpoints,
    loggers_of,
    own_loggers,
    place_own,
)
from fedlit.runs.changes import changes, config_in, refuse
from fedlit.runs.evaluation import write_predictions, write_test
from fedlit.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    UNTIL_ROUND,
    find_checkpoint,
    folder_name,
    newest_whole,
    plain_name,
    run_of,
    usable,
)
from fedlit.runs.state import Claim, claim_new, is_unused
from fedlit.runs.stop import RankWatch, Terminated, sigterm_is_ctrl_c

Precision = _PRECISION_INPUT | Literal["auto"]


#: Commands that are no method of a Trainer's, the modules whose ``main`` they are, and what they do.
OURS = {
    "study": ("fedlit.study.command", "Run every combination of a study file's axes at every seed."),
    "report": ("fedlit.report.command", "Turn a study's runs into tables, curves, tests and verdicts."),
    "verify": ("fedlit.study.verify", "Stop and resume a short run of a config: does it end with the same bits?"),
    "runs": ("fedlit.runs.listing", "Show all runs under a folder: how far, how good, and how to go on."),
}

#: Arguments of a net that are the data's.
OF_DATA = ("num_classes", "in_channels")

INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT and SIGTERM, as shells have it


def best_precision(accelerator: str) -> _PRECISION_INPUT:
    """The precision that suits the hardware: bf16-mixed on GPUs that have it, 16-mixed on older ones, else 32-true.

    A CPU without matrix instructions for bf16 trains several times slower in it, so there it is never chosen.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "32-true"


class Trainer(lightning.Trainer):
    """The server's Trainer: an epoch is a round.

    Args:
        precision: Of the clients' fits and of evaluation. ``auto`` is bf16-mixed on GPUs that have bf16, 16-mixed on
            older ones and 32-true on a CPU.
        plugins: As Lightning's. Without one for checkpoints there is ``fedlit.core.checkpoint.CheckpointFile``.

    Raises:
        InputError: For an argument that has no effect on a federation.
    """

    def __init__(self, *args: Any, precision: Precision | None = "auto", **kwargs: Any) -> None:
        accelerator = kwargs.get("accelerator", "auto")
        chosen = (
            best_precision(accelerator if isinstance(accelerator, str) else "cpu") if precision == "auto" else precision
        )
        given = kwargs.pop("plugins", None) or []
        plugins = list(given) if isinstance(given, list | tuple) else [given]
        has_own = getattr(kwargs.get("strategy"), "_checkpoint_io", None) is not None
        if not has_own and not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(CheckpointFile())
        check_arguments(kwargs)
        super().__init__(*args, precision=chosen, plugins=plugins, **kwargs)
        check_settings(self)


class Parser(OwnDefaults):
    """A parser whose errors are one line: what is wrong with which value, and what to do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # a mistyped option is none, however near to one

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise explain(message, ex, self) from ex

    def _check_value_key(self, action: Any, value: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse's, which comes by every value at its key, whether in a class or not."""
        check_functions(action.dest, value, getattr(action, "_typehint", None))
        return super()._check_value_key(action, value, key, *args, **kwargs)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse's; an error names the file, and what it would pass over in silence is one."""
        try:
            check_config(read_text(Path(path)), (*OWNERS, "data", "seed_everything"))
            return super().parse_path(path, *args, **kwargs)
        except ValueError as error:
            raise InputError(f"{path}: {mistake(error) or explain(str(error), error, self)}") from error


class KeepConfig(SaveConfigCallback):
    """Saves the run's config, in one move, once training starts: a refused resume leaves the old one as it was.

    A checkpoint holds the config that it was trained with. Where a run goes on with another, what changed is said, and
    the one of the rounds before is kept as ``config_until_round_N.yaml``.

    Args:
        folder: The run's; None saves nothing, as on ranks other than the first.
        arguments: Of ``SaveConfigCallback``.
    """

    _earlier: str | None = None

    def __init__(self, *arguments: Any, folder: Path | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._folder = folder

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Too early."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        folder = self._folder
        if folder is None or not trainer.is_global_zero:
            return
        found = changes(*map(yaml.safe_load, (self._earlier, self._text))) if self._earlier else []
        if found and self._earlier:
            with replacing(folder / UNTIL_ROUND.format(trainer.current_epoch)) as file:
                file.write(self._earlier)
        with replacing(folder / CONFIG) as file:
            file.write(self._text)
        for change in found:
            sys.stdout.write(f"{change} from round {trainer.current_epoch + 1} on\n")

    @property
    def _text(self) -> str:
        return str(self.parser.dump(self.config, skip_none=False))

    def state_dict(self) -> dict[str, Any]:
        return {"config": self._text}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier = state_dict["config"]


#: Sections of a config and whose arguments they are.
OWNERS = {"federation": FederatedLoop, "model": FederatedModule, "trainer": Trainer}


class FedlitCLI(LightningCLI):
    """LightningCLI with the federation's defaults and a section ``federation`` for ``FederatedLoop``."""

    def __init__(self, args: ArgsType = None, **kwargs: Any) -> None:
        self._command = [str(word) for word in args] if isinstance(args, list) else sys.argv[1:]
        self._refused: InputError | None = None
        self.claim: Claim | None = None
        super().__init__(
            FederatedModule,
            FederatedData,
            subclass_mode_data=True,
            trainer_class=Trainer,
            trainer_defaults={"max_epochs": 20, "num_sanity_val_steps": 0, "enable_model_summary": False},
            save_config_callback=KeepConfig,
            save_config_kwargs={"overwrite": True},  # a resumed run writes its config again
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=Parser,
            parser_kwargs={"prog": "fedlit", "description": __doc__},
            args=args,
            **kwargs,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--name", type=str | None, default=None, help="Name of the run; by default that of the last config file."
        )
        parser.add_argument("--logs_dir", type=str, default="logs", help="Folder of all runs: LOGS_DIR/NAME/version_N.")
        parser.add_argument(
            "--version",
            type=str | None,
            default=None,
            help="Folder in place of version_N: LOGS_DIR/NAME/VERSION; with --ckpt_path last, which run to go on with.",
        )
        parser.add_lightning_class_args(FederatedLoop, "federation")
        default_classes = {"model.net": "fedlit.models.EmnistCNN", "data": "fedlit.data.MNIST5k"}
        parser.set_defaults({key: {"class_path": path} for key, path in default_classes.items()})
        for of_data in OF_DATA:
            parser.link_arguments(
                "data", f"model.net.init_args.{of_data}", compute_fn=_attribute(of_data), apply_on="instantiate"
            )

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Lightning's, and the names of ours, for ``--help`` and for the remedy of a mistyped one."""
        super()._add_subcommands(parser, **kwargs)
        actions = parser._subcommands_action
        assert actions is not None
        for name, (_, does) in OURS.items():
            actions.add_subcommand(name, Parser(description=does), help=does)

    # --- what the parser lets pass -----------------------------------------------------------------------------------

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        refuse_endless(self._command)
        super().parse_arguments(parser, args)
        self.config = plain_strings(self.config)
        section = self.config[self.config.subcommand].as_dict()
        check_section(section, OWNERS)

    def _add_instantiators(self) -> None:
        super()._add_instantiators()
        self.parser.add_instantiator(self._make_mu, Mu)

    def _make_mu(self, class_type: type[Mu], *args: Any, **kwargs: Any) -> Mu:
        """Keep what a rule for mu says: of several types that a value may have, jsonargparse chains one's error."""
        try:
            return class_type(*args, **kwargs)
        except InputError as error:
            self._refused = error
            raise

    def instantiate_classes(self) -> None:
        """Make data, net and federation.

        Raises:
            InputError: Also when the net was given another number of classes or channels than the data has.
        """
        try:
            super().instantiate_classes()
            self._refuse_overridden()
        except BaseException as error:
            if self.claim is not None:
                self.claim.release()
            if self._refused is not None and isinstance(error, ValueError):
                raise self._refused from error
            if absent := missing_package(error):
                raise absent from error
            raise

    def _refuse_overridden(self) -> None:
        """Refuse a number of classes or channels that was given and is not the data's."""
        parser = self._parser(self.subcommand)
        assert isinstance(parser, Parser)
        assert parser.written is not None  # it has parsed
        for of_data in OF_DATA:
            given, has = parser.written.get(f"model.net.init_args.{of_data}"), getattr(self.datamodule, of_data)
            if given not in (None, has):
                raise InputError(
                    f"model.net.{of_data} is {given} but the data has {has}; leave it out, it is taken from the data"
                )

    def _dump_config(self) -> None:
        """As Lightning's, which looks for the arguments of a net that takes none."""
        super()._dump_config()
        self.config_dump["model"]["net"].setdefault("init_args", {})

    # --- where the run lives -----------------------------------------------------------------------------------------

    @property
    def run_name(self) -> str:
        """The run's name: as given, else the last config file's, else ``default``."""
        section = self.config[self.subcommand]
        configs = section.get("config") or []
        return section.name or (Path(str(configs[-1])).stem if configs else "default")

    def before_instantiate_classes(self) -> None:
        section = self.config[self.subcommand]
        for line in self.parser.changes.left_out if isinstance(self.parser, Parser) else []:
            warn(line)
        self.checkpoint: Path | None = None
        if section.get("weights_only") is not None:
            raise InputError("--weights_only: checkpoints are always read as data, never as code; leave it out")
        if section.get("return_predictions") is False:
            raise InputError("--return_predictions is false, but fedlit predict writes them to a file; leave it out")
        if section.version is not None:
            folder_name(section.version, "--version")
        plain_name(self.run_name)
        usable(Path(section.logs_dir) / self.run_name, "--logs_dir or --name")
        self.logs = Path(section.logs_dir).resolve()  # from here on every path of a run has one form
        if section.ckpt_path in ("last", "best"):
            self.checkpoint = find_checkpoint(self.logs, self.run_name, section.ckpt_path, section.version)
        elif section.ckpt_path:
            self.checkpoint = Path(section.ckpt_path).resolve()
            if not self.checkpoint.is_file():
                raise InputError(f"no checkpoint file {section.ckpt_path!r}; use --ckpt_path last, best or a file")
        elif self.subcommand != "fit":
            raise InputError(f"fedlit {self.subcommand} needs a trained model: --ckpt_path best, last or a file")
        elif section.version and _first_rank():
            _check_unused(self.logs / self.run_name / section.version)
        if self.subcommand == "fit" and self.checkpoint and _first_rank():
            run = run_of(self.checkpoint)
            if run:
                _check_place(run, section.name, section.version)
            self.claim = Claim(run) if run else None
        self.finished_rounds = self._read_rounds(section.ckpt_path) if self.checkpoint else 0

    def _read_rounds(self, given: str) -> int:
        """How many rounds the checkpoint holds; a broken ``last`` is replaced by the newest whole one of the run.

        Raises:
            InputError: When it cannot be read, and another was not asked for or is not there.
        """
        assert self.checkpoint is not None
        try:
            return self._rounds_of(read(self.checkpoint))
        except BrokenCheckpointError as error:
            other = newest_whole(self.checkpoint.parent)
            if given != "last":
                raise InputError(f"{error}; {other[0]} is whole") if other else error from None
            if other is None:
                raise InputError(f"{error.reason}, nor is another of its run; start anew without --ckpt_path") from None
            self.checkpoint, _ = other
            rounds = self._rounds_of(read(self.checkpoint))
            warn(f"{error.reason}; going on after round {rounds} with {other[0]}")
            return rounds

    def _rounds_of(self, checkpoint: dict[str, Any]) -> int:
        """How many rounds a checkpoint holds; settings with which it cannot be gone on with are refused."""
        before = config_in(checkpoint, KeepConfig.__name__) if self.subcommand == "fit" else None
        if before is not None:
            section = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False)
            refuse(changes(before, yaml.safe_load(section)))
        return int(checkpoint["global_step"])

    def _parse_ckpt_path(self) -> None:
        """Nothing: our checkpoints hold no hyper-parameters to be read before the config is known."""

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        section = self.config_init[self.subcommand]
        given = section.trainer
        if self.subcommand != "fit":
            self.save_config_callback = None
            return super().instantiate_trainer(logger=own_loggers(given.logger) or False, **kwargs)
        # Callbacks that the Trainer's own switches turn off are not even made: it would refuse them.
        callbacks = given.callbacks if isinstance(given.callbacks, list) else list(filter(None, [given.callbacks]))
        own_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        bars = [] if own_bar or given.enable_progress_bar is False else [RoundProgress()]
        told: list[lightning.Callback] = [RankWatch(), *bars]
        run = self._run_folder()
        section.federation.folder = self.save_config_kwargs["folder"] = run
        log = RunLog(section.logs_dir, self._command, self._hparams(), self.claim)
        place_own(callbacks, run)
        kept = checkpoints(run and run / CHECKPOINTS) if given.enable_checkpointing is not False else []
        self.trainer_defaults["callbacks"] = [*told, Pictures(run), Participation(run), Outcome(run), log, *kept]
        loggers = loggers_of(run, given.logger, self.finished_rounds if self._goes_on else 0)
        return super().instantiate_trainer(logger=loggers, **kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except Exception as error:
            if self.checkpoint is None or mistake(error) or not while_restoring(error):
                raise
            said = one_line(f"{type(error).__name__}: {error}", 200)
            raise BrokenCheckpointError(self.checkpoint, f"cannot be used: {said}") from error

    def before_fit(self) -> None:
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RankWatch):
                callback.start(self.trainer)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[lightning.Callback]) -> lightning.Trainer:
        try:
            return super()._instantiate_trainer(config, callbacks)
        except (ValueError, TypeError, ImportError, RuntimeError, MisconfigurationException) as error:
            raise mistake(error) or InputError(f"trainer: {error}; fedlit fit --help explains its arguments") from error

    @property
    def _goes_on(self) -> bool:
        """Whether the run is one that is there already."""
        return self.checkpoint is not None and run_of(self.checkpoint) is not None

    def _run_folder(self) -> Path | None:
        """The folder that this process has claimed, for a new run or the one that the checkpoint is of.

        All that is written of a run is written there. None on ranks other than the first, which write nothing.
        """
        if not self._goes_on and _first_rank():
            self.claim = claim_new(self.logs / self.run_name, self.config[self.subcommand].version)
            _check_unused(self.claim.folder)  # again: another may have just ended there
        return self.claim.folder.resolve() if self.claim else None

    def _hparams(self) -> dict[str, Any]:
        """The run's choices, flat: everything but how the Trainer is run."""
        self._dump_config()
        sections = {key: self.config_dump[key] for key in ("model", "data", "federation", "seed_everything")}
        return {**_shortened(flat(sections)), "rounds": self.config_dump["trainer"]["max_epochs"]}

    # --- what each command does --------------------------------------------------------------------------------------

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        checkpoint = str(self.checkpoint) if self.checkpoint else None
        # Checkpoints are data, not code.
        kwargs = {**super()._prepare_subcommand_kwargs(subcommand), "ckpt_path": checkpoint, "weights_only": True}
        return {**kwargs, "verbose": False} if subcommand == "test" else kwargs  # we print a fuller table

    def before_test(self) -> None:
        self._check_results("test.json", "test_classes.csv", "test_clients.csv")

    def before_predict(self) -> None:
        self._check_results("predictions*.csv")

    def _check_results(self, *patterns: str) -> None:
        """Refuse to write results of a checkpoint from elsewhere over files of the user's, before they are made."""
        assert self.checkpoint is not None
        if run_of(self.checkpoint) is None and (there := next(chain(*map(Path.cwd().glob, patterns)), None)):
            raise InputError(
                f"{there} is there, and results of a checkpoint that lies in no run's folder go to the current folder; "
                "move the file, or give the command in another folder"
            )

    def after_test(self) -> None:
        write_test(self.trainer, self._results_folder(), show=self.config[self.subcommand].verbose)

    def after_predict(self) -> None:
        write_predictions(self.trainer, self._results_folder())

    def _results_folder(self) -> Path:
        assert self.checkpoint is not None
        return run_of(self.checkpoint) or Path()


def _first_rank() -> bool:
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def _check_unused(folder: Path) -> None:
    """Refuse a new run where there is one."""
    if not is_unused(folder):
        raise InputError(f"there is a run in {folder}; go on with it by --ckpt_path last, or give another --version")


def _check_place(run: Path, name: str | None, version: str | None) -> None:
    """Refuse another place for a run that goes on."""
    for option, given, has in (("--name", name, run.parent.name), ("--version", version, run.name)):
        if given not in (None, has):
            raise InputError(
                f"{option} is {given}, but the checkpoint is of the run {run}, which goes on where it is; leave "
                f"{option} out, or copy the file out of its folder to begin a new run from it"
            )


def _attribute(name: str) -> Any:
    def read(data: FederatedData) -> Any:
        return getattr(data, name)

    return read


def _shortened(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys by their last word where no other key ends in it, class paths by the class."""
    words = Counter(key.rpartition(".")[2] for key in flat)
    short = {key: word if words[word := key.rpartition(".")[2]] == 1 else key for key in flat}
    return {short[k]: v.rpartition(".")[2] if isinstance(v, str) else v for k, v in flat.items()}


def main(args: ArgsType = None) -> int:
    """Run a command; a mistake of the user's is one line on stderr.

    Returns:
        0 when done, 1 when another rank was lost, a run of a study failed or a resumed run differs, 2 for a mistake in
        the input, 130 when stopped by Ctrl-C, 143 by SIGTERM.
    """
    if not {"", here := str(Path.cwd())} & set(sys.path):
        sys.path.append(here)  # classes of a config's own, as with python -m; last, it shadows no other module
    warnings.filterwarnings("ignore", module=r"lightning\.")  # what Lightning would tell its own developers
    for noisy in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        words = [str(word) for word in args] if isinstance(args, list) else sys.argv[1:]
        if words and words[0] in OURS:
            module = importlib.import_module(OURS[words[0]][0])
            return int(module.main(words[1:]))
        with sigterm_is_ctrl_c(), quiet_threads():
            FedlitCLI(args)
    except Exception as error:
        told = mistake(error) or unwritten(error) or (error if isinstance(error, MisconfigurationException) else None)
        if told is None and lost_rank(error):
            rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
            sys.stderr.write(
                f"fedlit: error: rank {rank} lost contact with another rank: {one_line(str(error))}; {GO_ON}\n"
            )
            return 1
        if told is None and out_of_memory(error):
            told = InputError(f"out of memory: {error}; use a smaller net, batch or data set")
        if told is None:
            raise
        sys.stderr.write(f"fedlit: error: {one_line(str(told))}\n")
        return 2
    except (KeyboardInterrupt, SystemExit) as stop:
        status = _status(stop) or _status(stop.__context__)  # Lightning turns Ctrl-C into an exit of status 1
        if status is None:
            raise
        return status
    return 0


def _status(stop: BaseException | None) -> int | None:
    """Of a process that was told to stop; None where it was not."""
    if isinstance(stop, Terminated | SIGTERMException):
        return TERMINATED
    return INTERRUPTED if isinstance(stop, KeyboardInterrupt) else None
