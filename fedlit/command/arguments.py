"""The arguments of ``fit``, ``validate``, ``test`` and ``predict``, and how data, net and federation are made from
them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from fedlit.command.checks import check_section
from fedlit.command.classes import NAMED_SHORTLY, load
from fedlit.command.help import show_help
from fedlit.command.keep_config import KeepConfig
from fedlit.command.maker import Maker
from fedlit.command.parser import Parser
from fedlit.command.private import OpenCLI
from fedlit.command.trainer import Trainer
from fedlit.core.configs import plain_strings
from fedlit.core.errors import InputError
from fedlit.core.files import refuse_special
from fedlit.core.messages import missing_package
from fedlit.data.module import FederatedData
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.federated.reload import DATA_ARGUMENTS, attribute

#: Help texts that replace Lightning's; an option without effect is hidden.
WORDS = {
    "config": "YAML file of options; if several are given, later files override earlier ones.",
    "seed_everything": "Seed of all random draws, 0 or greater.",
    "ckpt_path": "Checkpoint to resume or evaluate: ``last`` or ``best`` of the run, or a file.",
    "data": "The data set.",
    "verbose": "Whether to show the results.",
    "weights_only": argparse.SUPPRESS,
    "return_predictions": argparse.SUPPRESS,
}

ROUNDS = "use --trainer.max_epochs for the number of rounds"
COHORT = "use --federation.clients_per_round, a number of clients, for those that train in a round"
PASSES = "use --federation.local_epochs for a client's passes over its data; a fraction is a number of batches"
RATE = "use --model.client_schedule, for example Step, for the clients' learning rate over rounds"
OPTIMIZER = "use --model.client_optimizer for the clients, --model.server_optimizer for the server"
SERVER = "it is a server's optimizer; use --model.server_optimizer {0}"
#: Words of other tools that users try, as an option, in a section or as a class, and what to use instead.
HINTS = {
    "epochs": "--federation.local_epochs sets a client's passes over its data, --trainer.max_epochs the rounds",
    "lr": "use --model.client_optimizer.lr for the clients, --model.server_optimizer.lr for the server",
    "clients": "use --data.num_clients for all clients, --federation.clients_per_round for those of a round",
    "num_clients": "use --data.num_clients for all clients, --federation.clients_per_round for those of a round",
    "batch_size": "use --data.batch_size for the clients",
    "drop_last": "a pass has all examples of a client, also those of a last, shorter batch; leave it out",
    "seed": "use --seed_everything for all seeds, --data.seed for the partition",
    "mu": "use --model.mu for the strength of the proximal term",
    "alpha": "use --data.partition Dirichlet --data.partition.alpha ALPHA",
    "gpus": "use --trainer.accelerator gpu --trainer.devices N",
    "resume": "use --ckpt_path last",
    **dict.fromkeys(("rounds", "num_rounds", "n_rounds", "global_rounds", "global_epoch", "com_round"), ROUNDS),
    **dict.fromkeys(("fraction_fit", "fraction_train", "join_ratio", "sample_ratio", "cohort_size"), COHORT),
    **dict.fromkeys(("local_epochs", "local_epoch", "local_steps", "local_num_epochs"), PASSES),
    **dict.fromkeys(("optimizer", "momentum", "weight_decay"), OPTIMIZER),
    **dict.fromkeys(("scheduler", "lr_scheduler", "learning_rate_decay"), RATE),
    "strategy": "use --federation.algorithm and --model.server_optimizer",
    "FedAvg": "it is what a federation does without an algorithm and with --model.mu 0; leave it out",
    "FedProx": "it is what a federation does without an algorithm and with --model.mu above 0; leave it out",
    "FedAvgM": "use --model.server_optimizer SGD --model.server_optimizer.lr 1.0 --model.server_optimizer.momentum 0.9",
    "FedBN": "use --federation.algorithm BatchNormPolicy",
    "FedPer": "use --federation.algorithm KeepLocal --federation.algorithm.names NAMES",
    **{name: SERVER.format(name) for name in ("FedAdam", "FedYogi", "FedAdagrad")},
}


class FederationArguments(OpenCLI):
    """LightningCLI with the federation's defaults, a section ``federation`` for ``FederatedLoop``, and its checks.

    Args:
        args: The arguments after ``fedlit``; None takes those of the process.
        does: What each command does, by its name, for its help text.
        kwargs: For ``LightningCLI``.
    """

    def __init__(self, args: ArgsType = None, does: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        load(NAMED_SHORTLY)
        self._does = does or {}
        self._command = [str(word) for word in args] if isinstance(args, list) else sys.argv[1:]
        self._maker = Maker()
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
            parser_kwargs={"prog": "fedlit"}
            | {each: {"description": self._does.get(each, "")} for each in self.subcommands()},
            args=args,
            **kwargs,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="Name of the run; by default the name of the last config file.",
        )
        parser.add_argument("--logs_dir", type=str, default="logs", help="Folder of all runs: LOGS_DIR/NAME/version_N.")
        parser.add_argument(
            "--version",
            type=str | None,
            default=None,
            help="Folder instead of version_N: LOGS_DIR/NAME/VERSION; with --ckpt_path last, the run to resume.",
        )
        parser.add_lightning_class_args(FederatedLoop, "federation")
        default_classes = {"model.net": "fedlit.models.EmnistCNN", "data": "fedlit.data.MNIST5k"}
        parser.set_defaults({key: {"class_path": path} for key, path in default_classes.items()})
        for of_data in DATA_ARGUMENTS:
            parser.link_arguments(
                "data", f"model.net.init_args.{of_data}", compute_fn=attribute(of_data), apply_on="instantiate"
            )

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Add Lightning's commands, and the names of fedlit's other commands."""
        super().setup_parser(*args, **kwargs)
        assert isinstance(self.parser, Parser)
        self._parsers: dict[str, Parser] = self.parser.command_parsers
        for parser in self._parsers.values():
            parser.hints = HINTS
            for action in parser.actions:
                action.help = WORDS.get(action.dest, action.help)
        for name in (name for name in self._does if name not in self._parsers):
            self.parser.add_command(name, Parser(), help=self._does[name])

    @property
    def command_parser(self) -> Parser:
        """The parser of the command that was given."""
        return self._parsers[str(self.subcommand)]

    # --- checks beyond those of the parser ---------------------------------------------------------------------------

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        refuse_special(self._command)
        show_help(self._parsers, self._command)
        super().parse_arguments(parser, args)
        self.config = plain_strings(self.config)
        check_section(self.config[self.config.subcommand].as_dict())

    def instantiate_classes(self) -> None:
        """Make data, net and federation.

        Raises:
            InputError: Also if the net was given another number of classes or channels than the data has.
        """
        self.parser.add_instantiator(self._maker, object)
        try:
            super().instantiate_classes()
            self._refuse_overridden()
        except Exception as error:
            failed = self._maker.error_behind(error)
        else:
            return
        raise missing_package(failed) or failed

    def _refuse_overridden(self) -> None:
        """Refuse a given number of classes or channels that differs from the data's."""
        parser = self.command_parser
        assert parser.written is not None  # it has parsed
        for of_data in DATA_ARGUMENTS:
            given, has = parser.written.get(f"model.net.init_args.{of_data}"), getattr(self.datamodule, of_data)
            if given not in (None, has):
                raise InputError(
                    f"model.net.{of_data} is {given} but the data has {has}; leave it out, fedlit takes it "
                    "from the data"
                )
