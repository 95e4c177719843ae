"""Linear, dense and convolutional classifiers, and the choice among them."""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from conftest import E, H, T, V, compose, small_classifier, token_rows
from torch import nn

from rnn_imdb.benchmarks.epochs import with_torch_rnn
from rnn_imdb.common.errors import UserError
from rnn_imdb.model import ENCODERS, make_classifier
from rnn_imdb.model.baselines import ConvClassifier, DenseClassifier
from rnn_imdb.model.cell import ACTIVATIONS, LinearCell
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.scan import native
from rnn_imdb.training import environment
from rnn_imdb.training.announce import announcement
from rnn_imdb.training.trainer import build_data, build_module, parameter_dtype


def test_linear_cell_is_the_equation() -> None:
    torch.manual_seed(2)
    cell = LinearCell(E, H).double()
    nn.init.normal_(cell.b)  # pyright: ignore[reportArgumentType] it has one
    inputs = torch.randn(3, 9, E, dtype=torch.float64)
    A, b = cell.A.detach().numpy(), cell.b.detach().numpy()  # pyright: ignore[reportOptionalMemberAccess]
    expected = np.zeros((3, H))
    for t, states in enumerate(cell(inputs).detach().numpy().swapaxes(0, 1)):
        expected = np.concatenate([expected, inputs[:, t].numpy()], axis=1) @ A.T + b
        np.testing.assert_allclose(states, expected, rtol=1e-12, atol=1e-12)


def test_linear_classifier_is_linear_in_the_words() -> None:
    model = small_classifier(activation="identity", readout="mean").double()
    one, other = torch.randn(2, 4, T, E, dtype=torch.float64)
    zero = model.logits_from(torch.zeros_like(one))
    total = model.logits_from(one) + model.logits_from(other) - zero
    torch.testing.assert_close(model.logits_from(one + other), total)


def test_largest_linear_state_may_lie_far_below_zero() -> None:
    model = small_classifier(activation="identity", readout="max", mask_padding=True)
    assert isinstance(model, ReviewClassifier)
    states = torch.full((1, T, H), -100.0)
    assert torch.equal(model.readout(states, token_rows(1, padding=3) != 0), states[:, 0])


@pytest.mark.parametrize("masked", [False, True])
def test_dense_is_its_formula(masked: bool) -> None:
    model, tokens = small_classifier(encoder="dense", mask_padding=masked), token_rows(3, padding=4)
    assert isinstance(model, DenseClassifier)
    nn.init.normal_(model.encoder.bias)
    M, b = model.encoder.weight.detach().numpy(), model.encoder.bias.detach().numpy()
    for row, logit in zip(tokens.numpy(), model(tokens).tolist(), strict=True):
        x = model.embedding.weight.detach().numpy()[row] * ((row != 0)[:, None] if masked else 1)
        hidden = np.maximum(M @ x.reshape(-1) + b, 0)
        expected = model.head.weight.detach().numpy()[0] @ hidden + model.head.bias.item()
        assert logit == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 6, 31])
def test_conv_is_its_formula(width: int, masked: bool) -> None:
    model, tokens = small_classifier(encoder="conv", kernel_size=width, mask_padding=masked), token_rows(3, padding=4)
    assert isinstance(model, ConvClassifier)
    nn.init.normal_(model.encoder.bias)
    M, b = model.encoder.weight.detach().numpy(), model.encoder.bias.detach().numpy()  # (H, E, K)
    for row, logit in zip(tokens.numpy(), model(tokens).tolist(), strict=True):
        # the padding of a masked review is not there at all
        words = row[row != 0] if masked else row
        x = {t: model.embedding.weight.detach().numpy()[word] for t, word in enumerate(words)}
        windows = [
            b + sum(M[:, :, k] @ x[t + k - width // 2] for k in range(width) if t + k - width // 2 in x) for t in x
        ]
        largest = np.maximum(np.max(windows, axis=0), 0)
        expected = model.head.weight.detach().numpy()[0] @ largest + model.head.bias.item()
        assert logit == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_leaves_out_what_concerns_others_and_refuses_what_concerns_none(encoder: str) -> None:
    model = make_classifier(**compose("train", f"model.encoder={encoder}").model, vocabulary_size=V, sequence_length=T)
    assert type(model) is ENCODERS[encoder]
    assert (hasattr(model, "cell"), hasattr(model, "readout")) == ((True, True) if encoder == "rnn" else (False, False))
    with pytest.raises(TypeError, match="layers"):
        make_classifier(encoder, layers=2)


def test_unknown_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="encoder must be one of rnn, dense, conv, got 'lstm'"):
        make_classifier("lstm")


def test_benchmark_can_put_torchs_rnn_in_place_of_the_cell() -> None:
    model, tokens = with_torch_rnn(), torch.randint(0, 10_000, (2, 6))
    states = model.cell.get_submodule("rnn")(model.embedding(tokens))[0]
    torch.testing.assert_close(model(tokens), model.head(states[:, -1]).squeeze(1))


@pytest.mark.parametrize(
    ("overrides", "texts"),
    [
        (
            [],
            [
                "recurrence 2,080, head 33;",
                "words x 32, A 32 x (32 + 32), readout last, head 32 -> 1",
                " on cpu",
            ],
        ),
        (["model.readout=attention"], ["recurrence 2,080, readout 32, head 33;"]),
        (
            ["model.bidirectional=true", "model.bigrams=1000"],
            [
                "bigrams 32,000, recurrence 2,080, backward recurrence 2,080, head 65;",
                "forwards and backwards, readout",
            ],
        ),
        (
            ["model.activation=identity", "data.first_words=7"],
            ["30 tokens, the first 7 words", "A 32 x (32 + 32), activation identity,", "scan bptt"],
        ),
        (["model.encoder=dense", "data.last_words=9"], ["the last 9 words", "encoder 30,752,", "dense 960 -> 32"]),
        (["model.encoder=conv"], ["encoder 5,152, head 33;", "32 filters over 5 words, head 32 -> 1", "scan none"]),
        (["model.state_dim=4096", "model.embedding_dim=4096", "model.readout=all"], ["head 122,881;"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_summary_names_the_parts_and_their_parameters(
    small_overrides: list[str], overrides: list[str], texts: list[str]
) -> None:
    config = compose("train", *small_overrides, *overrides)
    data = build_data(config.data)
    with torch.device("meta"):
        model = build_module(config, len(data.vocabulary)).classifier
    text = announcement(config, data, model, torch.device("cpu"), torch.float32, Path("run"))
    assert [line for line in text.splitlines() if len(line) > 80] == []
    plain = " ".join(text.split())
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters: embedding" in plain
    assert [expected for expected in texts if expected not in plain] == []


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("precision", "expected"),
    [("32-true", "auto"), ("bf16-mixed", "auto"), ("64-true", "bptt"), ("bf16-true", "bptt"), ("16-true", "bptt")],
)
def test_summary_names_the_scan_that_runs(
    small_overrides: list[str], precision: str, expected: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("train", *small_overrides, f"trainer.precision={precision}", f"model.mask_padding={masked}")
    environment.start(0)
    trainer = L.Trainer(accelerator="cpu", precision=config.trainer.precision, logger=False, enable_checkpointing=False)
    data, device = build_data(config.data), torch.device("cpu")
    model = build_module(config, len(data.vocabulary)).classifier
    called, genuine = [], native.call
    monkeypatch.setattr(native, "call", lambda name, *rest: called.append(name) or genuine(name, *rest))
    with trainer.precision_plugin.forward_context():
        trainer.precision_plugin.convert_module(model)(torch.ones(2, 30, dtype=torch.int64))
    kernel = native.instruction_set() if expected == "auto" else None
    assert ("recurrence_forward" in called) == bool(kernel)
    model.float()
    text = " ".join(announcement(config, data, model, device, parameter_dtype(trainer), Path("run")).split())
    assert (f"scan cpu ({kernel})," if kernel else "scan bptt") in text
    assert model.cell.scan == "auto"
    model.cell.scan = "cpu"
    if kernel is None:
        with pytest.raises(UserError, match="the scan cpu"):
            announcement(config, data, model, device, parameter_dtype(trainer), Path("run"))


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_recurrence_held_at_zero_stays_there(activation: str) -> None:
    torch.manual_seed(0)
    cell = ACTIVATIONS[activation](4, 3, recurrent=False)
    inputs = torch.randn(2, 5, 4)
    expected = inputs @ cell.input_weight.T
    torch.testing.assert_close(cell(inputs), expected.tanh() if activation == "tanh" else expected)
    cell(inputs).sum().backward()
    torch.optim.SGD(cell.parameters(), lr=1.0).step()
    assert not cell.A[:, :3].any()
    assert cell.A.grad is not None
    assert cell.A.grad[:, 3:].all()
