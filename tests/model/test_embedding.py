"""Pairs of words, what is dropped in training, and the recurrence that reads backwards."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from conftest import E, H, T, V, compose, name_of, small_classifier, token_rows
from torch import nn

from rnn_imdb.config.names import ENCODERS, READOUTS
from rnn_imdb.data.text import PAD_INDEX
from rnn_imdb.model import make_classifier
from rnn_imdb.model.embedding import bigrams, drop_components, drop_words, frequent_pairs
from rnn_imdb.model.rnn import ReviewClassifier

BIDIRECTIONAL = [{"bidirectional": True, "readout": readout} for readout in READOUTS]


def test_frequent_pairs_are_counted_without_padding() -> None:
    rows = np.array([[0, 0, 3, 4, 3, 4], [3, 4, 65_535, 1, 0, 0], [0, 65_535, 1, 5, 6, 0]], dtype=np.uint16)
    three, last = 3 * 65_536 + 4, 65_535 * 65_536 + 1
    # 3 4 stands there three times, 65535 1 twice, and of the pairs with one place 1 5 is the smallest
    assert frequent_pairs(rows, 1).tolist() == [three]
    assert frequent_pairs(rows, 3).tolist() == [65_536 + 5, three, last]
    assert len(frequent_pairs(rows, 100)) == 6
    assert len(frequent_pairs(rows, 0)) == len(frequent_pairs(np.zeros((2, 3), dtype=np.uint16), 5)) == 0


def test_frequent_pairs_are_those_that_a_counter_finds() -> None:
    rows = np.random.default_rng(0).integers(0, 9, (40, 30)).astype(np.uint16)
    counts = Counter(
        (int(a), int(b)) for row in rows for a, b in itertools.pairwise(row) if a != PAD_INDEX and b != PAD_INDEX
    )
    ranked = sorted(counts, key=lambda pair: (-counts[pair], pair))
    for most in (1, 10, 64, 100):
        assert frequent_pairs(rows, most).tolist() == sorted(a * 65_536 + b for a, b in ranked[:most])


@pytest.mark.parametrize("side", ["pre", "post"])
def test_bigrams_are_looked_up_where_the_pair_is_known(side: str) -> None:
    tokens = token_rows(3, padding=4, side=side)
    pairs = frequent_pairs(tokens[:2].numpy().astype(np.uint16), 9)
    table = torch.randn(11, E, requires_grad=True)
    vectors = bigrams(tokens, pairs, table)
    upstream = torch.randn_like(vectors)
    vectors.backward(upstream)
    expected, gradient = np.zeros((3, T, E), dtype=np.float32), np.zeros((11, E))
    found = 0
    for row, t in itertools.product(range(3), range(1, T)):
        before, token = tokens[row, t - 1 : t + 1].tolist()
        if before * 65_536 + token in pairs.tolist():
            found += 1
            place = pairs.tolist().index(before * 65_536 + token)
            expected[row, t] = table[place].detach().numpy()
            gradient[place] += upstream[row, t].double().numpy()
    assert found >= 9
    assert np.array_equal(vectors.detach().numpy(), expected)
    assert table.grad is not None
    np.testing.assert_allclose(table.grad.numpy(), gradient, atol=1e-5)


def test_without_known_pairs_there_are_none() -> None:
    assert not bigrams(token_rows(), torch.empty(0, dtype=torch.int64), torch.ones(3, E)).any()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_inputs_are_words_and_pairs(encoder: str) -> None:
    model, tokens = small_classifier(encoder=encoder, bigrams=29), token_rows(padding=3)
    assert model.bigrams is not None
    nn.init.normal_(model.bigrams.weight)
    expected = model.embedding(tokens) + bigrams(tokens, model.pairs, model.bigrams.weight)
    torch.testing.assert_close(model(tokens), model.logits_from(expected))
    nn.init.zeros_(model.bigrams.weight)
    alone = small_classifier(encoder=encoder)
    alone.load_state_dict({key: value for key, value in model.state_dict().items() if key != "bigrams.weight"})
    torch.testing.assert_close(model(tokens), alone(tokens))


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("options", BIDIRECTIONAL, ids=name_of)
def test_second_recurrence_reads_backwards(options: dict[str, Any], mask_padding: bool) -> None:
    model, tokens = small_classifier(**options, mask_padding=mask_padding).double(), token_rows(padding=3)
    assert model.backward_cell is not None
    x, real = model.embedding(tokens).detach().numpy(), (tokens != 0).numpy() | (not mask_padding)
    both = []
    for cell, order in ((model.cell, range(T)), (model.backward_cell, reversed(range(T)))):
        A, h, states = cell.A.detach().numpy(), np.zeros((4, H)), np.zeros((4, T, H))
        for t in order:
            new = np.tanh(np.concatenate([h, x[:, t]], axis=1) @ A.T)
            h = np.where(real[:, t, None], new, h)
            states[:, t] = h
        both.append(states)
    states, mask = torch.from_numpy(np.concatenate(both, axis=2)), tokens != 0 if mask_padding else None
    features = model.readout(states, mask)
    if options["readout"] == "last":
        features = torch.cat([states[:, -1, :H], states[:, 0, H:]], dim=1)
    expected = model.head(features).squeeze(1)
    torch.testing.assert_close(model(tokens), expected)
    torch.testing.assert_close(model.logits_from(model.embed(tokens), mask), expected)


def test_dropped_words_are_unknown_and_padding_stays() -> None:
    torch.manual_seed(0)
    tokens = token_rows(2000, padding=4)
    dropped = drop_words(tokens, 0.3)
    assert torch.equal(dropped == 0, tokens == 0)
    changed = dropped != tokens
    assert dropped[changed].unique().tolist() == [1]
    # sixteen thousand words
    assert changed[:, 4:].float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(drop_words(tokens, 0.0), tokens)


def test_dropped_components_are_the_same_at_all_steps_of_a_review() -> None:
    torch.manual_seed(0)
    ratio = drop_components(torch.full((500, T, 20), 3.0), 0.25) / 3
    assert torch.equal(ratio, ratio[:, :1].expand_as(ratio))
    assert ratio.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (ratio[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    # each review has its own
    assert len(ratio[:, 0].unique(dim=0)) > 450


@pytest.mark.parametrize("rate", ["word_dropout", "embedding_dropout", "head_dropout"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_only_training_drops_and_only_where_it_is_asked_to(encoder: str, rate: str) -> None:
    tokens = token_rows(6)
    model, usual = small_classifier(encoder=encoder, **{rate: 0.5}), small_classifier(encoder=encoder)
    usual_logits = usual(tokens)
    torch.manual_seed(1)
    first = model(tokens)
    assert not torch.allclose(first, usual_logits)
    assert not torch.allclose(first, model(tokens))
    torch.manual_seed(1)
    assert torch.equal(first, model(tokens))
    assert torch.equal(model.eval()(tokens), usual_logits)
    # the usual model draws nothing
    state = torch.get_rng_state()
    usual(tokens)
    assert torch.equal(torch.get_rng_state(), state)


def test_parts_count_and_start_as_they_should() -> None:
    torch.manual_seed(0)
    model = ReviewClassifier(bigrams=2000, bidirectional=True, readout="mean_max")
    assert sum(parameter.numel() for parameter in model.parameters()) == 10_000 * 32 + 2000 * 32 + 2 * 2080 + 129
    assert model.bigrams is not None
    # at first a pair says no more than its words
    assert not model.bigrams.weight.any()
    assert model.backward_cell is not None
    A = model.backward_cell.recurrent_weight
    torch.testing.assert_close(A @ A.T, torch.eye(32), atol=1e-5, rtol=0)
    assert not torch.equal(A, model.cell.recurrent_weight)


def test_options_of_the_configuration_reach_the_model() -> None:
    options = ["model.bigrams=9", "model.word_dropout=0.1", "model.embedding_dropout=0.2"]
    for encoder in ENCODERS:
        config = compose("train", *options, "model.head_dropout=0.3", f"model.encoder={encoder}")
        model = make_classifier(**config.model, vocabulary_size=V, sequence_length=T)
        assert model.bigrams is not None
        assert (len(model.bigrams.weight), model.word_dropout) == (9, 0.1)
        assert (model.embedding_dropout, model.head_dropout.p) == (0.2, 0.3)
