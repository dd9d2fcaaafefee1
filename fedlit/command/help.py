"""``--help`` shows a page of fedlit's options and classes; ``--help_all`` shows everything in full."""

from __future__ import annotations

import argparse
import pydoc
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from fedlit.command.classes import classes_for, of_ours
from fedlit.command.defaults import is_class
from fedlit.command.entry import class_entry, class_lines, entry, wrapped
from fedlit.command.options import find, options_of, options_within
from fedlit.command.parser import Parser
from fedlit.command.private import kind_of
from fedlit.core.messages import visible
from fedlit.federated.reload import DATA_ARGUMENTS

EXAMPLES = """
  fedlit {0} --config configs/quickstart.yaml
  fedlit {0} --config configs/quickstart.yaml --model.mu 0.1 \\
      --data.partition Dirichlet --data.partition.alpha 0.5
"""
EXAMPLE_OF_OTHERS = """
  fedlit {0} --config configs/quickstart.yaml --ckpt_path best
"""
ABOUT = (
    "Every option can also be set in the YAML file of --config; its default is in [brackets]. CLASS is a name from the "
    "list below its option, or your own class as package.module.Class. --KEY.help explains the option KEY in full, "
    "--KEY.help CLASS explains a class, --help_all shows every option, and --print_config prints the config that would "
    "run."
)
#: Sections of options, and their titles.
SECTIONS = {"data": "Data, and its partition over clients", "model": "Network and training", "federation": "Rounds"}
#: The Trainer's options that most runs use, described in terms of a federation.
TRAINER = {
    "max_epochs": ("N", "Total number of rounds"),
    "max_time": ("DD:HH:MM:SS", "Time after which the run stops"),
    "accelerator": ("cpu|gpu|auto", "``auto`` uses a CUDA GPU if there is one"),
    "devices": ("N", "Number of ranks, which share the clients of a round"),
    "precision": ("32-true|16-mixed|bf16-mixed|auto", "For training and evaluation; ``auto`` depends on the hardware"),
}


def show_help(parsers: Mapping[str, Parser], words: Sequence[str]) -> None:
    """Print the help that a command line asks for, and exit; do nothing if it asks for none.

    Args:
        parsers: The parsers of the commands, by name.
        words: The arguments after ``fedlit``.

    Raises:
        InputError: If it asks for help on an unknown option or class.
    """
    command = next((word for word in words if word in parsers), None)
    if command is None:
        return
    parser, rest = parsers[command], list(words[words.index(command) + 1 :])
    asked = next((found for word in rest if (found := re.fullmatch(r"--([\w.]+)\.help(?:=(.+))?", word))), None)
    if asked:
        lines: Iterator[str] = _of_option(parser, rest, asked)
    elif "--help_all" in rest:
        lines = iter(parser.format_help().splitlines())
    elif {"-h", "--help"} & set(rest):
        lines = _page(parser, command)
    else:
        return
    sys.stdout.write("".join(f"{visible(line)}\n" for line in lines))
    raise SystemExit(0)


def _page(parser: Parser, command: str) -> Iterator[str]:
    """The description of a command, fedlit's options with their classes, and the usual options of the Trainer."""
    yield f"usage: fedlit {command} [--config FILE] [--KEY VALUE ...]"
    yield from ("", *wrapped(parser.description or ""))
    yield from (EXAMPLES if command == "fit" else EXAMPLE_OF_OTHERS).format(command).splitlines()
    yield from ("", *wrapped(ABOUT))
    options = options_of(parser.actions)
    yield from ("", "The run:")
    for action in (each for key, each in options.items() if "." not in key and key not in SECTIONS):
        yield from entry(action)
    seen: set[type] = set()
    for section, title in SECTIONS.items():
        yield from ("", f"{title}:")
        for action in (each for key, each in options.items() if key.split(".")[0] == section):
            for each in (action, *_of_default(action)):
                known = classes_for(kind_of(each), each.help or "").items()
                yield from entry(each)
                yield from class_lines({name: made for name, made in known if of_ours(made) and made not in seen})
                seen.update(made for _, made in known)
    yield from ("", "Lightning's Trainer, whose epochs are rounds (--help_all lists all options):")
    for name, (value, does) in TRAINER.items():
        yield from entry(options[f"trainer.{name}"], does, value)


def _of_default(action: argparse.Action) -> Iterator[argparse.Action]:
    """The options of an option's default class, if that is a class of fedlit."""
    made = pydoc.locate(action.default["class_path"]) if is_class(action.default) else None
    if isinstance(made, type) and of_ours(made):
        for key, each in options_within(made, action.dest, kind_of(action)).items():
            if key.rpartition(".")[2] not in DATA_ARGUMENTS:
                yield each


def _of_option(parser: Parser, words: list[str], asked: re.Match[str]) -> Iterator[str]:
    """The full help on an option, or on a class that it can take."""
    key, name, at = asked[1], asked[2], words.index(asked[0])
    del words[at]
    if name is None and at < len(words) and not words[at].startswith("-"):
        name = words.pop(at)
    options, config = options_of(parser.actions), parser.parse_args(words)
    action = find(options, key, {each: config.get(each) for each in options})
    if name:
        yield from class_entry(action, name)
    else:
        yield from entry(action, whole=True)
        yield from class_lines(classes_for(kind_of(action), action.help or "", imported=True), whole=True)
