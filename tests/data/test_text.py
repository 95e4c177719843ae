"""Tokens, vocabulary, and rows of one length."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_imdb.data.text import Vocabulary, fit_length, tokenize

WORDS = st.text("abcdefg", min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A Film.", ["a", "film", "."]),
        ("Don't!Stop,(now)?", ["don", "'", "t", "!", "stop", ",", "(", "now", ")", "?"]),
        ('He said: "fine"; bye', ["he", "said", "fine", "bye"]),
        ("one<br /><br />two\n\tthree  four", ["one", "two", "three", "four"]),
        ("<br>well-made 8/10 caf\u00e9 \u00c9T\u00c9", ["<br>well-made", "8/10", "caf\u00e9", "\u00e9t\u00e9"]),
        ("", []),
        (" \n", []),
    ],
)
def test_tokens_are_those_of_basic_english(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(st.text())
def test_any_text_gives_tokens_without_space(text: str) -> None:
    assert all(token.split() == [token] for token in tokenize(text))


def test_words_are_ordered_by_frequency_then_alphabet() -> None:
    vocabulary = Vocabulary.build(Counter({"rare": 1, "zebra": 3, "apple": 3, "film": 9}), 100)
    assert vocabulary.words == ["<pad>", "<unk>", "film", "apple", "zebra", "rare"]


def test_size_includes_the_special_words() -> None:
    vocabulary = Vocabulary.build(Counter("aaabbc"), 4)
    assert vocabulary.words == ["<pad>", "<unk>", "a", "b"]
    assert len(vocabulary) == 4


def test_text_that_spells_special_words_is_unknown() -> None:
    tokens = tokenize("<pad> <PAD> <unk> film")
    vocabulary = Vocabulary.build(Counter(tokens * 5), 10)
    assert vocabulary.words == ["<pad>", "<unk>", "film"]
    assert vocabulary.encode(tokens) == [1, 1, 1, 2]
    assert vocabulary.count_known(tokens) == 1


@given(st.lists(WORDS, unique=True), st.lists(WORDS))
def test_decoding_returns_the_known_words(words: list[str], tokens: list[str]) -> None:
    vocabulary = Vocabulary(["<pad>", "<unk>", *words])
    decoded = vocabulary.decode(vocabulary.encode(tokens))
    assert decoded == [token if token in words else "<unk>" for token in tokens]
    assert vocabulary.count_known(tokens) == sum(token in words for token in tokens)


def test_unknown_words_do_not_grow_the_vocabulary() -> None:
    vocabulary = Vocabulary(["<pad>", "<unk>", "film"])
    for _ in range(2):
        assert vocabulary.encode(["film", "plot", "scene"]) == [2, 1, 1]
    assert len(vocabulary) == 3
    assert vocabulary.count_known(["plot"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "starts with '<pad>' and '<unk>', got \\[\\]"),
        (["<unk>", "<pad>", "film"], "starts with '<pad>' and '<unk>', got \\['<unk>', '<pad>'\\]"),
        (["film", "plot"], "starts with"),
        (["<pad>", "<unk>", "film", "film"], "each word once"),
    ],
)
def test_bad_word_lists_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(words)


@pytest.mark.parametrize(
    ("padding", "truncation", "short", "long"),
    [
        ("pre", "pre", [0, 0, 7, 8], [6, 7, 8, 9]),
        ("pre", "post", [0, 0, 7, 8], [5, 6, 7, 8]),
        ("post", "pre", [7, 8, 0, 0], [6, 7, 8, 9]),
        ("post", "post", [7, 8, 0, 0], [5, 6, 7, 8]),
        ("pre", "both", [0, 0, 7, 8], [5, 7, 8, 9]),
    ],
)
def test_padding_and_truncation_have_their_own_sides(
    padding: str, truncation: str, short: list[int], long: list[int]
) -> None:
    assert fit_length(np.array([7, 8]), 4, padding, truncation).tolist() == short
    assert fit_length(np.array([5, 6, 7, 8, 9]), 4, padding, truncation).tolist() == long


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncation", ["pre", "post", "both"])
@given(words=st.lists(st.integers(1, 9999), max_size=40), length=st.integers(1, 50))
def test_rows_have_the_length_and_keep_words_in_order(
    padding: str, truncation: str, words: list[int], length: int
) -> None:
    row = fit_length(np.array(words, dtype=np.uint16), length, padding, truncation)
    assert row.shape == (length,)
    assert row.dtype == np.uint16
    head = {"pre": 0, "post": length, "both": length // 4}[truncation]
    kept = words if len(words) <= length else words[:head] + words[len(words) - (length - head) :]
    zeros = [0] * (length - len(kept))
    assert row.tolist() == (zeros + kept if padding == "pre" else kept + zeros)
