"""The recurrence over words and over vectors against embedding, linear and scan, in values and gradients."""

import itertools
from typing import Any

import pytest
import torch
from conftest import with_threads
from torch import Tensor
from torch.nn import functional as F

from rnn_imdb.scan import Unsupported, native, scan_inputs, tanh_scan

PAD_INDEX = 0
NAMES = ("embedding", "A", "b")
SHAPES = [(1, 1, 3, 1, 1), (3, 7, 20, 5, 31), (32, 63, 300, 32, 32), (5, 500, 90, 48, 64), (9, 20, 5000, 16, 100)]
PADDINGS = ("none", "pre", "post", "holes", "nothing else", "one row without")
BACKENDS = [
    pytest.param("cpu", marks=pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))),
    "bptt",
]


def make_tokens(kind: str, batch: int, time: int, vocabulary: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch + time)
    tokens = torch.randint(1, vocabulary, (batch, time), generator=generator)
    steps, lengths = torch.arange(time), torch.randint(0, time + 1, (batch, 1), generator=generator)
    padding = {
        "none": torch.zeros(batch, time, dtype=torch.bool),
        "pre": steps < time - lengths,
        "post": steps >= lengths,
        "holes": (steps < time - lengths) | (steps % 3 == 1),
        "nothing else": torch.ones(batch, time, dtype=torch.bool),
        "one row without": (steps < time // 2) & (torch.arange(batch)[:, None] > 0),
    }[kind]
    return tokens.masked_fill(padding, PAD_INDEX)


def make_parameters(vocabulary: int, embedding: int, state: int) -> list[Tensor]:
    """Embedding, A and b, in float64; without much growth in time, of which a rounding error would have its share."""
    generator = torch.Generator().manual_seed(vocabulary)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    recurrent = torch.linalg.qr(normal(state, state))[0]
    return [normal(vocabulary, embedding), torch.cat([recurrent, normal(state, embedding)], dim=1), normal(state)]


def scan_tokens(
    tokens: Tensor, embedding: Tensor, A: Tensor, b: Tensor | None = None, mask: Tensor | None = None, **options: Any
) -> Tensor:
    return scan_inputs(tokens, A, b, None, mask, embedding=embedding, **options)


def run(
    backend: str,
    tokens: Tensor,
    parameters: list[Tensor],
    mask: Tensor | None = None,
    *,
    only_last: bool = False,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """States and gradients; of ``plain``, by torch's embedding and linear and the loop, in float64."""
    dtype = torch.float64 if backend == "plain" else dtype
    leaves = [tensor.to(dtype).requires_grad_() for tensor in parameters]
    embedding, A, b = leaves
    H = len(A)
    if backend == "plain":
        projected = F.linear(F.embedding(tokens, embedding), A[:, H:], b)
        states = tanh_scan(projected, A[:, :H], torch.zeros(len(tokens), H, dtype=dtype), mask, "reference")
        states = states[:, -1:] if only_last else states
    else:
        states = scan_tokens(tokens, embedding, A, b, mask, backend=backend, only_last=only_last)
    upstream = torch.randn(states.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad(states, leaves, upstream.to(dtype))
    return {"states": states.detach(), **dict(zip(NAMES, gradients, strict=True))}


@pytest.mark.parametrize("only_last", [False, True], ids=["all states", "last state"])
@pytest.mark.parametrize("masked", [False, True], ids=["not masked", "masked"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_embedding_then_linear_then_scan(
    backend: str, shape: tuple[int, int, int, int, int], padding: str, masked: bool, only_last: bool
) -> None:
    batch, time, vocabulary, embedding, state = shape
    tokens, parameters = make_tokens(padding, batch, time, vocabulary), make_parameters(vocabulary, embedding, state)
    mask = tokens != PAD_INDEX if masked else None
    expected = run("plain", tokens, parameters, mask, only_last=only_last)
    for name, value in run(backend, tokens, parameters, mask, only_last=only_last).items():
        error = (value - expected[name]).norm() / max(expected[name].norm().item(), 1.0)
        assert error <= 5e-6, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_keeps_the_dtype_and_repeats_its_bits(shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> None:
    batch, time, vocabulary, embedding, state = shape
    tokens, parameters = make_tokens("pre", batch, time, vocabulary), make_parameters(vocabulary, embedding, state)
    expected = run("plain", tokens, parameters)
    first, second = (run("auto", tokens, parameters, dtype=dtype) for _ in "ab")
    for name, value in first.items():
        assert value.dtype == dtype
        assert (value - expected[name]).norm() <= 5e-6 * max(expected[name].norm().item(), 1.0), name
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("padding", ["none", "pre", "holes"])
def test_every_instruction_set_and_number_of_threads_gives_the_states_of_the_scan(kernel: str, padding: str) -> None:
    batch, time, vocabulary, embedding, state = 21, 40, 50, 16, 48
    tokens, parameters = make_tokens(padding, batch, time, vocabulary), make_parameters(vocabulary, embedding, state)
    results = [with_threads(n, lambda: run("cpu", tokens, parameters)) for n in (1, 2, 2, 5)]
    table = [tensor.float() for tensor in parameters]
    projected = F.embedding(tokens, F.linear(table[0], table[1][:, state:], table[2]))
    # the small product of the words may differ in its last bits from torch's
    scanned = tanh_scan(projected, table[1][:, :state], torch.zeros(batch, state), backend="cpu")
    torch.testing.assert_close(results[0]["states"], scanned, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(results[0]["states"], other["states"]) for other in results[1:])
    # gradients of the words are sums of δ, in the order of the batch; parts of A's are added thread by thread
    assert all(torch.equal(results[0]["embedding"], other["embedding"]) for other in results[1:])
    assert all(torch.equal(results[1][name], results[2][name]) for name in NAMES)
    for row in (0, 7, 20):
        assert torch.equal(run("cpu", tokens[row : row + 1], parameters)["states"][0], results[0]["states"][row])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_words_that_are_not_finite_reach_what_they_reach_in_the_plain_path(value: float) -> None:
    tokens, parameters = make_tokens("pre", 8, 12, 20), make_parameters(20, 4, 16)
    tokens[:, -4] = torch.arange(8) % 4 + 2
    parameters[0][5] = value
    expected, actual = (run(backend, tokens, parameters) for backend in ("plain", "auto"))
    for name, value in expected.items():
        assert torch.equal(value.isnan(), actual[name].isnan()), name


@pytest.mark.parametrize("backend", BACKENDS[:1])
def test_padding_that_no_row_begins_with_is_not_read(backend: str) -> None:
    tokens, parameters = make_tokens("none", 3, 7, 20), make_parameters(20, 5, 16)
    parameters[0][PAD_INDEX] = torch.nan
    assert all(value.isfinite().all() for value in run(backend, tokens, parameters).values())


@pytest.mark.parametrize("backend", BACKENDS[:1])
@pytest.mark.parametrize("size", [16, 20])
def test_an_embedding_of_any_size_is_read_where_it_lies(
    backend: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, read = native.call, []
    monkeypatch.setattr(native, "call", lambda name, sizes, x, *rest: read.append(x) or genuine(name, sizes, x, *rest))
    embedding, A, b = (tensor.float() for tensor in make_parameters(20, size, 16))
    scan_tokens(make_tokens("pre", 6, 9, 20), embedding, A, b, backend=backend)
    assert [x.data_ptr() for x in read] == [embedding.data_ptr()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_nobody_asked_for_are_left_out(backend: str) -> None:
    tokens, parameters = make_tokens("pre", 6, 9, 20), make_parameters(20, 5, 31)
    embedding, A, b = (tensor.float() for tensor in parameters)
    everything = run(backend, tokens, parameters)
    for name, wanted in (("A", A), ("b", b), ("embedding", embedding)):
        leaf = wanted.clone().requires_grad_()
        states = scan_tokens(
            tokens, *(leaf if tensor is wanted else tensor for tensor in (embedding, A, b)), backend=backend
        )
        states.backward(
            torch.randn(states.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).float()
        )
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, everything[name]), name
    without_bias = scan_tokens(tokens, embedding, A, backend=backend)
    with_zeros = scan_tokens(tokens, embedding, A, torch.zeros(31), backend=backend)
    assert torch.equal(without_bias, with_zeros)
    with torch.no_grad():
        assert scan_tokens(tokens, embedding, A.requires_grad_(), b, backend=backend).grad_fn is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_short_integers_are_words_too(backend: str) -> None:
    tokens, parameters = make_tokens("pre", 6, 9, 20), make_parameters(20, 5, 16)
    expected = run(backend, tokens, parameters)
    for name, value in run(backend, tokens.int(), parameters).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_words_may_begin_from_any_state(backend: str) -> None:
    tokens, (embedding, A, b) = make_tokens("pre", 6, 9, 20), make_parameters(20, 5, 16)
    initial = torch.randn(6, 16)
    given = A.float(), b.float(), initial, None, backend
    states = scan_inputs(tokens, *given, embedding=embedding.float())
    assert torch.equal(states, scan_inputs(embedding.float()[tokens], *given))
    # rows of padding alone are in different states
    assert not torch.equal(states[0], states[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_word_outside_the_vocabulary_is_refused(backend: str) -> None:
    for token, count in itertools.product((-1, 10), (1, 50)):
        with pytest.raises(IndexError, match=r"out of range"):
            scan_tokens(torch.full((1, count), token), torch.zeros(10, 4), torch.zeros(3, 7), backend=backend)


def test_arguments_that_do_not_fit_are_refused_before_they_are_read() -> None:
    A = (torch.zeros(3, 8), torch.zeros(4, 7), torch.zeros(3, 7, device="meta"), torch.zeros(3, 7).half())
    bias, mask = (torch.zeros(1, 3), torch.zeros(4)), (torch.ones(2, 5), torch.ones(2, 4, dtype=torch.bool))
    fitting = {"A": torch.zeros(3, 7), "bias": torch.zeros(3), "mask": torch.ones(2, 5, dtype=torch.bool)}
    words = fitting | {"inputs": torch.zeros(2, 5, dtype=torch.int64), "embedding": torch.zeros(10, 4)}
    vectors = fitting | {"inputs": torch.zeros(2, 5, 4), "initial_state": torch.zeros(2, 3)}
    wrong_words = {
        "inputs": (torch.zeros(2, 5), torch.zeros(10, dtype=torch.int64), torch.zeros(0, 5, dtype=torch.int64)),
        "embedding": (torch.zeros(10), torch.zeros(10, 4, dtype=torch.float64), torch.zeros(0, 4)),
    }
    wrong_vectors = {
        "inputs": (torch.zeros(2, 5), torch.zeros(2, 0, 4), torch.zeros(2, 5, 4, dtype=torch.float64)),
        "initial_state": (torch.zeros(3), torch.zeros(3, 3), torch.zeros(2, 3, dtype=torch.float64)),
    }
    for right, wrong in ((words, wrong_words), (vectors, wrong_vectors)):
        assert scan_inputs(**right).shape == (2, 5, 3)
        for name, values in (wrong | {"A": A, "bias": bias, "mask": mask}).items():
            for value in values:
                with pytest.raises(ValueError, match=r"must .* got"):
                    scan_inputs(**right | {name: value})


def test_backend_that_does_not_serve_is_refused() -> None:
    parameters = [tensor.requires_grad_() for tensor in make_parameters(20, 4, 16)]
    embedding, A, b = parameters
    with pytest.raises(Unsupported, match=r"cpu runs in torch.float32 on a cpu device, got torch.float64 on cpu"):
        scan_tokens(make_tokens("pre", 2, 3, 20), embedding, A, b, backend="cpu")
    with pytest.raises(Unsupported, match=r"triton runs in torch.float32 on a cuda device, got torch.float64 on cpu"):
        tanh_scan(torch.zeros(1, 2, 16, dtype=torch.float64), A[:, :16], torch.zeros(1, 16).double(), backend="triton")


def run_vectors(
    backend: str, inputs: Tensor, parameters: list[Tensor], mask: Tensor | None = None, *, only_last: bool = False
) -> dict[str, Tensor]:
    """States and gradients of `inputs`, h_0, A and b; of ``plain``, by torch's linear and the loop, in float64."""
    dtype = torch.float64 if backend == "plain" else torch.float32
    inputs, initial_state, A, b = leaves = [tensor.to(dtype).requires_grad_() for tensor in (inputs, *parameters)]
    H = len(A)
    if backend == "plain":
        states = tanh_scan(F.linear(inputs, A[:, H:], b), A[:, :H], initial_state, mask, "reference")
        states = states[:, -1:] if only_last else states
    else:
        states = scan_inputs(inputs, A, b, initial_state, mask, backend, only_last=only_last)
    upstream = torch.randn(states.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad(states, leaves, upstream.to(dtype))
    return {"states": states.detach(), **dict(zip(("inputs", "h_0", "A", "b"), gradients, strict=True))}


def make_vectors(batch: int, time: int, embedding: int, state: int) -> tuple[Tensor, list[Tensor]]:
    """x, and h_0, A and b, in float64."""
    table, A, b = make_parameters(batch * time, embedding, state)
    return table.view(batch, time, embedding), [torch.randn(batch, state, dtype=torch.float64).tanh(), A, b]


@pytest.mark.parametrize("only_last", [False, True], ids=["all states", "last state"])
@pytest.mark.parametrize("padding", ["none", "pre", "post", "holes", "nothing else"])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 1), (3, 2, 5, 31), (32, 63, 32, 32), (3, 500, 48, 64), (2, 9, 16, 100), (9, 20, 256, 256)],
    ids=str,
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_vectors_equal_linear_then_scan(
    backend: str, shape: tuple[int, int, int, int], padding: str, only_last: bool
) -> None:
    batch, time, *_ = shape
    inputs, parameters = make_vectors(*shape)
    mask = None if padding == "none" else make_tokens(padding, batch, time, 9) != PAD_INDEX
    expected = run_vectors("plain", inputs, parameters, mask, only_last=only_last)
    for name, value in run_vectors(backend, inputs, parameters, mask, only_last=only_last).items():
        error = (value - expected[name]).norm() / max(expected[name].norm().item(), 1.0)
        assert error <= 5e-6, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("sizes", [(16, 48), (32, 32)], ids=str)
def test_bits_of_vectors_depend_neither_on_threads_nor_on_the_batch(kernel: str, sizes: tuple[int, int]) -> None:
    inputs, parameters = make_vectors(21, 40, *sizes)
    results = [with_threads(n, lambda: run_vectors("cpu", inputs, parameters)) for n in (1, 2, 2, 5)]
    for name in ("states", "inputs", "h_0"):
        assert all(torch.equal(results[0][name], other[name]) for other in results[1:]), name
    # parts of A's gradient are added thread by thread
    assert all(torch.equal(results[1][name], results[2][name]) for name in results[0])
    for row in (0, 7, 20):
        h_0, A, b = parameters
        alone = run_vectors("cpu", inputs[row : row + 1], [h_0[row : row + 1], A, b])
        assert torch.equal(alone["states"][0], results[0]["states"][row])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_vectors_that_are_not_finite_reach_what_they_reach_in_the_plain_path(value: float) -> None:
    inputs, parameters = make_vectors(8, 12, 16, 16)
    inputs[torch.arange(8), torch.arange(8), 5] = value
    expected, actual = (run_vectors(backend, inputs, parameters) for backend in ("plain", "auto"))
    for name, value in expected.items():
        assert torch.equal(value.isnan(), actual[name].isnan()), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("state", [16, 24])
def test_neither_arguments_nor_the_upstream_gradient_are_written_to(backend: str, state: int) -> None:
    inputs, parameters = make_vectors(4, 9, state, state)
    arguments = [tensor.float().requires_grad_() for tensor in (inputs, parameters[1], parameters[2], parameters[0])]
    before = [tensor.detach().clone() for tensor in arguments]
    states = scan_inputs(*arguments, backend=backend)
    upstream = torch.randn(states.shape)
    expected, kept = states.detach().clone(), upstream.clone()
    first = torch.autograd.grad(states, arguments, upstream, retain_graph=True)
    copies = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(states, arguments, upstream)
    assert all(torch.equal(a, b) for a, b in zip(copies, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, copies, strict=True))
    assert torch.equal(states, expected)
    assert torch.equal(upstream, kept)
    assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))
