"""The word map that TensorBoard's projector shows."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import compose, small_reviews, write_archive
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from rnn_imdb.common.files import LAST
from rnn_imdb.common.style import NEGATIVE, POSITIVE
from rnn_imdb.data.text import PAD, UNKNOWN, tokenize
from rnn_imdb.training.checkpoint import open_checkpoint
from rnn_imdb.training.run import train
from rnn_imdb.training.trainer import build_data

TARGET = "+callbacks.word_map._target_=rnn_imdb.insight.callbacks.WordMap"
QUICK = ["trainer.max_epochs=1", "test=false", "optimizer.learning_rate=0.01"]


def read_map(folder: Path) -> tuple[np.ndarray, list[dict[str, str]]]:
    """The embeddings and the metadata that the projector finds in a run folder."""
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (entry,) = config.embeddings
    with (folder / entry.metadata_path).open() as file:
        metadata = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return np.loadtxt(folder / entry.tensor_path, delimiter="\t", dtype=np.float32, ndmin=2), metadata


def numpy_logit(weights: dict[str, torch.Tensor], tokens: list[int], *, masked: bool) -> float:
    """The logit of a classifier with the readout ``last``, in float64."""
    value = {name: tensor.double().numpy() for name, tensor in weights.items()}
    state = np.zeros(len(value["cell.A"]))
    for token in tokens:
        if not (masked and token == 0):
            state = np.tanh(
                value["cell.A"] @ np.concatenate([state, value["embedding.weight"][token]]) + value["cell.b"]
            )
    return float(value["head.weight"][0] @ state + value["head.bias"][0])


@pytest.mark.parametrize(
    "overrides",
    [[], ["data.padding=post"], ["data.padding=post", "model.mask_padding=true", "data.sequence_length=10"]],
    ids=lambda overrides: " ".join(overrides) or "default",
)
def test_map_shows_embedding_frequency_and_polarity(
    small_overrides: list[str], tmp_path: Path, overrides: list[str]
) -> None:
    config = compose("train", *small_overrides, *QUICK, TARGET, *overrides)
    train(config, tmp_path / "run")
    vectors, metadata = read_map(tmp_path / "run")
    checkpoint = open_checkpoint(tmp_path / "run" / LAST)
    words, weights = checkpoint.vocabulary.words, checkpoint.weights
    assert [row["word"] for row in metadata] == words[2:]
    assert np.array_equal(vectors, weights["embedding.weight"][2:].numpy())

    data = build_data(config.data)
    counts = Counter(int(token) for token in data.split("train").tokens.flat)
    assert [int(row["frequency"]) for row in metadata] == [counts[i] for i in range(2, len(words))]

    post, masked, length = config.data.padding == "post", config.model.mask_padding, config.data.sequence_length
    blank = [0] * (length - 1)
    empty = numpy_logit(weights, [0, *blank], masked=masked)
    expected = [
        numpy_logit(weights, [i, *blank] if post else [*blank, i], masked=masked) - empty for i in range(2, len(words))
    ]
    shown = np.array([float(row["polarity"]) for row in metadata])
    np.testing.assert_allclose(shown, expected, rtol=1e-3, atol=2e-6)
    assert abs(shown).max() > 1e-2 or (post and not masked)


def test_words_that_give_reviews_away_have_the_polarity_of_their_class(
    small_overrides: list[str], tmp_path: Path
) -> None:
    options = ["trainer.max_epochs=6", "model.readout=mean", "model.mask_padding=true"]
    train(compose("train", *small_overrides, *QUICK, TARGET, *options), tmp_path / "run")
    polarity = {row["word"]: float(row["polarity"]) for row in read_map(tmp_path / "run")[1]}
    assert polarity["wonderful"] > 0.5
    assert polarity["awful"] < -0.5
    assert polarity["awful"] < polarity["film"] < polarity["wonderful"]
    # the projector opens with a square of its colour for each word, row after row
    (path,) = (tmp_path / "run").glob("*/word_map/sprite.png")
    squares = imread(path)[4::8, 4::8, :3].reshape(-1, 3)
    for word, colour in {"awful": NEGATIVE, "wonderful": POSITIVE}.items():
        nearness = abs(squares[list(polarity).index(word)] - to_rgb(colour)).sum()
        assert nearness < 0.3 < abs(squares[list(polarity).index(word)] - to_rgb("#eeeeee")).sum()


def test_only_the_most_frequent_words_are_shown(small_overrides: list[str], tmp_path: Path) -> None:
    train(compose("train", *small_overrides, *QUICK, TARGET, "+callbacks.word_map.words=5"), tmp_path / "run")
    vectors, metadata = read_map(tmp_path / "run")
    words = open_checkpoint(tmp_path / "run").vocabulary.words
    assert [row["word"] for row in metadata] == words[2:7]
    assert not {PAD, UNKNOWN} & {row["word"] for row in metadata}
    assert vectors.shape == (5, 32)


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "bf16-true"])
def test_map_works_in_every_precision(small_overrides: list[str], tmp_path: Path, precision: str) -> None:
    train(compose("train", *small_overrides, *QUICK, TARGET, f"trainer.precision={precision}"), tmp_path / "run")
    vectors, metadata = read_map(tmp_path / "run")
    weights = open_checkpoint(tmp_path / "run").weights
    assert np.array_equal(vectors, weights["embedding.weight"][2:].float().numpy())
    assert all(np.isfinite(float(row["polarity"])) for row in metadata)


def test_a_run_killed_before_its_map_gets_it_when_resumed(small_overrides: list[str], tmp_path: Path) -> None:
    config = compose("train", *small_overrides, *QUICK, TARGET)
    train(config, tmp_path / "run")
    vectors, metadata = read_map(tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    (tmp_path / "run" / "projector_config.pbtxt").unlink()
    for folder in (tmp_path / "run").glob("*/word_map"):
        shutil.rmtree(folder)
    train(config, tmp_path / "run", resuming=True)
    assert np.array_equal(read_map(tmp_path / "run")[0], vectors)
    assert read_map(tmp_path / "run")[1] == metadata


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_no_word_can_break_a_line_of_the_metadata(text: str) -> None:
    assert not any(separator in word for word in tokenize(text) for separator in "\t\n\r")


def test_quotes_and_other_marks_are_words_like_others(small_overrides: list[str], tmp_path: Path) -> None:
    text = "a \" quoted\" 'word' \u2028 | `x` \x0b\x1c # ünï\u3000<b> 100%".encode()
    # more than the validation split takes
    marks = {f"aclImdb/train/pos/{number}_9.txt": text for number in range(20)}
    archive = write_archive(tmp_path / "marks.tar.gz", small_reviews() | marks)
    train(compose("train", *small_overrides, *QUICK, TARGET, f"data.root={archive}"), tmp_path / "run")
    words = open_checkpoint(tmp_path / "run").vocabulary.words
    assert {"|", "`x`", "ünï", "100%"} <= set(words)
    assert [row["word"] for row in read_map(tmp_path / "run")[1]] == words[2:]
