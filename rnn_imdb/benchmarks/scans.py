"""Projection and scan over a batch of sequences, forward and backward, against ``torch.nn.RNN``."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import product

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from rnn_imdb.benchmarks.table import Row
from rnn_imdb.common.errors import UserError
from rnn_imdb.model.cell import TanhCell
from rnn_imdb.scan import Case, choose_backend, cudnn, native

PEER = "torch.nn.RNN"
# relative error in norm against float64 above which a backend is wrong, not fast
TOLERANCE = 1e-4


def measure(config: DictConfig) -> list[Row]:
    """Medians of each shape and backend, ``config.seconds`` for each shape.

    E = H; inputs, weights and bias receive gradients; the upstream gradient is dense.

    Raises:
        UserError: a backend's error against float64 is not that of float32 arithmetic.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    native.keep_freed_memory()  # as a training does
    for state in config.state_dims:
        for backend in _backends(device, state):
            # few steps, or the path, not the kernel, decides how far a rounding error grows
            error = _Contest(3, 32, state, device).error(backend)
            if error > TOLERANCE:
                raise UserError(f"{backend} must agree with float64, but at H={state} its error is {error:.1e}")
    rows: list[Row] = []
    shapes = list(product(config.batch_sizes, config.state_dims))
    for batch, state in tqdm(shapes, desc="measuring", unit="shape", leave=False, disable=None):
        rows += _measure_shape(_Contest(batch, config.time, state, device), config.seconds)
    return rows


def _backends(device: torch.device, state_dim: int) -> list[str]:
    """The peer first, then what can run on ``device`` in reasonable time."""
    chosen = choose_backend("auto", Case(device, torch.float32, state_dim))
    if device.type == "cuda" and torch.version.hip is None:
        return [PEER, f"{PEER} TF32", *dict.fromkeys((chosen, "cudnn"))]
    return [PEER, *dict.fromkeys(("bptt", chosen))]


class _Contest:
    """One shape: the same weights in a cell of ours, in the peer, and in float64."""

    def __init__(self, batch: int, length: int, state: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.shape = (batch, length, state)
        self.device = device
        self.cell = TanhCell(state, state).to(device)
        self.peer = nn.RNN(state, state, batch_first=True).to(device)
        zeros = torch.zeros(state)
        names = ("weight_hh_l0", "weight_ih_l0", "bias_ih_l0", "bias_hh_l0")
        values = (self.cell.recurrent_weight, self.cell.input_weight, zeros, zeros)
        self.peer.load_state_dict(dict(zip(names, values, strict=True)))
        self.inputs = torch.randn(batch, length, state, device=device, requires_grad=True)
        self.upstream = torch.randn(batch, length, state, device=device)

    def forward(self, backend: str) -> Tensor:
        if backend.startswith(PEER):
            return self.peer(self.inputs)[0]
        self.cell.scan = backend
        return self.cell(self.inputs)

    def backward(self, backend: str) -> list[Tensor]:
        """Gradients of inputs, A and b."""
        states = self.forward(backend)
        if not backend.startswith(PEER):
            return list(torch.autograd.grad(states, [self.inputs, *self.cell.parameters()], self.upstream))
        # input and recurrent weights, and of the two biases that nn.RNN adds, one
        parameters = list(self.peer.parameters())[:3]
        d_inputs, d_input, d_recurrent, d_bias = torch.autograd.grad(states, [self.inputs, *parameters], self.upstream)
        return [d_inputs, torch.cat([d_recurrent, d_input], dim=1), d_bias]

    def error(self, backend: str) -> float:
        """Relative error of states and gradients in norm, the largest of them, against float64."""
        cell = TanhCell(self.shape[2], self.shape[2], scan="bptt").double().to(self.device)
        cell.load_state_dict(self.cell.state_dict())
        inputs = self.inputs.detach().double().requires_grad_()
        states = cell(inputs)
        truth = [states, *torch.autograd.grad(states, [inputs, *cell.parameters()], self.upstream.double())]
        with _precision(backend):
            actual = [self.forward(backend), *self.backward(backend)]
        return max(((a - t).norm() / t.norm()).item() for a, t in zip(actual, truth, strict=True))


def _precision(backend: str) -> AbstractContextManager[None]:
    """TF32 in cuDNN's recurrence only where the row says so."""
    return cudnn.precision("tf32" if backend.endswith("TF32") else "ieee")


def _measure_shape(contest: _Contest, seconds: float) -> list[Row]:
    (batch, length, state), device = contest.shape, contest.device
    backends = _backends(device, state)
    medians = {}
    for name, function in (("forward", contest.forward), ("both", contest.backward)):
        with torch.set_grad_enabled(name == "both"):
            medians[name] = _medians(function, backends, seconds / 2, device)
    chosen = choose_backend("auto", Case(device, torch.float32, state))
    return [
        {
            "B": batch,
            "T": length,
            "H": state,
            "backend": f"{backend} *" if backend == chosen else backend,
            "forward ms": medians["forward"][backend],
            "both ms": medians["both"][backend],
            "forward x": medians["forward"][PEER] / medians["forward"][backend],
            "both x": medians["both"][PEER] / medians["both"][backend],
            "error": _Contest(batch, 32, state, device).error(backend),
        }
        for backend in backends
    ]


def _medians(
    function: Callable[[str], object], backends: Sequence[str], seconds: float, device: torch.device
) -> dict[str, float]:
    """Milliseconds a call; the backends take turns, so that a disturbance hits all alike."""
    times: dict[str, list[float]] = {backend: [] for backend in backends}
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    end = time.perf_counter() + seconds * len(backends)
    rounds = 0
    while rounds < 4 or time.perf_counter() < end:
        rounds += 1
        for backend in backends:
            with _precision(backend):
                # one call to warm the caches up, then a few that count
                function(backend)
                for _ in range(3):
                    synchronize()
                    started = time.perf_counter()
                    function(backend)
                    synchronize()
                    times[backend].append(1e3 * (time.perf_counter() - started))
    return {backend: statistics.median(values) for backend, values in times.items()}
