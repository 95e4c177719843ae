"""A hand-built tanh RNN that classifies IMDB reviews, with PyTorch Lightning and Hydra.

    h_t = tanh(A [h_{t-1}; x_t] + b)

The README draws the folders, from the commands down to the scan.
"""

import sys

__version__ = "0.1.0"


def _without_traceback(kind, error, trace) -> None:
    """Let Ctrl-C end a command that still imports as it ends others, by the signal and without a traceback."""
    if kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)


# so it is while `python -m` looks for the command
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _without_traceback
