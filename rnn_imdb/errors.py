"""The one exception a user is meant to see."""


class UserError(Exception):
    """Input that cannot be used. The text gives the rule, the value received and the remedy.

    The commands print it without a traceback and exit with ``exit_code``: 2 for a configuration or a command
    line, 1 for data or a file that turned out unusable.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
