"""What holds for every classifier, whatever its encoder, readout and options."""

from typing import Any

import pytest
import torch
from conftest import T, name_of, small_classifier, token_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnn_imdb.model import ENCODERS, make_classifier
from rnn_imdb.model.readout import READOUTS

MODELS: list[dict[str, Any]] = [
    *({"readout": readout} for readout in READOUTS),
    *({"readout": readout, "activation": "identity"} for readout in READOUTS),
    {"init": "torch", "spectral_radius": 0.8},
    {"bidirectional": True},
    {"bidirectional": True, "activation": "identity", "bigrams": 37},
    {"bidirectional": True, "readout": "mean_max", "bigrams": 64, "init": "torch"},
    *({"encoder": encoder, "bigrams": 100} for encoder in ENCODERS),
    {"encoder": "dense"},
    *({"encoder": "conv", "kernel_size": size} for size in (4, 5, 15)),
]
OF_ANY_LENGTH = [
    *({"readout": readout} for readout in READOUTS if readout != "all"),
    *({"readout": readout, "bidirectional": True, "bigrams": 40} for readout in READOUTS if readout != "all"),
    {"encoder": "conv"},
]


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 322_113),
        ({"readout": "all"}, 338_081),
        ({"activation": "identity"}, 322_113),
        ({"encoder": "dense", "embedding_dim": 12}, 120_000 + (500 * 12 + 1) * 32 + 33),
        ({"encoder": "conv", "kernel_size": 3}, 320_000 + (3 * 32 + 1) * 32 + 33),
    ],
    ids=name_of,
)
def test_parameter_counts_are_the_lectures(options: dict[str, Any], parameters: int) -> None:
    assert sum(parameter.numel() for parameter in make_classifier(**options).parameters()) == parameters


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("options", MODELS, ids=name_of)
def test_logits_are_those_of_the_embedded_words(options: dict[str, Any], mask_padding: bool) -> None:
    model, tokens = small_classifier(**options, mask_padding=mask_padding), token_rows(padding=3)
    mask = tokens != 0 if mask_padding else None
    torch.testing.assert_close(model.logits_from(model.embed(tokens), mask), model(tokens))
    # at first a pair says no more than its words
    torch.testing.assert_close(model.logits_from(model.embedding(tokens), mask), model(tokens))


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("options", MODELS, ids=name_of)
def test_one_step_moves_every_parameter_and_32_reviews_are_memorised(
    options: dict[str, Any], mask_padding: bool
) -> None:
    model = small_classifier(**options, mask_padding=mask_padding)
    tokens, positive = token_rows(32, padding=2), torch.arange(32) % 2 == 1
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    for step in range(300):
        optimizer.zero_grad()
        logits = model(tokens)
        if torch.equal(logits > 0, positive):
            break
        nn.functional.binary_cross_entropy_with_logits(logits, positive.float()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step == 0:
            assert [key for key, value in model.named_parameters() if torch.equal(value, before[key])] == []
    assert torch.equal(model(tokens) > 0, positive)


@pytest.mark.parametrize("options", MODELS, ids=name_of)
def test_permuted_batch_gives_permuted_logits(options: dict[str, Any]) -> None:
    model, tokens = small_classifier(**options), token_rows(6, padding=2)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(model(tokens[order]), model(tokens)[order])


@pytest.mark.parametrize("options", MODELS, ids=name_of)
def test_every_model_survives_a_review_of_nothing_but_padding(options: dict[str, Any]) -> None:
    model = small_classifier(**options, mask_padding=True)
    logits = model(torch.zeros(2, T, dtype=torch.long))
    logits.sum().backward()
    torch.testing.assert_close(logits, model.head.bias.expand(2))
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("options", OF_ANY_LENGTH, ids=name_of)
@settings(max_examples=8)
@given(side=st.sampled_from(["pre", "post"]), padding=st.integers(1, 9), batch=st.integers(1, 5))
def test_masked_padding_changes_neither_logits_nor_gradients(
    options: dict[str, Any], side: str, padding: int, batch: int
) -> None:
    model = small_classifier(**options, mask_padding=True)
    for key, parameter in model.named_parameters():
        if key == "bigrams.weight" or parameter.dim() == 1:
            nn.init.normal_(parameter)
    padded = token_rows(batch, padding=padding, side=side)
    results = []
    for tokens in (padded, padded[:, padding:] if side == "pre" else padded[:, :-padding]):
        model.zero_grad()
        logits = model(tokens)
        logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(results[0], results[1])
