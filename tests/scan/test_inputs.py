"""Looked up vectors and their products against torch's own, in values and gradients."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_imdb.scan import dot, lookup, project_inputs


def values_and_gradients(function: Callable[..., Tensor], dtype: torch.dtype, *tensors: Tensor | None) -> list[Tensor]:
    """Of a function of tensors, whose second is the matrix A of H rows, of which it gets the input part."""
    leaves = [None if t is None else t.detach().to(dtype).requires_grad_() for t in tensors]
    first, matrix, bias = leaves
    assert matrix is not None
    result = function(first, matrix[:, len(matrix) :], bias)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result.backward(upstream.to(dtype))
    return [result.detach(), *(leaf.grad for leaf in leaves if leaf is not None and leaf.grad is not None)]


def assert_equal_to_rounding(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert (a - e).norm() <= 2e-6 * max(1.0, e.norm().item())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("batch", "time", "embedding_dim", "state_dim"),
    [(1, 1, 1, 1), (3, 7, 5, 31), (32, 63, 32, 32), (2, 5, 100, 48), (1, 500, 256, 256)],
)
def test_projected_inputs_equal_linear(batch: int, time: int, embedding_dim: int, state_dim: int, bias: bool) -> None:
    torch.manual_seed(0)
    inputs, b = torch.randn(batch, time, embedding_dim), torch.randn(state_dim) if bias else None
    matrix = torch.randn(state_dim, state_dim + embedding_dim)
    expected = values_and_gradients(F.linear, torch.float64, inputs, matrix, b)
    assert_equal_to_rounding(values_and_gradients(project_inputs, torch.float32, inputs, matrix, b), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "rows", "columns"), [((1,), 10, 4), ((3, 7), 20, 31), ((32, 63), 300, 32)])
def test_lookup_equals_embedding(shape: tuple[int, ...], rows: int, columns: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tokens, table = torch.randint(rows, shape), torch.randn(rows, columns, dtype=torch.float64)
    upstream = torch.randn(*shape, columns, dtype=torch.float64)
    results = []
    same = (lookup, table.to(dtype))
    for function, values in (same, same, (lambda table, tokens: F.embedding(tokens, table), table)):
        leaf = values.clone().requires_grad_()
        looked_up = function(leaf, tokens)
        looked_up.backward(upstream.to(looked_up.dtype))
        assert leaf.grad is not None
        results.append([looked_up.detach(), leaf.grad])
    first, second, expected = results
    assert first[0].dtype == dtype
    assert_equal_to_rounding(first, expected)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_row_outside_the_table_is_refused() -> None:
    for token, count in itertools.product((-1, 10), (1, 50)):
        with pytest.raises(IndexError, match=r"out of range"):
            lookup(torch.zeros(10, 4), torch.full((count,), token))


@pytest.mark.parametrize(("rows", "features"), [((1,), 1), ((3, 7), 31), ((32,), 16_000), ((2, 500), 65)])
def test_dot_equals_its_definition(rows: tuple[int, ...], features: int) -> None:
    torch.manual_seed(0)
    given = torch.randn(*rows, features), torch.randn(features), torch.randn(1)

    def gradients(function: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        leaves = [tensor.to(dtype).requires_grad_() for tensor in given]
        result = function(*leaves)
        return [result.detach(), *torch.autograd.grad(result.square().sum(), leaves)]

    expected = gradients(lambda x, weight, bias: (x * weight).sum(-1) + bias, torch.float64)
    for value, truth in zip(gradients(dot, torch.float32), expected, strict=True):
        assert (value - truth).norm() <= 2e-6 * max(1.0, truth.norm().item())
