"""How TensorBoard shows a run: the order of metrics, charts of several metrics, and the config in words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlit.runs.words import facts

if TYPE_CHECKING:
    from tensorboard.backend.event_processing.event_accumulator import ScalarEvent

#: Prefix of the metrics that come first, and its form in tags: capitals sort before small letters.
FIRST = ("global/", "Global/")
#: Prefix of the tags of pictures, which come last.
PICTURES = "view/"

ACCURACY = ("accuracy_mean", "accuracy_p10", "accuracy_p90")
#: Charts of several metrics, by section and title: a list of curves, or the middle and the two edges of a band.
LAYOUT: dict[str, dict[str, list[Any]]] = {
    "Result": {
        "accuracy on held-out data": ["Multiline", ["global/accuracy"]],
        "loss on held-out data": ["Multiline", ["global/loss"]],
        "F1 on held-out data, mean over classes": ["Multiline", ["global/f1_macro"]],
    },
    "Fairness": {
        "training accuracy of the cohort: mean, 10th to 90th percentile": [
            "Margin",
            [f"clients/{name}" for name in ACCURACY],
        ],
        "accuracy on the clients' own held-out data: mean, 10th to 90th percentile": [
            "Margin",
            [f"clients/own_{name}" for name in ACCURACY],
        ],
    },
    "Drift": {
        "length of the clients' updates": ["Multiline", ["drift/mean", "drift/attention", "drift/rest"]],
        "cosine with the mean update, and of pairs": ["Multiline", ["drift/cosine", "drift/cosine_of_pairs"]],
    },
    "Cost": {
        "seconds a round": ["Multiline", ["round/seconds"]],
        "megabytes a round, down and up": ["Multiline", ["round/megabytes_down", "round/megabytes_up"]],
        "clients left out because their fit failed": ["Multiline", ["round/rejected"]],
    },
}


def tag_of(name: str) -> str:
    """The tag of a metric in TensorBoard."""
    return re.sub(f"^{FIRST[0]}", FIRST[1], name)


def name_of(tag: str) -> str:
    """The metric of a tag; in files of earlier versions the tag is the metric's name."""
    return re.sub(f"^{FIRST[1]}", FIRST[0], tag)


def curves_in(run: Path) -> dict[str, list[ScalarEvent]]:
    """Every point of every curve in a run's event files, by tag; a point that exists twice is listed twice."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


def layout(has_own: bool, tag: Callable[[str], str] = tag_of) -> dict[str, dict[str, list[Any]]]:
    """The charts of a run, for ``torch.utils.tensorboard.summary.custom_scalars``.

    Args:
        has_own: Whether clients have held-out data of their own.
        tag: The logger's tag for a metric.
    """

    def shown(names: Sequence[str]) -> bool:
        return has_own or not any(name.startswith("clients/own_") for name in names)

    return {
        section: {title: [kind, list(map(tag, names))] for title, (kind, names) in charts.items() if shown(names)}
        for section, charts in LAYOUT.items()
    }


def in_words(line: str, config: Any, chosen: Mapping[str, Any], command: Sequence[str]) -> str:
    """A run's config in words, as Markdown.

    Args:
        line: A line that describes the run.
        config: Its config, as read from YAML.
        chosen: The settings that differ from the defaults.
        command: The arguments after ``fedlit`` that started it.
    """
    table = [f"| {name} | {_cell(word)} |" for name, word in facts(config).items()]
    others = [f"| `{name}` | {_cell(value)} |" for name, value in chosen.items()]
    parts = [line, f"`{shlex.join(['fedlit', *command])}`", "\n".join(["| config | |", "|---|---|", *table])]
    parts += ["\n".join(["| differs from the default | |", "|---|---|", *others])] if others else []
    return "\n\n".join(parts)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
