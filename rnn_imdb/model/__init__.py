"""From the words of a review to one logit: the lecture's recurrent model, and others beside it."""

from inspect import signature
from typing import Any

from rnn_imdb.model.baselines import ConvClassifier, DenseClassifier
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.rnn import ReviewClassifier

ENCODERS = {"rnn": ReviewClassifier, "dense": DenseClassifier, "conv": ConvClassifier}


def make_classifier(encoder: str = "rnn", **options: Any) -> Classifier:
    """The classifier with the ``encoder`` of that name; ``options`` that concern only other encoders are left out.

    Raises:
        ValueError: there is no such encoder.
        TypeError: an option that no encoder has.
    """
    if encoder not in ENCODERS:
        raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, got {encoder!r}")
    own = signature(ENCODERS[encoder]).parameters
    others = {option for kind in ENCODERS.values() for option in signature(kind).parameters} - set(own)
    return ENCODERS[encoder](**{name: value for name, value in options.items() if name not in others})
