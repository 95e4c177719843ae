"""The one exception a user is meant to see, and how a command shows it."""

import sys
from collections.abc import Mapping
from typing import NoReturn, TypeVar


class UserError(Exception):
    """Input that cannot be used. The text gives the rule, the value received and the remedy.

    The commands print it without a traceback and exit with ``exit_code``: 2 for a configuration or a command
    line, 1 for data or a file that turned out unusable.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


Choice = TypeVar("Choice")


def choose(what: str, table: Mapping[str, Choice], name: str) -> Choice:
    """The entry of ``table`` called ``name``.

    Raises:
        ValueError: there is none.
    """
    if name not in table:
        raise ValueError(f"{what} must be one of {', '.join(table)}, got {name!r}")
    return table[name]


# how libraries say it in an exception that is not Python's own
_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out: Python's, the kernels' in C, or torch's on any device."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _NO_MEMORY)


def unusable(error: OSError) -> str:
    """What to tell a user about a file or folder that cannot be read or written."""
    return (
        f"files and folders must be readable and writable, but {error.filename or 'one'} is not "
        f"({error.strerror or error}): make room or give access there, or name another"
    )


def printable(text: str) -> str:
    """``text`` with a space for each character that a terminal would act on or that shows nothing."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def fail(message: str, code: int) -> NoReturn:
    """Print ``message`` as one line on standard error and end the process."""
    line = " ".join(part.strip() for part in message.splitlines())
    print(f"error: {printable(line)}", file=sys.stderr)
    raise SystemExit(code)
