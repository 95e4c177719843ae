"""The linear recurrence against a plain loop, and what it is known to do."""

from functools import partial

import pytest
import torch
from test_scan import GRADIENTS, MASKS, assert_close, make_case, run
from torch import Tensor

from rnn_imdb.scan import Unsupported, tanh_scan

linear_scan = partial(tanh_scan, linear=True)
SHAPES = [(1, 1, 1), (3, 1, 5), (1, 2, 16), (5, 7, 17), (3, 63, 31), (32, 63, 32), (2, 500, 8)]


def loop(projected: Tensor, weight: Tensor, initial_state: Tensor, mask: Tensor | None = None) -> Tensor:
    """The equation; autograd does the backward pass."""
    state, states = initial_state, []
    for t in range(projected.shape[1]):
        new = projected[:, t] + state @ weight.T
        state = new if mask is None else torch.where(mask[:, t, None], new, state)
        states.append(state)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 5e-6)], ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scan_equals_the_loop(shape: tuple[int, int, int], mask: str, dtype: torch.dtype, tolerance: float) -> None:
    case = make_case(*shape, mask=mask)
    assert_close(run(linear_scan, case, dtype, GRADIENTS), run(loop, case, torch.float64, GRADIENTS), tolerance)


@pytest.mark.parametrize("mask", MASKS)
def test_scan_passes_gradcheck(mask: str) -> None:
    case = make_case(3, 5, 4, mask=mask)
    inputs = [tensor.requires_grad_() for tensor in case[:3]]
    assert torch.autograd.gradcheck(lambda *tensors: linear_scan(*tensors, case.mask), inputs)


def test_states_are_powers_of_the_weights() -> None:
    weight = torch.tensor([[0.5, 0.0], [0.0, -2.0]], dtype=torch.float64)
    projected = torch.zeros(1, 6, 2, dtype=torch.float64)
    projected[0, 0] = 1
    states = linear_scan(projected, weight, torch.zeros(1, 2, dtype=torch.float64))
    assert states[0].tolist() == [[0.5**t, (-2.0) ** t] for t in range(6)]


def test_masked_steps_carry_the_state_on() -> None:
    case = make_case(4, 9, 16, mask="holes")
    states = linear_scan(*case)
    before = torch.cat([case.initial_state[:, None], states[:, :-1]], dim=1)
    assert case.mask is not None
    assert torch.equal(states[~case.mask], before[~case.mask])


def test_growing_states_overflow_without_an_error() -> None:
    states = linear_scan(torch.ones(1, 200, 1), torch.full((1, 1), 10.0), torch.zeros(1, 1))
    assert states[0, 0].item() == 1
    assert states[0, -1].item() == torch.inf


@pytest.mark.parametrize("backend", ["cpu", "cudnn", "reference"])
def test_backends_of_the_tanh_alone_refuse_it(backend: str) -> None:
    with pytest.raises(Unsupported, match=f"{backend} (computes tanh alone|has no kernel)"):
        linear_scan(torch.ones(1, 2, 1), torch.ones(1, 1), torch.zeros(1, 1), backend=backend)


def test_strided_weights_give_the_same() -> None:
    case = make_case(3, 8, 16)
    wide = torch.randn(16, 40, dtype=torch.float64)
    wide[:, 8:24] = case.weight
    torch.testing.assert_close(linear_scan(case.projected, wide[:, 8:24], case.initial_state), linear_scan(*case))


def test_shapes_are_checked() -> None:
    projected, weight, initial = torch.zeros(2, 3, 4), torch.zeros(4, 4), torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"initial_state must be .* of shape \(2, 4\), .* got .* of shape \(1, 4\)"):
        linear_scan(projected, weight, torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"mask must be torch\.bool of shape"):
        linear_scan(projected, weight, initial, torch.ones(2, 3))
