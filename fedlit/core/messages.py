"""What a user is told of an error or a doubt: one line, safe to show, and the kinds of errors that are told apart."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only

from fedlit.core.errors import InputError

#: What to do after another rank was lost.
RESUME_HINT = "the checkpoint of the last finished round is whole, go on with --ckpt_path last"

#: Characters of a word (a value that was given, a path) from which on it is cut in a line that is too long.
MAX_WORD = 200


def find_input_error(error: BaseException | None) -> InputError | None:
    """The ``InputError`` among an error's causes, which says it best; None where the mistake is not the user's."""
    return next((each for each in causes(error) if isinstance(each, InputError)), None)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, the latest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


@rank_zero_only
def warn(text: str) -> None:
    """Say in one line on stderr what a user should know of a run that goes on; the first rank says it."""
    sys.stderr.write(f"fedlit: warning: {one_line(text)}\n")


#: Characters that a terminal obeys instead of showing them: control characters, and those that turn the direction.
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


def visible(text: str, encoding: str = "utf-8") -> str:
    r"""The text with escapes such as ``\x1b`` for what steers a terminal, and for what an encoding does not have."""
    shown = re.sub(CONTROL_CHARACTERS, lambda found: found[0].encode("unicode_escape").decode(), text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def one_line(text: str, limit: int = 500) -> str:
    """The text on one line of at most ``limit`` characters.

    A text that is too long has its words of ``MAX_WORD`` characters or more shortened first; then the line is cut.
    """
    text = visible(re.sub(r"\s+", " ", text).strip())
    text = re.sub(rf"\S{{{MAX_WORD},}}", lambda word: f"{word[0][:60]}...", text) if len(text) > limit else text
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def missing_package(error: BaseException | None) -> InputError | None:
    """One line for a package that is not installed, which a class asked for as it was made; None for other errors."""
    found = next((each for each in causes(error) if isinstance(each, ModuleNotFoundError | InputError)), None)
    if found is None or isinstance(found, InputError):  # that one is said already
        return None
    return InputError(f"{one_line(str(found))}; install it, or leave out what needs it")


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that there was no memory left, on the host or on a GPU."""
    said = "can't allocate memory" in str(error) or "not enough memory" in str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and said)


def lost_rank(error: Exception) -> bool:
    """Whether an error says that a process at the other end of a collective has gone (gloo or NCCL)."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and ("gloo" in str(error) or "by peer" in str(error))
