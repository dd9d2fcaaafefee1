"""One-line messages for the user, and which kind of error an exception is."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only

from fedlit.core.errors import InputError

#: What to do after another rank was lost.
RESUME_HINT = "the checkpoint of the last finished round is complete; resume with --ckpt_path last"

#: Words of at least this many characters, such as values and paths, are shortened in a line that is too long.
MAX_WORD = 200


def find_input_error(error: BaseException | None) -> InputError | None:
    """The first ``InputError`` among an error and its causes; None if there is none."""
    return next((each for each in causes(error) if isinstance(each, InputError)), None)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, the latest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


@rank_zero_only
def warn(text: str) -> None:
    """Print a warning in one line on stderr, on the first rank only."""
    sys.stderr.write(f"fedlit: warning: {one_line(text)}\n")


#: Characters that a terminal acts on instead of showing: control characters, and changes of the writing direction.
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


def visible(text: str, encoding: str = "utf-8") -> str:
    r"""Escape, as in ``\x1b``, characters that a terminal acts on and those that the encoding lacks."""
    shown = re.sub(CONTROL_CHARACTERS, lambda found: found[0].encode("unicode_escape").decode(), text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def one_line(text: str, limit: int = 500) -> str:
    """The text on one line of at most ``limit`` characters.

    A text that is too long has its words of ``MAX_WORD`` characters or more shortened first; then the line is cut.
    """
    text = visible(re.sub(r"\s+", " ", text).strip())
    text = re.sub(rf"\S{{{MAX_WORD},}}", lambda word: f"{word[0][:60]}...", text) if len(text) > limit else text
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def did_you_mean(word: str, options: Iterable[str], else_: str, prefix: str = "") -> str:
    """The remedy for a mistyped word: the option closest to it, after a prefix, or ``else_`` if none is close."""
    near = difflib.get_close_matches(word, list(options), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else else_


def missing_package(error: BaseException | None) -> InputError | None:
    """The error to show where a class needs a package that is not installed; None for other errors."""
    found = next((each for each in causes(error) if isinstance(each, ModuleNotFoundError | InputError)), None)
    if found is None or isinstance(found, InputError):  # an InputError has a message of its own
        return None
    return InputError(f"{one_line(str(found))}; install it, or remove the setting that needs it")


def out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, on the host or on a GPU."""
    said = "can't allocate memory" in str(error) or "not enough memory" in str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and said)


def lost_rank(error: Exception) -> bool:
    """Whether an error means that another rank of a collective has died (gloo or NCCL)."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and ("gloo" in str(error) or "by peer" in str(error))
