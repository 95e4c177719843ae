"""From the words of a review to one logit: the lecture's recurrent model, and others beside it."""

from inspect import signature
from typing import Any

from rnn_imdb.common.errors import choose
from rnn_imdb.model.baselines import ConvClassifier, DenseClassifier
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.rnn import ReviewClassifier

ENCODERS = {"rnn": ReviewClassifier, "dense": DenseClassifier, "conv": ConvClassifier}


def make_classifier(encoder: str = "rnn", **options: Any) -> Classifier:
    """The classifier with the ``encoder`` of that name, without those ``options`` that concern other encoders.

    Raises:
        ValueError: there is no such encoder.
        TypeError: no encoder has an option.
    """
    kind = choose("encoder", ENCODERS, encoder)
    others = {option for other in ENCODERS.values() for option in signature(other.__init__).parameters}
    others -= set(signature(kind.__init__).parameters)
    return kind(**{name: value for name, value in options.items() if name not in others})
