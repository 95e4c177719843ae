"""The one exception a user is meant to see, and how a command shows it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

INTERRUPTED = 130


class UserError(Exception):
    """Input that cannot be used. The text gives the rule, the value received and the remedy.

    The commands print it without a traceback and exit with ``exit_code``: 2 for a configuration or a command
    line, 1 for data or a file that turned out unusable.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotServed(UserError, ValueError):
    """A computation that the backend asked for has no code for; the remedy is another backend."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)


def fail(message: str, code: int) -> NoReturn:
    """Print ``message`` on standard error and end the process."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


@contextmanager
def without_traceback() -> Iterator[None]:
    """End the process by a line on standard error where the block meets a :class:`UserError` or Ctrl-C."""
    try:
        yield
    except UserError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
