"""The lecture's program in Keras, the peer that the package is compared with (extra ``peers``)."""

import os
from importlib.util import find_spec
from typing import Any


def available() -> bool:
    """Whether Keras and JAX are installed."""
    return find_spec("keras") is not None and find_spec("jax") is not None


def lecture_model(
    readout: str = "last", *, seed: int = 0, vocabulary_size: int = 10_000, sequence_length: int = 500
) -> Any:
    """Embedding(V, 32) → SimpleRNN(32) → Dense(1, sigmoid), compiled with RMSprop and binary cross-entropy.

    Args:
        readout: ``last``, or ``all`` for all states flattened.
        seed: seed of Keras, and of Python's and NumPy's global generators.
        vocabulary_size: V.
        sequence_length: tokens in a review.
    """
    # read when Keras is first imported
    os.environ["KERAS_BACKEND"] = "jax"
    import keras  # pyright: ignore[reportMissingImports] an extra

    keras.utils.set_random_seed(seed)
    every = readout == "all"
    model: Any = keras.Sequential(
        [
            keras.Input((sequence_length,), dtype="int32"),
            keras.layers.Embedding(vocabulary_size, 32),
            keras.layers.SimpleRNN(32, return_sequences=every),
            *([keras.layers.Flatten()] if every else []),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    return model
