"""The one exception a user is meant to see, how a command shows it, and parts that are chosen by name."""

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn, TypeVar, cast


class UserError(Exception):
    """Input that cannot be used. The text gives the rule, the value received and the remedy.

    The commands print it without a traceback and exit with ``exit_code``: 2 for a configuration or a command
    line, 1 for data or a file that turned out unusable.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


Choice = TypeVar("Choice")
# of a class or function outside of the package, as mymodule.LastK; and those that the user has named himself
_ADDRESS = re.compile(r"[a-zA-Z_]\w*(\.[a-zA-Z_]\w*)+")
_allowed: set[str] = set()


def is_address(name: Any) -> bool:
    return isinstance(name, str) and _ADDRESS.fullmatch(name) is not None


def allow(*names: Any) -> None:
    """Let :func:`choose` import what lies at these addresses: the user has named it, and no file alone."""
    _allowed.update(filter(is_address, names))


def choose(what: str, table: Mapping[str, Choice], name: Any, base: type = object) -> Choice:
    """The entry of ``table`` called ``name``, what lies at the address ``name``, or ``name`` if it is a class itself.

    Raises:
        ValueError: there is no such entry.
        UserError: only a file names the address, nothing lies there, or it is no class made from ``base``.
    """
    if not callable(name):
        if name in table:
            return table[name]
        if not is_address(name):
            raise ValueError(f"{what} must be one of {', '.join(table)}, got {name!r}")
        if name not in _allowed:
            raise UserError(
                f"a class that a file names may run any code, so its user must name it too, got {what} {name}: give it "
                f"to train as the option that it was, to evaluate as classes=[{name}], to predict as --class {name}",
                exit_code=2,
            )
    try:
        module, _, attribute = name.rpartition(".") if isinstance(name, str) else ("", "", "")
        found = getattr(import_module(module), attribute) if module else name
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{what} must be a class that Python finds, got {name} ({error}): correct its name, or start where its "
            "module lies",
            exit_code=2,
        ) from error
    if not (base is object or (isinstance(found, type) and issubclass(found, base))):
        raise UserError(f"{what} must be a class made from {base.__name__}, got {name}: derive it", exit_code=2)
    return cast(Choice, found)


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
