"""The input stage against embedding and linear, in values and gradients."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_imdb.inputs import project_inputs, project_tokens


def plain(tokens: Tensor, embedding: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(F.embedding(tokens, embedding), weight, bias)


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
@pytest.mark.parametrize(
    ("batch", "time", "vocabulary", "embedding_dim", "state_dim"),
    [(1, 1, 10, 4, 3), (3, 7, 20, 5, 31), (32, 63, 300, 32, 32), (2, 5, 10, 16, 16), (3, 7, 5000, 16, 32)],
)
def test_projected_tokens_equal_embedding_then_linear(
    batch: int, time: int, vocabulary: int, embedding_dim: int, state_dim: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    tokens = torch.randint(vocabulary, (batch, time))
    given = torch.randn(vocabulary, embedding_dim), torch.randn(state_dim, state_dim + embedding_dim)
    bias = torch.randn(state_dim)
    expected = values_and_gradients(lambda *rest: plain(tokens, *rest), torch.float64, *given, bias)
    actual = [values_and_gradients(lambda *rest: project_tokens(tokens, *rest), dtype, *given, bias) for _ in "ab"]
    assert actual[0][0].dtype == dtype
    assert_equal_to_rounding(actual[0], expected)
    assert all(torch.equal(a, b) for a, b in zip(*actual, strict=True))


def test_token_outside_the_vocabulary_is_refused() -> None:
    for token, count in itertools.product((-1, 10), (1, 50)):
        with pytest.raises(IndexError, match=r"out of range"):
            project_tokens(torch.full((1, count), token), torch.zeros(10, 4), torch.zeros(3, 4))
