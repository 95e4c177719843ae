"""A hand-built tanh RNN that classifies IMDB reviews, with PyTorch Lightning and Hydra.

    h_t = tanh(A [h_{t-1}; x_t] + b)

The README draws the folders, from the commands down to the scan. What stands here is imported where it is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnn_imdb.config.compose import compose as compose
    from rnn_imdb.data.module import IMDBDataModule as IMDBDataModule
    from rnn_imdb.insight.prediction import load as load
    from rnn_imdb.insight.prediction import predict as predict
    from rnn_imdb.model.cell import TanhCell as TanhCell
    from rnn_imdb.model.rnn import ReviewClassifier as ReviewClassifier
    from rnn_imdb.training.evaluation import evaluate as evaluate
    from rnn_imdb.training.module import SentimentModule as SentimentModule
    from rnn_imdb.training.run import train as train

__version__ = "0.2.0"
_MODULES = {
    "compose": "config.compose",
    "evaluate": "training.evaluation",
    "load": "insight.prediction",
    "predict": "insight.prediction",
    "train": "training.run",
    "IMDBDataModule": "data.module",
    "ReviewClassifier": "model.rnn",
    "SentimentModule": "training.module",
    "TanhCell": "model.cell",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # train, evaluate and predict stay functions when the commands of these names are imported
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def _without_traceback(kind, error, trace) -> None:
    """Let Ctrl-C end a command that still imports as it ends others, by the signal and without a traceback."""
    if kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)


# so it is while `python -m` looks for the command
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _without_traceback
