"""The cell, the readouts and the classifier."""

import numpy as np
import pytest
import torch
from conftest import E, H, T, small_classifier, token_rows
from torch import nn

from rnn_imdb.model.cell import TanhCell
from rnn_imdb.model.readout import READOUTS
from rnn_imdb.model.rnn import ReviewClassifier


def torch_rnn_like(cell: TanhCell) -> nn.RNN:
    rnn = nn.RNN(cell.embedding_dim, cell.state_dim, nonlinearity="tanh", batch_first=True, dtype=cell.A.dtype)
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(cell.recurrent_weight)
        rnn.weight_ih_l0.copy_(cell.input_weight)
        rnn.bias_ih_l0.copy_(cell.b if cell.b is not None else torch.zeros(cell.state_dim))
        rnn.bias_hh_l0.zero_()
    return rnn


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scan", ["reference", "bptt", "auto"])
def test_cell_equals_torchs_rnn_in_outputs_and_gradients(scan: str, bias: bool) -> None:
    torch.manual_seed(1)
    cell = TanhCell(E, H, bias=bias, scan=scan).double()
    if cell.b is not None:
        nn.init.normal_(cell.b)
    rnn = torch_rnn_like(cell)
    inputs = torch.randn(3, 17, E, dtype=torch.float64, requires_grad=True)
    initial = torch.randn(3, H, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 17, H, dtype=torch.float64)
    ours, theirs = cell(inputs, initial_state=initial), rnn(inputs, initial[None])[0]
    torch.testing.assert_close(ours, theirs)
    own = torch.autograd.grad(ours, [inputs, initial, cell.A], upstream, retain_graph=True)
    other = torch.autograd.grad(theirs, [inputs, initial, rnn.weight_hh_l0, rnn.weight_ih_l0, rnn.bias_ih_l0], upstream)
    torch.testing.assert_close(own, (other[0], other[1], torch.cat(other[2:4], dim=1)))
    if cell.b is not None:
        torch.testing.assert_close(torch.autograd.grad(ours, cell.b, upstream)[0], other[4])


def test_cell_equals_a_numpy_recurrence() -> None:
    torch.manual_seed(2)
    cell = TanhCell(E, H).double()
    inputs = torch.randn(1, 9, E, dtype=torch.float64)
    A = cell.A.detach().numpy()
    state = np.zeros(H)
    for t, expected in enumerate(cell(inputs)[0].detach().numpy()):
        state = np.tanh(A @ np.concatenate([state, inputs[0, t].numpy()]))
        np.testing.assert_allclose(expected, state, rtol=1e-12)


def test_cell_starts_as_kerass_does() -> None:
    torch.manual_seed(0)
    cell = TanhCell(40, 60)
    torch.testing.assert_close(cell.recurrent_weight @ cell.recurrent_weight.T, torch.eye(60), atol=1e-5, rtol=0)
    limit = (6 / 100) ** 0.5
    assert 0.98 * limit < cell.input_weight.abs().max() <= limit
    assert cell.b is not None
    assert torch.equal(cell.b, torch.zeros(60))


def test_classifier_starts_as_kerass_does() -> None:
    classifier = ReviewClassifier()
    weight = classifier.embedding.weight
    assert 0.0499 < weight.abs().max() <= 0.05
    assert classifier.head.weight.abs().max() <= (6 / 33) ** 0.5
    assert torch.equal(classifier.head.bias, torch.zeros(1))


def test_readouts_are_their_formulas() -> None:
    torch.manual_seed(3)
    states = torch.randn(2, T, H).tanh()
    mask = torch.rand(2, T) > 0.4
    real = mask[:, :, None]

    def readout(name: str) -> nn.Module:
        return READOUTS[name](H, T)

    assert torch.equal(readout("last")(states, None), states[:, -1])
    assert torch.equal(readout("all")(states, None), states.reshape(2, T * H))
    assert torch.equal(readout("all")(states, mask), (states * real).reshape(2, T * H))
    torch.testing.assert_close(readout("mean")(states, None), states.mean(1))
    torch.testing.assert_close(readout("mean")(states, mask)[1], states[1][mask[1]].mean(0))
    assert torch.equal(readout("max")(states, None), states.max(1).values)
    assert torch.equal(readout("max")(states, mask)[1], states[1][mask[1]].max(0).values)
    real_states = states[1][mask[1]]
    torch.testing.assert_close(
        readout("mean_max")(states, mask)[1], torch.cat([real_states.mean(0), real_states.max(0).values])
    )
    torch.testing.assert_close(readout("mean_max")(states), torch.cat([states.mean(1), states.amax(1)], dim=1))
    attention = readout("attention")
    torch.testing.assert_close(attention(states, mask)[1], states[1][mask[1]].mean(0))
    with torch.no_grad():
        attention.v.normal_()
    weights = (states[1][mask[1]] @ attention.v).softmax(0)
    torch.testing.assert_close(attention(states, mask)[1], weights @ states[1][mask[1]])


def test_unmasked_padding_is_a_word_like_any_other() -> None:
    model = small_classifier()
    assert not torch.allclose(model(token_rows(padding=4, side="post")), model(token_rows(padding=4)))
    model(token_rows(padding=4)).sum().backward()
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad[0].any()


def test_unknown_readout_is_refused() -> None:
    with pytest.raises(
        ValueError, match="readout must be one of last, all, mean, max, mean_max, attention, got 'first'"
    ):
        small_classifier(readout="first")
