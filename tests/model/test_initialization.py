"""How parameters are drawn."""

import math

import pytest
import torch
from torch import Tensor, nn

from rnn_imdb.model.baselines import ConvClassifier, DenseClassifier
from rnn_imdb.model.cell import LinearCell, TanhCell
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.scan import Unsupported


def assert_uniform(values: Tensor, bound: float) -> None:
    """Within the bound and close to it, with the standard deviation of a uniform distribution."""
    assert values.abs().max() <= bound
    assert values.abs().max() > 0.98 * bound
    assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert abs(values.mean().item()) < 5 * bound / math.sqrt(3 * values.numel())


@pytest.mark.parametrize("readout", ["last", "all"])
def test_default_model_draws_in_the_same_order_as_ever(readout: str) -> None:
    features = 32 if readout == "last" else 32 * 500
    torch.manual_seed(7)
    model = ReviewClassifier(readout=readout)
    torch.manual_seed(7)
    embedding = nn.Embedding(10_000, 32)
    A = torch.empty(32, 64)
    nn.init.orthogonal_(A[:, :32])
    nn.init.xavier_uniform_(A[:, 32:])
    head = nn.Linear(features, 1)
    nn.init.uniform_(embedding.weight, -0.05, 0.05)
    nn.init.xavier_uniform_(head.weight)
    expected = {"embedding.weight": embedding.weight, "cell.A": A, "cell.b": torch.zeros(32)}
    expected |= {"head.weight": head.weight, "head.bias": torch.zeros(1)}
    actual = model.state_dict()
    assert list(actual) == list(expected)
    # LAPACK's orthogonal factor is that of float32
    torch.testing.assert_close(actual["cell.A"][:, :32], A[:, :32], rtol=0, atol=1e-6)
    A[:, :32] = actual["cell.A"][:, :32]
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


def test_torch_initialisation_is_that_of_torchs_layers() -> None:
    torch.manual_seed(0)
    model = ReviewClassifier(readout="all", state_dim=64, embedding_dim=48, init="torch")
    embedding = model.embedding.weight
    assert embedding.mean().item() == pytest.approx(0, abs=0.01)
    assert embedding.std().item() == pytest.approx(1, rel=0.01)
    assert embedding.abs().max() > 4
    assert_uniform(model.cell.recurrent_weight, 1 / 8)
    assert_uniform(model.cell.input_weight, 1 / 8)
    assert_uniform(model.head.weight, 1 / math.sqrt(64 * 500))
    assert model.cell.b is not None
    for bias, bound in ((model.cell.b, 1 / 8), (model.head.bias, 1 / math.sqrt(64 * 500))):
        assert bias.all()
        assert bias.abs().max() <= bound


@pytest.mark.parametrize(
    ("model", "fan_in", "fan_out"),
    [
        (lambda init: DenseClassifier(sequence_length=50, embedding_dim=8, state_dim=30, init=init), 400, 30),
        (lambda init: ConvClassifier(embedding_dim=16, state_dim=90, kernel_size=7, init=init), 112, 630),
    ],
    ids=["dense", "conv"],
)
def test_encoders_start_as_keras_s_or_torch_s_layers(model: object, fan_in: int, fan_out: int) -> None:
    assert callable(model)
    torch.manual_seed(0)
    keras, by_torch = model("keras"), model("torch")
    assert_uniform(keras.encoder.weight, math.sqrt(6 / (fan_in + fan_out)))
    assert_uniform(keras.embedding.weight, 0.05)
    assert keras.head.weight.abs().max() <= math.sqrt(6 / (keras.head.in_features + 1))
    assert not keras.encoder.bias.any()
    assert not keras.head.bias.any()
    assert_uniform(by_torch.encoder.weight, 1 / math.sqrt(fan_in))
    assert by_torch.embedding.weight.std().item() == pytest.approx(1, rel=0.01)
    assert by_torch.encoder.bias.all()
    assert by_torch.encoder.bias.abs().max() <= 1 / math.sqrt(fan_in)


@pytest.mark.parametrize("init", ["keras", "torch"])
@pytest.mark.parametrize("radius", [0.1, 0.9, 1.0, 1.5])
@pytest.mark.parametrize("state_dim", [1, 7, 64])
def test_spectral_radius_is_what_was_asked_for(init: str, radius: float, state_dim: int) -> None:
    torch.manual_seed(1)
    cell = LinearCell(5, state_dim, init=init, spectral_radius=radius)
    # the growth of a long product of A with itself, by Gelfand's formula
    power = torch.linalg.matrix_power(cell.recurrent_weight.detach().double() / radius, 2**14)
    assert torch.linalg.matrix_norm(power).item() ** (1 / 2**14) == pytest.approx(1, abs=2e-3)
    torch.manual_seed(1)
    drawn = TanhCell(5, state_dim, init=init)
    assert torch.equal(cell.input_weight, drawn.input_weight)
    ratio = cell.recurrent_weight / drawn.recurrent_weight
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="init must be one of keras, torch, got 'zeros'"):
        TanhCell(3, 3, init="zeros")
    with pytest.raises(ValueError, match="activation must be one of tanh, identity, got 'relu'"):
        ReviewClassifier(activation="relu")
    with pytest.raises(ValueError, match=r"spectral_radius must be None where recurrent is False, got 0\.9"):
        TanhCell(3, 3, spectral_radius=0.9, recurrent=False)
    with pytest.raises(Unsupported, match=r"the scan cpu .*computes tanh alone, not a linear recurrence"):
        LinearCell(4, 4, scan="cpu")(torch.zeros(1, 2, 4))
