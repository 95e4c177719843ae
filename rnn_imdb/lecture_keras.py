"""The lecture's program in Keras: ``lecture.py`` has it in plain PyTorch (extra ``peers``)."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from torch import Tensor


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


def keras_weights(weights: Mapping[str, Tensor]) -> list[np.ndarray]:
    """The weights of a checkpoint as ``set_weights`` of ``lecture_model`` takes them: Keras cuts A in two."""
    A = weights["cell.A"]  # (H, H + E)
    recurrent, inputs = A[:, : len(A)], A[:, len(A) :]
    ordered = (weights["embedding.weight"], inputs.T, recurrent.T, weights["cell.b"])
    return [part.numpy(force=True) for part in (*ordered, weights["head.weight"].T, weights["head.bias"])]
