"""RMSprop in one pass, against torch's."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from conftest import with_threads
from torch import Tensor

from rnn_imdb.scan import native
from rnn_imdb.training.optimizers import RMSprop

# torch's, with the defaults of ours
Torch = partial(torch.optim.RMSprop, lr=0.001, alpha=0.9, eps=1e-7)
SHAPES = (1,), (7, 5), (10_000, 32), (31, 333)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"lr": 0.1, "alpha": 0.99, "eps": 1e-8},
    {"alpha": 0.0, "eps": 1e-3, "weight_decay": 0.1},
    {"lr": torch.tensor(0.01)},
)
# what is left to torch
OTHERS: tuple[dict[str, Any], ...] = (
    {"momentum": 0.9},
    {"centered": True},
    {"maximize": True},
)


def _weights(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in SHAPES]


def _train(kind: Callable[..., torch.optim.Optimizer], weights: list[Tensor], *, steps: int = 5, **options: Any) -> Any:
    """Steps over gradients of all sizes, half of them zero; the first weight gets none every other time."""
    optimizer = kind(weights, **options)
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        for weight in weights:
            sizes = 10 ** (8 * torch.rand(weight.shape, generator=generator) - 8)
            gradient = torch.randn(weight.shape, generator=generator) * sizes
            weight.grad = torch.where(torch.rand(weight.shape, generator=generator) < 0.5, gradient, 0).to(weight.dtype)
        if step % 2:
            weights[0].grad = None
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("options", [*OPTIONS, *OTHERS], ids=str)
def test_equals_torch(options: dict[str, Any]) -> None:
    ours, theirs, exact = _weights(), _weights(), _weights(torch.float64)
    state = _train(RMSprop, ours, **options).state_dict()
    expected = _train(Torch, theirs, **options).state_dict()
    _train(Torch, exact, **options)
    assert state["param_groups"] == expected["param_groups"]
    for mine, its, truth in zip(ours, theirs, exact, strict=True):
        error, its_error = ((weight - truth).abs().max() for weight in (mine, its))
        assert error <= 2 * its_error
    for mine, its in zip(state["state"].values(), expected["state"].values(), strict=True):
        assert list(mine) == list(its)
        for name, value in mine.items():
            torch.testing.assert_close(value, its[name], rtol=1e-6, atol=1e-30)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_instruction_set_has_the_same_bits_with_any_number_of_threads(options: dict[str, Any]) -> None:
    alone, together = _weights(), _weights()
    with_threads(1, lambda: _train(RMSprop, alone, **options))
    with_threads(2, lambda: _train(RMSprop, together, **options))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, torch.zeros_like(one))


@pytest.mark.parametrize("first", [RMSprop, Torch], ids=["ours", "torch"])
def test_a_state_of_either_serves_the_other(first: Callable[..., torch.optim.Optimizer]) -> None:
    second = RMSprop if first is Torch else Torch
    weights, expected = _weights(), _weights()
    saved = _train(first, weights).state_dict()
    _train(RMSprop, expected)
    results = []
    for kind, start in ((second, weights), (RMSprop, expected)):
        optimizer = kind(start)
        optimizer.load_state_dict(copy.deepcopy(saved))
        for weight in start:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        results.append(optimizer.state_dict()["state"])
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(weights, expected)


def test_infinities_and_nan_are_those_of_torch() -> None:
    values = torch.tensor([0.0, 1.0, -1.0, torch.inf, -torch.inf, torch.nan])
    start, gradient = (grid.flatten() for grid in torch.meshgrid(values, values, indexing="ij"))
    for decay in (0.0, 0.1):
        results = []
        for kind in (RMSprop, Torch):
            weight = start.clone().requires_grad_()
            weight.grad = gradient.clone()
            kind([weight], weight_decay=decay).step()
            results.append(weight.detach())
        torch.testing.assert_close(*results, equal_nan=True)


@pytest.mark.parametrize("case", ["float64", "strided weight", "strided gradient", "no kernel"])
def test_other_tensors_are_left_to_torch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "call", lambda *arguments: pytest.fail(f"the kernel was called: {arguments}"))
    if case == "no kernel":
        monkeypatch.setattr(native, "available", lambda: False)
    results = []
    for kind in (RMSprop, Torch):
        start = torch.arange(12.0, dtype=torch.float64 if case == "float64" else torch.float32).view(3, 4)
        weight = (start.t() if case == "strided weight" else start).clone().requires_grad_()
        weight.grad = torch.ones_like(weight)
        if case == "strided gradient":
            weight.grad = torch.ones(4, 3).t()
        kind([weight]).step()
        results.append(weight.detach())
    assert torch.equal(*results)
    assert (results[0] != (start.t() if case == "strided weight" else start)).all()


@pytest.mark.usefixtures("kernel")
def test_a_closure_is_called_once_with_gradients_on() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    optimizer = RMSprop([weight])
    calls = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        loss = (weight**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure) == 4
    assert calls == [True]
    assert weight < 2


@pytest.mark.usefixtures("kernel")
def test_a_backward_pass_through_weights_that_changed_since_is_refused() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    loss = (weight**2).sum()
    weight.grad = torch.ones(1)
    RMSprop([weight]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
