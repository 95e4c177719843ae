"""Every backend of the scan against the loop that defines the truth."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from rnn_imdb.choices import SCANS
from rnn_imdb.scan import find_scan, reference, tanh_scan

FAST = [name for name in SCANS if name != "reference"]
SIZES = [(1, 1, 1), (3, 2, 16), (2, 63, 31), (32, 63, 32), (3, 5, 64), (5, 7, 100), (1, 500, 32), (3, 3, 256)]
GRADIENTS = ("dense", "last", "zero")
MASKS = ("none", "pre", "post", "holes", "empty row")


class Case(NamedTuple):
    """Inputs of a scan, in float64 and with gradients asked for."""

    projected: Tensor
    weight: Tensor
    initial_state: Tensor
    mask: Tensor | None
    gradient: Tensor


def make_case(batch: int, time: int, state: int, *, gradient: str = "dense", mask: str = "none", scale=1.0) -> Case:
    generator = torch.Generator().manual_seed(batch * 7919 + time * 104729 + state)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731 one line, used here only
    # with orthogonal weights the first steps still receive a gradient
    weight = torch.linalg.qr(normal(state, state))[0]
    upstream = normal(batch, time, state)
    if gradient == "last":
        upstream[:, :-1] = 0
    if gradient == "zero":
        upstream.zero_()
    return Case(
        normal(batch, time, state) * scale, weight, normal(batch, state).tanh(), make_mask(mask, batch, time), upstream
    )


def make_mask(kind: str, batch: int, time: int) -> Tensor | None:
    if kind == "none":
        return None
    steps = torch.arange(time)
    lengths = torch.arange(batch)[:, None] % time + 1
    if kind == "pre":
        return steps >= time - lengths
    if kind == "post":
        return steps < lengths
    holes = (torch.arange(batch)[:, None] + steps) % 3 != 0
    if kind == "empty row":
        holes[0] = False
    return holes


def run(backend: str, case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """States and gradients under the case's upstream gradient."""
    inputs = [tensor.to(dtype).requires_grad_() for tensor in case[:3]]
    states = tanh_scan(*inputs, case.mask, backend=backend)
    gradients = torch.autograd.grad(states, inputs, case.gradient.to(dtype))
    names = ("states", "d projected", "d weight", "d initial state")
    return dict(zip(names, (states.detach(), *gradients), strict=True))


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Relative error in norm, which a wrong step cannot hide in."""
    for name, value in expected.items():
        error = (actual[name].double() - value).norm() / max(value.norm().item(), 1.0)
        assert error <= tolerance, f"{name}: relative error {error:.2e} above {tolerance:.0e}"


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_backend_equals_reference(backend: str, size: tuple[int, int, int], gradient: str) -> None:
    case = make_case(*size, gradient=gradient)
    assert_close(run(backend, case, torch.float32), run("reference", case, torch.float64), 5e-6)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("mask", MASKS[1:])
@pytest.mark.parametrize("size", [(3, 1, 5), (5, 7, 16), (32, 63, 32)], ids=str)
def test_masked_backend_equals_reference(backend: str, size: tuple[int, int, int], mask: str) -> None:
    case = make_case(*size, mask=mask)
    assert_close(run(backend, case, torch.float32), run("reference", case, torch.float64), 5e-6)


@pytest.mark.parametrize("backend", list(SCANS))
def test_masked_steps_carry_the_state_on(backend: str) -> None:
    case = make_case(4, 9, 16, mask="holes")
    states = run(backend, case, torch.float32)["states"]
    before = torch.cat([case.initial_state.float()[:, None], states[:, :-1]], dim=1)
    assert case.mask is not None
    assert torch.equal(states[~case.mask], before[~case.mask])


@pytest.mark.parametrize("backend", list(SCANS))
def test_saturated_inputs_stay_within_one(backend: str) -> None:
    case = make_case(3, 11, 32, scale=50.0)
    result = run(backend, case, torch.float32)
    assert result["states"].abs().max() <= 1
    assert_close(result, run("reference", case, torch.float64), 1e-5)


@pytest.mark.parametrize("backend", list(SCANS))
@pytest.mark.parametrize(("value", "expected"), [(math.inf, 1.0), (-math.inf, -1.0), (math.nan, math.nan)])
def test_infinities_saturate_and_nan_stays_nan(backend: str, value: float, expected: float) -> None:
    case = make_case(2, 6, 32)
    case.projected[1, 2, 3] = value
    states = run(backend, case, torch.float32)["states"]
    truth = run("reference", case, torch.float64)["states"]
    torch.testing.assert_close(states[1, 2, 3], torch.tensor(expected), equal_nan=True)
    assert torch.equal(states.isnan(), truth.isnan())


@pytest.mark.parametrize("backend", FAST)
def test_every_element_is_written(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("empty", "empty_like"):
        original = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, original=original, **k: original(*a, **k).fill_(math.nan))
    new_empty = Tensor.new_empty
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *a, **k: new_empty(self, *a, **k).fill_(math.nan))
    for mask in MASKS:
        for name, value in run(backend, make_case(5, 7, 17, mask=mask), torch.float32).items():
            assert not value.isnan().any(), f"{name} with mask {mask}"


@pytest.mark.parametrize("mask", MASKS)
def test_bptt_passes_gradcheck(mask: str) -> None:
    case = make_case(3, 5, 4, mask=mask)
    inputs = [tensor.requires_grad_() for tensor in case[:3]]
    assert torch.autograd.gradcheck(lambda *tensors: find_scan("bptt")(*tensors, case.mask), inputs)


@pytest.mark.parametrize("backend", list(SCANS))
def test_strided_inputs_give_the_same(backend: str) -> None:
    case = make_case(3, 8, 16)
    wide = torch.randn(16, 40, dtype=torch.float64)
    wide[:, 8:24] = case.weight
    strided = case._replace(projected=case.projected.transpose(0, 1).contiguous().transpose(0, 1), weight=wide[:, 8:24])
    plain = run(backend, case, torch.float32)
    inputs = [strided.projected.float(), wide.float()[:, 8:24], case.initial_state.float()]
    assert not inputs[1].is_contiguous()
    torch.testing.assert_close(tanh_scan(*inputs, backend=backend), plain["states"])


@pytest.mark.parametrize("backend", list(SCANS))
def test_permuted_batch_gives_permuted_states(backend: str) -> None:
    case = make_case(7, 9, 16)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    moved = case._replace(projected=case.projected[order], initial_state=case.initial_state[order])
    torch.testing.assert_close(
        run(backend, moved, torch.float32)["states"], run(backend, case, torch.float32)["states"][order]
    )


def test_reference_is_the_equation() -> None:
    case = make_case(1, 2, 3)
    first = torch.tanh(case.projected[0, 0] + case.weight @ case.initial_state[0])
    second = torch.tanh(case.projected[0, 1] + case.weight @ first)
    torch.testing.assert_close(
        reference.scan(case.projected, case.weight, case.initial_state)[0], torch.stack([first, second])
    )


def test_shapes_dtypes_and_names_are_checked() -> None:
    projected, weight, initial = torch.zeros(2, 3, 4), torch.zeros(4, 4), torch.zeros(2, 4)
    # without the run-time check of annotations, which would answer first
    unchecked = getattr(tanh_scan, "__wrapped__", tanh_scan)
    with pytest.raises(ValueError, match=r"weight must have shape \(4, 4\) .* got \(4, 5\)"):
        unchecked(projected, torch.zeros(4, 5), initial)
    with pytest.raises(ValueError, match=r"initial_state must have shape \(2, 4\) .* got \(1, 4\)"):
        unchecked(projected, weight, torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"weight must be torch.float32 .* got torch.float64"):
        unchecked(projected, weight.double(), initial)
    with pytest.raises(ValueError, match=r"mask must be torch\.bool of shape"):
        unchecked(projected, weight, initial, torch.ones(2, 3))
    with pytest.raises(ValueError, match="without zeros"):
        unchecked(torch.zeros(2, 0, 4), weight, initial)
    with pytest.raises(ValueError, match="backend must be auto or one of reference, bptt"):
        tanh_scan(projected, weight, initial, backend="fastest")
