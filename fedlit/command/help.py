"""What ``--help`` says: a page of our own options with the classes there are; ``--help_all`` has everything in full."""

from __future__ import annotations

import argparse
import pydoc
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from fedlit.command.classes import classes_for, of_ours
from fedlit.command.defaults import is_class
from fedlit.command.entry import class_entry, class_lines, entry, wrapped
from fedlit.command.nested import find, options_of, options_within
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
    "Every option can stand in the YAML file of --config as well; its default is in [brackets]. CLASS is a name from "
    "the list below its option, or a class of yours as package.module.Class. --KEY.help says all of an option KEY, "
    "--KEY.help CLASS explains a class, --help_all every option there is; --print_config prints the config that would "
    "run."
)
#: Sections of options, and how they are headed.
SECTIONS = {"data": "Data, and how it is split over clients", "model": "Network and training", "federation": "Rounds"}
#: Of the Trainer's options those that most runs are given, in the words of a federation.
TRAINER = {
    "max_epochs": ("N", "Rounds to make in all"),
    "max_time": ("DD:HH:MM:SS", "Time after which it stops"),
    "accelerator": ("cpu|gpu|auto", "``auto``: a GPU, where there is one"),
    "devices": ("N", "Ranks that share a round's clients"),
    "precision": ("32-true|16-mixed|bf16-mixed|auto", "Of training and evaluation; ``auto`` is by the hardware"),
}


def show_help(parsers: Mapping[str, Parser], words: Sequence[str]) -> None:
    """Print the help that a command line asks for, and exit; do nothing where it asks for none.

    Args:
        parsers: Those of the commands, by name.
        words: What stands after ``fedlit``.

    Raises:
        InputError: When it asks for help on an option or a class that there is not.
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
    """What a command does, our options with their classes, and the usual ones of the Trainer."""
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
    yield from ("", "Lightning's Trainer, whose epochs are rounds; --help_all has the rest of it:")
    for name, (value, does) in TRAINER.items():
        yield from entry(options[f"trainer.{name}"], does, value)


def _of_default(action: argparse.Action) -> Iterator[argparse.Action]:
    """The options of the class that an option has by default, where it is one of ours."""
    made = pydoc.locate(action.default["class_path"]) if is_class(action.default) else None
    if isinstance(made, type) and of_ours(made):
        for key, each in options_within(made, action.dest, kind_of(action)).items():
            if key.rpartition(".")[2] not in DATA_ARGUMENTS:
                yield each


def _of_option(parser: Parser, words: list[str], asked: re.Match[str]) -> Iterator[str]:
    """All that there is to say of an option, or of a class that can be given for it."""
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
