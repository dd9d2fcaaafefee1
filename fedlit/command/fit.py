"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI for a federation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import lightning
import yaml
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from fedlit.command.arguments import FederationArguments
from fedlit.command.blame import error_in_user_code
from fedlit.command.chosen import chosen
from fedlit.command.keep_config import KeepConfig
from fedlit.command.parser import Parser
from fedlit.command.place import Place
from fedlit.command.sections import flat, shortened
from fedlit.core.checkpoint import BrokenCheckpointError
from fedlit.core.errors import InputError
from fedlit.core.messages import find_input_error, one_line, warn
from fedlit.core.private_lightning import raised_while_restoring
from fedlit.federated.resume import check_record
from fedlit.federated.trainer_settings import check_limit, warn_of_limit
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
from fedlit.runs.changes import changes, config_in, other_results, refuse
from fedlit.runs.evaluation import write_predictions, write_test
from fedlit.runs.folder import CHECKPOINTS, shown
from fedlit.runs.own_loggers import keep_tables, numbering, remove_empty, take_numbers
from fedlit.runs.setting import Setting
from fedlit.runs.stop import RankWatch


class FedlitCLI(FederationArguments):
    """Runs a command: finds the run's folder, makes the Trainer with fedlit's callbacks, and writes the results."""

    place: Place | None = None
    #: Settings that differ from those the checkpoint was trained with, as a warning beside its results.
    other_settings: str | None = None
    #: The user's loggers that number their folders themselves.
    _numbering: Sequence[CSVLogger | TensorBoardLogger] = ()
    #: Folders that were made for loggers.
    _made: Sequence[Path] = ()

    def instantiate_classes(self) -> None:
        """As in ``FederationArguments``, and sets the Trainer's arguments. On an error, the folder is unlocked."""
        try:
            super().instantiate_classes()
        except BaseException:
            if self.place is not None:
                self.place.release()
            raise
        section, checkpoint = self.config_init[self.subcommand], self.place and self.place.checkpoint
        section.ckpt_path = str(checkpoint) if checkpoint else None
        section.weights_only = True  # checkpoints are data, not code
        if self.subcommand == "test":
            section.verbose = False  # fedlit prints a more detailed table

    @property
    def run_name(self) -> str:
        """The run's name: ``--name``, else the name of the last config file, else ``default``."""
        section = self.config[self.subcommand]
        files = [file for file in section.get("config") or [] if file is not None]  # None for YAML in place of a file
        return section.name or (Path(str(files[-1])).stem if files else "default")

    def before_instantiate_classes(self) -> None:
        section = self.config[self.subcommand]
        assert isinstance(self.parser, Parser)
        for line in self.parser.changes.left_out:
            warn(line)
        if section.get("weights_only") is not None:
            raise InputError(
                "--weights_only has no effect, since checkpoints are always read as data, never as code; leave it out"
            )
        if section.get("return_predictions") is False:
            raise InputError(
                "--return_predictions is false, but fedlit predict writes predictions to a file; leave it out"
            )
        self.place = Place(self.run_name, section, str(self.subcommand), self._accept)

    def _accept(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that cannot be resumed with these settings; remember those that change its scores."""
        if self.subcommand == "fit":
            self._check_resumable(checkpoint)
        before = config_in(checkpoint, KeepConfig.__name__)
        if before is None:
            return
        section = self.command_parser.dump(self.config[self.subcommand], skip_none=False)
        found = changes(before, yaml.safe_load(section))
        if self.subcommand == "fit":
            refuse(found)
        else:
            self.other_settings = other_results(found)

    def _check_resumable(self, checkpoint: dict[str, Any]) -> None:
        with suppress(LookupError, TypeError):  # a part is missing or damaged: the error on restoring it says more
            check_record(checkpoint)
        asked, finished = self.config[self.subcommand].trainer.max_epochs, checkpoint.get("global_step")
        if isinstance(finished, int) and asked is not None and 0 <= asked < finished:
            raise InputError(
                f"trainer.max_epochs is {asked}, but the checkpoint has {finished} finished rounds; give at least "
                f"{finished}, or begin a new run without --ckpt_path"
            )

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        section = self.config_init[self.subcommand]
        given = section.trainer
        if self.subcommand != "fit":
            self.save_config_callback = None
            return super().instantiate_trainer(logger=own_loggers(given.logger) or False, **kwargs)
        # Callbacks that the Trainer's switches turn off are not made, since the Trainer would refuse them.
        callbacks = given.callbacks if isinstance(given.callbacks, list) else list(filter(None, [given.callbacks]))
        own_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        bars = [] if own_bar or given.enable_progress_bar is False else [RoundProgress()]
        reporters: list[lightning.Callback] = [RankWatch(), *bars]
        assert self.place is not None
        self._numbering = numbering(own_loggers(given.logger))
        run = self.place.locked()
        section.federation.folder = self.save_config_kwargs["folder"] = run
        hparams, given_by_user = self._hparams()
        logs = shown(run.parents[1]) if run and self.place.is_existing_run else section.logs_dir
        log = RunLog(logs, self._command, hparams, self.place.lock, given_by_user, self.written_config())
        place_own(callbacks, run)
        kept = checkpoints(run and run / CHECKPOINTS) if given.enable_checkpointing is not False else []
        self.trainer_defaults["callbacks"] = [
            *reporters,
            Pictures(run),
            Participation(run),
            Setting(run),
            Outcome(run),
            log,
            *kept,
        ]
        loggers = loggers_of(run, given.logger, self.place.finished_rounds if self.place.is_existing_run else 0)
        return super().instantiate_trainer(logger=loggers, **kwargs)

    def run(self, command: str) -> None:
        try:
            super().run(command)
        except Exception as error:
            checkpoint = self.place.checkpoint if self.place else None
            if (
                checkpoint is None
                or find_input_error(error)
                or not raised_while_restoring(error)
                or error_in_user_code(error)
            ):
                raise
            said = one_line(f"{type(error).__name__}: {error}", 200)
            raise BrokenCheckpointError(checkpoint, f"cannot be used: {said}") from error
        finally:
            remove_empty(self._made)

    def before_fit(self) -> None:
        if self.trainer.is_global_zero:
            self._made = take_numbers(self._numbering)
            keep_tables(self.trainer.loggers)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RankWatch):
                callback.start(self.trainer)

    def _hparams(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The run's settings except the Trainer's, as a flat mapping; and those that differ from the defaults."""
        parser, config = self.command_parser, self.written_config()
        sections = {key: config[key] for key in ("model", "data", "federation", "seed_everything")}
        every = {**shortened(flat(sections)), "rounds": config["trainer"]["max_epochs"]}
        plain, usual = (
            yaml.safe_load(parser.dump(each, skip_none=False))
            for each in (self.config[self.subcommand], parser.parse_args([]))
        )
        given = chosen(plain, usual)
        rounds = {"rounds": given["trainer.max_epochs"]} if "trainer.max_epochs" in given else {}
        return every, {**shortened({key: given[key] for key in given if not key.startswith("trainer.")}), **rounds}

    # --- before and after each command -------------------------------------------------------------------------------

    def before_validate(self) -> None:
        check_limit(self.trainer, "val")

    def before_test(self) -> None:
        check_limit(self.trainer, "test")
        self._check_results("test.json", "test_classes.csv", "test_clients.csv")

    def before_predict(self) -> None:
        check_limit(self.trainer, "predict")
        self._check_results("predictions*.csv")

    def _check_results(self, *patterns: str) -> None:
        """Refuse early to overwrite files with the results of a checkpoint outside of a run's folder."""
        assert self.place is not None
        if not self.place.is_existing_run and (there := next(chain(*map(Path.cwd().glob, patterns)), None)):
            raise InputError(
                f"{there} exists, and the results of a checkpoint outside of a run's folder go to the current folder; "
                "move the file, or run the command in another folder"
            )

    def after_validate(self) -> None:
        self._warn_of_results("val")

    def after_test(self) -> None:
        assert self.place is not None
        self._warn_of_results("test")
        write_test(self.trainer, self.place.results, show=self.config[self.subcommand].verbose)

    def after_predict(self) -> None:
        assert self.place is not None
        self._warn_of_results("predict")
        write_predictions(self.trainer, self.place.results)

    def _warn_of_results(self, stage: Literal["val", "test", "predict"]) -> None:
        """Warn if the results are of a part of the data, or of other settings than the checkpoint's."""
        if self.other_settings and self.trainer.is_global_zero:
            warn(self.other_settings)
        warn_of_limit(self.trainer, stage)
