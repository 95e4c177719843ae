"""Every backend of the scan against the loop that defines the truth."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from rnn_imdb.scan import bptt, native, reference, tanh_scan

# the Triton kernels have tests of their own, for they need an interpreter or a GPU
BACKENDS = [
    "reference",
    "bptt",
    pytest.param("cpu", marks=pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))),
    "cudnn",
]
FAST = BACKENDS[1:]
MASKING = BACKENDS[:-1]
SHAPES = list(itertools.product((1, 3, 32), (1, 2, 63, 500), (1, 16, 31, 32, 64, 100, 256)))
GRADIENTS = ("dense", "last", "zero")
MASKS = ("none", "pre", "post", "holes", "empty row")


class Case(NamedTuple):
    """Inputs of a scan, in float64."""

    projected: Tensor
    weight: Tensor
    initial_state: Tensor
    mask: Tensor | None


def make_case(batch: int, time: int, state: int, *, mask: str = "none", scale: float = 1.0) -> Case:
    generator = torch.Generator().manual_seed(batch * 7919 + time * 104729 + state)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    # with orthogonal weights the first steps still receive a gradient
    weight = torch.linalg.qr(normal(state, state))[0]
    return Case(normal(batch, time, state) * scale, weight, normal(batch, state).tanh(), make_mask(mask, batch, time))


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


def upstream(kind: str, case: Case) -> Tensor:
    gradient = torch.randn(case.projected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if kind == "last":
        gradient[:, :-1] = 0
    return gradient * (kind != "zero")


def run(
    backend: str | Callable[..., Tensor], case: Case, dtype: torch.dtype, gradients: tuple[str, ...] = ("dense",)
) -> dict[str, Tensor]:
    """States, and gradients under each upstream gradient, of a backend or of another scan."""
    inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in case[:3]]
    scan = partial(tanh_scan, backend=backend) if isinstance(backend, str) else backend
    states = scan(*inputs, case.mask)
    result = {"states": states.detach()}
    for kind in gradients:
        values = torch.autograd.grad(states, inputs, upstream(kind, case).to(dtype), retain_graph=True)
        names = ("d projected", "d weight", "d initial state")
        result |= {f"{name}, {kind}": value for name, value in zip(names, values, strict=True)}
    return result


@cache
def truth(batch: int, time: int, state: int, mask: str = "none") -> dict[str, Tensor]:
    return run("reference", make_case(batch, time, state, mask=mask), torch.float64, GRADIENTS)


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Relative error in norm, which a wrong step cannot hide in."""
    for name, value in expected.items():
        error = (actual[name].double() - value).norm() / max(value.norm().item(), 1.0)
        assert error <= tolerance, f"{name}: relative error {error:.2e} above {tolerance:.0e}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", FAST)
def test_backend_equals_reference(backend: str, shape: tuple[int, int, int]) -> None:
    assert_close(run(backend, make_case(*shape), torch.float32, GRADIENTS), truth(*shape), 5e-6)


@pytest.mark.parametrize("shape", [(3, 1, 5), (5, 7, 16), (32, 63, 32), (3, 63, 100)], ids=str)
@pytest.mark.parametrize("mask", MASKS[1:])
@pytest.mark.parametrize("backend", MASKING[1:])
def test_masked_backend_equals_reference(backend: str, shape: tuple[int, int, int], mask: str) -> None:
    case = make_case(*shape, mask=mask)
    assert_close(run(backend, case, torch.float32, GRADIENTS), truth(*shape, mask), 5e-6)


@pytest.mark.parametrize("shape", [(3, 1, 5), (5, 7, 16), (32, 63, 32), (3, 500, 100)], ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("backend", MASKING)
def test_last_state_alone_has_the_gradients_of_the_last_of_all(
    backend: str, shape: tuple[int, int, int], mask: str
) -> None:
    case = make_case(*shape, mask=mask)
    inputs = [tensor.float().requires_grad_() for tensor in case[:3]]
    last = tanh_scan(*inputs, case.mask, backend=backend, only_last=True)  # pyright: ignore[reportCallIssue] three inputs
    values = torch.autograd.grad(last, inputs, upstream("last", case)[:, -1:].float())
    expected = truth(*shape, mask)
    assert_close({"last": last.detach()}, {"last": expected["states"][:, -1:]}, 5e-6)
    names = ("d projected, last", "d weight, last", "d initial state, last")
    assert_close(dict(zip(names, values, strict=True)), {name: expected[name] for name in names}, 5e-6)


@pytest.mark.parametrize("backend", MASKING)
def test_masked_steps_carry_the_state_on(backend: str) -> None:
    case = make_case(4, 9, 16, mask="holes")
    states = run(backend, case, torch.float32)["states"]
    before = torch.cat([case.initial_state.float()[:, None], states[:, :-1]], dim=1)
    assert case.mask is not None
    assert torch.equal(states[~case.mask], before[~case.mask])


@pytest.mark.parametrize("backend", BACKENDS)
def test_saturated_inputs_stay_within_one(backend: str) -> None:
    case = make_case(3, 11, 32, scale=50.0)
    result = run(backend, case, torch.float32)
    assert result["states"].abs().max() <= 1
    assert_close(result, run("reference", case, torch.float64), 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("value", "expected"), [(math.inf, 1.0), (-math.inf, -1.0), (math.nan, math.nan)])
def test_infinities_saturate_and_nan_stays_nan(backend: str, value: float, expected: float) -> None:
    case = make_case(2, 6, 32)
    case.projected[1, 2, 3] = value
    states = run(backend, case, torch.float32)["states"]
    expected_states = run("reference", case, torch.float64)["states"]
    torch.testing.assert_close(states[1, 2, 3], torch.tensor(expected), equal_nan=True)
    # with its identity matrix, cuDNN's product spreads a NaN over the state one step early
    compared = slice(3, None) if backend == "cudnn" else slice(None)
    assert torch.equal(states[:, compared].isnan(), expected_states[:, compared].isnan())


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh memory holds NaN, so that what a kernel leaves unwritten shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", FAST)
def test_every_element_is_written(backend: str) -> None:
    assert torch.empty(1).isnan()
    for mask in MASKS if backend != "cudnn" else MASKS[:1]:
        for name, value in run(backend, make_case(5, 7, 17, mask=mask), torch.float32).items():
            assert not value.isnan().any(), f"{name} with mask {mask}"


@pytest.mark.parametrize("mask", MASKS)
def test_bptt_passes_gradcheck(mask: str) -> None:
    case = make_case(3, 5, 4, mask=mask)
    inputs = [tensor.requires_grad_() for tensor in case[:3]]
    assert torch.autograd.gradcheck(lambda *tensors: bptt.scan(*tensors, case.mask), inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_inputs_give_the_same(backend: str) -> None:
    case = make_case(3, 8, 16)
    wide = torch.randn(16, 40, dtype=torch.float64)
    wide[:, 8:24] = case.weight
    strided = case._replace(projected=case.projected.transpose(0, 1).contiguous().transpose(0, 1), weight=wide[:, 8:24])
    plain = run(backend, case, torch.float32)
    inputs = [strided.projected.float(), wide.float()[:, 8:24], case.initial_state.float()]
    assert not inputs[1].is_contiguous()
    torch.testing.assert_close(tanh_scan(*inputs, backend=backend), plain["states"])


@pytest.mark.parametrize("backend", BACKENDS)
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
    with pytest.raises(ValueError, match=r"weight must be .* of shape \(4, 4\), .* got .* shape \(4, 5\)"):
        tanh_scan(projected, torch.zeros(4, 5), initial)
    with pytest.raises(ValueError, match=r"initial_state must be .* of shape \(2, 4\), .* got .* shape \(1, 4\)"):
        tanh_scan(projected, weight, torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"weight must be torch.float32 .* got torch.float64"):
        tanh_scan(projected, weight.double(), initial)
    with pytest.raises(ValueError, match=r"mask must be torch\.bool of shape"):
        tanh_scan(projected, weight, initial, torch.ones(2, 3))
    with pytest.raises(ValueError, match="without zeros"):
        tanh_scan(torch.zeros(2, 0, 4), weight, initial)
    with pytest.raises(ValueError, match="backend must be auto or one of cpu, triton, cudnn, bptt, reference"):
        tanh_scan(projected, weight, initial, backend="fastest")
