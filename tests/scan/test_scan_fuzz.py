"""Random cases of every function of the recurrence against plain torch: sizes, strides, masks, threads, NaN, ∞."""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from conftest import runnable, with_threads
from torch import Tensor
from torch.nn import functional as F

from rnn_imdb.scan import BACKENDS, lookup, native, project_inputs, scan_inputs, tanh_scan

CASES = 150
# in norm; where a state of one component saturates, its slope 1 - h² is little more than the rounding error of h
TOLERANCE = 5e-5
NOT_FINITE = (torch.nan, torch.inf, -torch.inf)


class Case(NamedTuple):
    """Tensors with gradients, the function that a backend is asked for, and what it should be."""

    leaves: list[Tensor]
    function: Callable[..., Tensor]
    truth: Callable[..., Tensor]
    masked: bool


class Maker:
    """Draws tensors of odd sizes that lie in memory in odd ways, with NaN around them."""

    def __init__(self, seed: int) -> None:
        self.choice = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def size(self, most: int) -> int:
        return self.choice.choice((1, 2, most, self.choice.randint(1, most), self.choice.randint(1, most)))

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return self.laid_out(scale * torch.randn(*shape, generator=self.generator))

    def laid_out(self, x: Tensor) -> Tensor:
        """The same values in one of several layouts; or those of the first row for all rows."""
        kind = self.choice.randrange(6)
        if kind == 0:
            return x.transpose(0, -1).contiguous().transpose(0, -1)
        if kind == 1:
            around = x.new_full([n + 2 for n in x.shape], torch.nan if x.is_floating_point() else True)
            inside = around[(slice(1, -1),) * x.dim()]
            inside.copy_(x)
            return inside
        if kind == 2 and x.dim() > 1:
            return x[:1].expand_as(x)
        if kind == 3 and x.is_floating_point():
            return torch._neg_view(-x)
        return x

    def matrix(self, state: int, columns: int) -> Tensor:
        """W beside W_x; orthogonal, or the difference of two roundings would grow with time."""
        recurrent = torch.linalg.qr(torch.randn(state, state, generator=self.generator))[0]
        return torch.cat([recurrent, torch.randn(state, columns, generator=self.generator) / columns**0.5], dim=1)

    def mask(self, batch: int, time: int) -> Tensor | None:
        share = self.choice.choice((None, None, 0.0, 0.2, 0.7, 1.0))
        return None if share is None else self.laid_out(torch.rand(batch, time, generator=self.generator) < share)

    def tokens(self, batch: int, time: int, vocabulary: int) -> Tensor:
        tokens = torch.randint(vocabulary, (batch, time), generator=self.generator)
        begins = torch.randint(time + 1, (batch, 1), generator=self.generator)
        if self.choice.random() < 0.6:
            tokens[torch.arange(time) < begins] = 0
        return self.laid_out(tokens.to(self.choice.choice((torch.int32, torch.int64))))

    def bias(self, state: int) -> list[Tensor]:
        return [self.normal(state)] if self.choice.random() < 0.7 else []


def scan_case(make: Maker) -> Case:
    batch, time, state = make.size(20), make.size(20), make.size(40)
    leaves = [
        make.normal(batch, time, state),
        make.laid_out(make.matrix(state, 1)[:, :state]),
        make.normal(batch, state),
    ]
    mask, last = make.mask(batch, time), make.choice.random() < 0.3
    return Case(
        leaves,
        lambda backend, *tensors: tanh_scan(*tensors, mask, backend, only_last=last),
        lambda *tensors: tanh_scan(*tensors, mask, "reference", only_last=last),
        mask is not None,
    )


def vectors_case(make: Maker) -> Case:
    batch, time, embedding, state = make.size(20), make.size(20), make.size(40), make.size(40)
    mask, last = make.mask(batch, time), make.choice.random() < 0.3
    leaves = [
        make.normal(batch, time, embedding),
        make.laid_out(make.matrix(state, embedding)),
        make.normal(batch, state),
    ]
    leaves += make.bias(state)

    def function(backend: str, inputs: Tensor, A: Tensor, initial: Tensor, bias: Tensor | None = None) -> Tensor:
        return scan_inputs(inputs, A, bias, initial, mask, backend, only_last=last)

    def truth(inputs: Tensor, A: Tensor, initial: Tensor, bias: Tensor | None = None) -> Tensor:
        projected = F.linear(inputs, A[:, state:], bias)
        return tanh_scan(projected, A[:, :state], initial, mask, "reference", only_last=last)

    return Case(leaves, function, truth, mask is not None)


def tokens_case(make: Maker) -> Case:
    batch, time, embedding, state = make.size(20), make.size(20), make.size(40), make.size(40)
    vocabulary = make.size(60)
    tokens, mask, last = make.tokens(batch, time, vocabulary), make.mask(batch, time), make.choice.random() < 0.3
    leaves = [make.normal(vocabulary, embedding), make.laid_out(make.matrix(state, embedding)), *make.bias(state)]

    def function(backend: str, table: Tensor, A: Tensor, bias: Tensor | None = None) -> Tensor:
        return scan_inputs(tokens, A, bias, None, mask, backend, embedding=table, only_last=last)

    def truth(table: Tensor, A: Tensor, bias: Tensor | None = None) -> Tensor:
        projected = F.linear(F.embedding(tokens, table), A[:, state:], bias)
        return tanh_scan(projected, A[:, :state], table.new_zeros(batch, state), mask, "reference", only_last=last)

    return Case(leaves, function, truth, mask is not None)


def lookup_case(make: Maker) -> Case:
    batch, time, vocabulary = make.size(20), make.size(20), make.size(60)
    tokens = make.tokens(batch, time, vocabulary)
    table = make.normal(vocabulary, make.size(40))
    return Case([table], lambda _, t: lookup(t, tokens), lambda t: F.embedding(tokens, t), False)


def projection_case(make: Maker) -> Case:
    embedding, state = make.size(40), make.size(40)
    rows = (make.size(200),) if make.choice.random() < 0.5 else (make.size(20), make.size(20))
    leaves = [make.normal(*rows, embedding), make.normal(state, embedding, scale=embedding**-0.5), *make.bias(state)]
    return Case(leaves, lambda _, *tensors: project_inputs(*tensors), F.linear, False)


KINDS = {
    "tanh_scan": scan_case,
    "scan_inputs of vectors": vectors_case,
    "scan_inputs of words": tokens_case,
    "lookup": lookup_case,
    "project_inputs": projection_case,
}


def results(
    function: Callable[..., Tensor], leaves: list[Tensor], dtype: torch.dtype, upstream: Tensor
) -> list[Tensor]:
    """Values and gradients; `upstream` is as long as any result, or a number for all of it."""
    leaves = [leaf.detach().to(dtype).requires_grad_() for leaf in leaves]
    values = function(*leaves)
    gradient = upstream.flatten()[: values.numel()].view(values.shape) if upstream.dim() else upstream
    return [values.detach(), *torch.autograd.grad(values, leaves, gradient.to(dtype).expand_as(values))]


def check(kind: str, backend: str, seed: int) -> None:
    """One random case, of which `seed` is all that is needed to see it again."""
    make = Maker(seed)
    case = KINDS[kind](make)
    upstream = make.choice.choice(
        (torch.randn(20 * 20 * 41, generator=make.generator), torch.tensor(1.0), torch.tensor(0.0))
    )
    finite = backend == "cudnn" or make.choice.random() < 0.6
    if not finite:
        leaf = make.choice.choice(case.leaves)
        if 0 not in leaf.stride() and not leaf.is_neg():
            leaf[tuple(make.choice.randrange(n) for n in leaf.shape)] = make.choice.choice(NOT_FINITE)
    # where numbers saturate or overflow depends on the dtype
    expected = results(case.truth, case.leaves, torch.float64 if finite else torch.float32, upstream)
    actual = with_threads(
        make.choice.randint(1, 3),
        lambda: results(lambda *leaves: case.function(backend, *leaves), case.leaves, torch.float32, upstream),
    )
    for number, (value, right) in enumerate(zip(actual, expected, strict=True)):
        where = f"{kind}, {backend}, seed {seed}, result {number}"
        assert value.shape == right.shape, where
        # autograd makes 0 times NaN of what the masked steps of the loop have read
        missing = value.isnan() & ~right.isnan() if case.masked else value.isnan() != right.isnan()
        assert not missing.any(), where
        both = value.isfinite() & right.isfinite()
        error = (value[both].double() - right[both].double()).norm()
        assert error <= TOLERANCE * max(right[both].double().norm().item(), 1.0), f"{where}: error {error:.1e}"


@pytest.fixture(params=["bptt", "cudnn", *runnable()])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param in BACKENDS:
        yield request.param
        return
    library = native.load(request.param)
    monkeypatch.setattr(native, "_kernel", lambda: (library, request.param))
    yield "cpu"


@pytest.mark.parametrize("kind", KINDS)
def test_random_cases_equal_plain_torch(kind: str, backend: str) -> None:
    if kind in ("lookup", "project_inputs") and backend != "cpu":
        pytest.skip("has no other backend")
    for seed in range(CASES):
        if backend == "cudnn" and KINDS[kind](Maker(seed)).masked:
            continue
        check(kind, backend, seed)
