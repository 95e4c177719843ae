"""Pairs of words, what is dropped in training, and the recurrence that reads backwards."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from conftest import compose
from torch import Tensor, nn

from rnn_imdb.choices import ENCODERS, READOUTS
from rnn_imdb.classifier import Classifier, ReviewClassifier
from rnn_imdb.embedding import bigrams, bucket, drop_components, drop_words
from rnn_imdb.encoders import make_classifier

V, T, E, H = 50, 12, 5, 7
BIDIRECTIONAL = [{"bidirectional": True, "readout": readout} for readout in READOUTS]
MODELS = [
    {"bidirectional": True, "readout": "last"},
    {"bidirectional": True, "activation": "identity", "bigram_buckets": 37},
    {"bidirectional": True, "readout": "mean_max", "mask_padding": True, "bigram_buckets": 64, "init": "torch"},
    *({"encoder": encoder, "bigram_buckets": 100} for encoder in ENCODERS),
]


def small(**options: Any) -> Classifier:
    torch.manual_seed(0)
    sizes = {"vocabulary_size": V, "sequence_length": T, "embedding_dim": E, "state_dim": H}
    return make_classifier(**(sizes | options))


def recurrent(**options: Any) -> ReviewClassifier:
    model = small(**options)
    assert isinstance(model, ReviewClassifier)
    return model


def reviews(batch: int = 4, *, padding: int = 0, side: str = "pre") -> Tensor:
    tokens = torch.randint(2, V, (batch, T - padding), generator=torch.Generator().manual_seed(batch))
    zeros = torch.zeros(batch, padding, dtype=torch.long)
    return torch.cat([zeros, tokens] if side == "pre" else [tokens, zeros], dim=1)


def name(options: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


def hashed(before: int, token: int, buckets: int) -> int:
    product = (before * 65_536 + token) * 0x45D9F3B
    return (product ^ (product >> 29)) % buckets


def test_buckets_are_those_of_whole_numbers_without_bound() -> None:
    words = [0, 1, 2, 77, 9_999, 30_000, 65_535]
    for buckets in (1, 2, 1000, 200_000, 2**20):
        pairs = list(itertools.product(words, words))
        before, token = torch.tensor(pairs).T[:, None]
        assert bucket(before, token, buckets)[0].tolist() == [hashed(*pair, buckets) for pair in pairs]


@pytest.mark.parametrize("buckets", [1000, 1024])
def test_pairs_are_spread_evenly_over_the_buckets(buckets: int) -> None:
    before, token = torch.cartesian_prod(torch.arange(2, 302), torch.arange(2, 302)).T[:, None]
    counts = torch.bincount(bucket(before, token, buckets)[0], minlength=buckets).double()
    # of as many pairs at random, chi squared has the mean buckets - 1 and the variance 2 (buckets - 1)
    excess = ((counts - counts.mean()).square() / counts.mean()).sum() - (buckets - 1)
    assert excess < 5 * (2 * buckets) ** 0.5
    # the order of the two words counts
    assert (bucket(before, token, 10**6) == bucket(token, before, 10**6)).sum() < 400


@pytest.mark.parametrize("side", ["pre", "post"])
def test_bigrams_are_looked_up_where_both_are_words(side: str) -> None:
    table = torch.randn(31, E, requires_grad=True)
    tokens = reviews(3, padding=4, side=side)
    vectors = bigrams(tokens, table)
    upstream = torch.randn_like(vectors)
    vectors.backward(upstream)
    expected, gradient = np.zeros((3, T, E), dtype=np.float32), np.zeros((31, E))
    for row, t in itertools.product(range(3), range(1, T)):
        before, token = tokens[row, t - 1 : t + 1].tolist()
        if before and token:
            expected[row, t] = table[hashed(before, token, 31)].detach().numpy()
            gradient[hashed(before, token, 31)] += upstream[row, t].double().numpy()
    assert np.array_equal(vectors.detach().numpy(), expected)
    assert table.grad is not None
    np.testing.assert_allclose(table.grad.numpy(), gradient, atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_inputs_are_words_and_pairs(encoder: str) -> None:
    model, tokens = small(encoder=encoder, bigram_buckets=29), reviews(padding=3)
    assert model.bigrams is not None
    expected = model.embedding(tokens) + bigrams(tokens, model.bigrams.weight)
    torch.testing.assert_close(model(tokens), model.logits_from(expected))
    nn.init.zeros_(model.bigrams.weight)
    alone = small(encoder=encoder)
    alone.load_state_dict({key: value for key, value in model.state_dict().items() if key != "bigrams.weight"})
    torch.testing.assert_close(model(tokens), alone(tokens))


@pytest.mark.parametrize("options", MODELS, ids=name)
def test_one_step_moves_every_parameter_and_32_reviews_are_memorised(options: dict[str, Any]) -> None:
    model, tokens, labels = small(**options), reviews(32, padding=2), torch.arange(32) % 2
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    for step in range(100):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(tokens), labels.float()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step == 0:
            assert [key for key, value in model.named_parameters() if torch.equal(value, before[key])] == []
    assert torch.equal(model(tokens) > 0, labels == 1)


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("options", BIDIRECTIONAL, ids=name)
def test_second_recurrence_reads_backwards(options: dict[str, Any], mask_padding: bool) -> None:
    model, tokens = recurrent(**options, mask_padding=mask_padding).double(), reviews(padding=3)
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


@pytest.mark.parametrize("side", ["pre", "post"])
@pytest.mark.parametrize("readout", [name for name in READOUTS if name != "all"])
def test_masked_padding_changes_neither_logits_nor_gradients(readout: str, side: str) -> None:
    model = small(readout=readout, bidirectional=True, bigram_buckets=40, mask_padding=True)
    padded = reviews(padding=5, side=side)
    results = []
    for tokens in (padded, padded[:, 5:] if side == "pre" else padded[:, :-5]):
        model.zero_grad()
        logits = model(tokens)
        logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(results[0], results[1])


def test_dropped_words_are_unknown_and_padding_stays() -> None:
    torch.manual_seed(0)
    tokens = reviews(2000, padding=4)
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
    tokens = reviews(6)
    model, usual = small(encoder=encoder, **{rate: 0.5}), small(encoder=encoder)
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
    model = ReviewClassifier(bigram_buckets=2000, bidirectional=True, readout="mean_max")
    assert sum(parameter.numel() for parameter in model.parameters()) == 10_000 * 32 + 2000 * 32 + 2 * 2080 + 129
    assert model.bigrams is not None
    # a pair that no training review has changes nothing
    assert not model.bigrams.weight.any()
    assert model.backward_cell is not None
    A = model.backward_cell.recurrent_weight
    torch.testing.assert_close(A @ A.T, torch.eye(32), atol=1e-5, rtol=0)
    assert not torch.equal(A, model.cell.recurrent_weight)


def test_options_of_the_configuration_reach_the_model() -> None:
    options = ["model.bigram_buckets=9", "model.word_dropout=0.1", "model.embedding_dropout=0.2"]
    for encoder in ENCODERS:
        config = compose("train", *options, "model.head_dropout=0.3", f"model.encoder={encoder}")
        model = make_classifier(**config.model, vocabulary_size=V, sequence_length=T)
        assert model.bigrams is not None
        assert (len(model.bigrams.weight), model.word_dropout) == (9, 0.1)
        assert (model.embedding_dropout, model.head_dropout.p) == (0.2, 0.3)
