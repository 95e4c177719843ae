"""The Triton scan: interpreted at tiny sizes, compiled for sm_90 without a GPU, run at real sizes where there is one.

Triton decides at import whether it interprets, so the interpreter runs in a process of its own: this file as a script.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="the extra `test` brings triton")
from rnn_imdb.scan import Case, Unsupported, choose_backend, cudnn, tanh_scan, triton_scan
from rnn_imdb.scan.backends import LARGEST_TRITON_STATE

ROOT = Path(__file__).parents[2]
ALL_UPSTREAMS = ["dense", "last", "zero", "broadcast"]
MASKS = ["pre", "post", "both", "holes", "one", "none", "all"]
CASES = [
    *(f"shape {b} {t} {h}" for b, t, h in itertools.product([1, 3], [1, 2], [1, 7, 16, 31, 64, 100, 128])),
    *(f"shape 1 15 {h}" for h in [1, 16, 31, 64, 100, 128]),
    *(f"shape 3 15 {h}" for h in [7, 32]),
    *(f"mask {kind} 14 31" for kind in MASKS),
    *(f"mask {kind} {t} {h}" for kind in ["both", "holes", "none"] for t, h in [(1, 7), (7, 64), (6, 128)]),
    *(f"upstream {name} {h}" for name in ALL_UPSTREAMS[1:] for h in [7, 64]),
    *(f"saturated {h}" for h in [31, 64]),
    *(f"special {h}" for h in [7, 32]),
    *(f"infinite_start {h}" for h in [7, 32]),
    "tanh",
]


def reference(projected: Tensor, weight: Tensor, initial_state: Tensor, mask: Tensor | None = None) -> Tensor:
    states, h = [], initial_state
    for t in range(projected.shape[1]):
        new = torch.tanh(projected[:, t] + h @ weight.T)
        h = new if mask is None else torch.where(mask[:, t, None], new, h)
        states.append(h)
    return torch.stack(states, 1)


def problem(
    batch: int, time: int, state_dim: int, device: str = "cpu", scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Float64, none of them contiguous; recurrent weights orthogonal, or early steps would receive no gradient."""
    generator = torch.Generator().manual_seed(batch * 10007 + time * 101 + state_dim)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    projected = (normal(time, batch, state_dim) * scale).float().double().transpose(0, 1)
    square = torch.linalg.qr(normal(state_dim, state_dim)).Q
    weight = torch.cat([square, normal(state_dim, 5)], 1).float().double()[:, :state_dim]
    initial_state = normal(state_dim, batch).tanh().float().double().T
    return projected.to(device), weight.to(device), initial_state.to(device)


def upstreams(shape: torch.Size, device: str = "cpu") -> dict[str, Tensor]:
    batch, time, state_dim = shape
    dense = torch.randn(state_dim, time, batch, generator=torch.Generator().manual_seed(5)).permute(2, 1, 0)
    last = torch.zeros(shape)
    last[:, -1] = dense[:, -1]
    # What sum() sends back: one number, all strides zero.
    broadcast = torch.ones(()).expand(shape)
    named = {"dense": dense, "last": last, "zero": torch.zeros(shape), "broadcast": broadcast}
    return {name: upstream.to(device) for name, upstream in named.items()}


def make_mask(kind: str, batch: int, time: int) -> Tensor:
    t = torch.arange(time).expand(batch, time)
    row = torch.arange(batch)[:, None]
    pre, post = t >= (row * 5) % time, t < time - (row * 4) % time
    holes = torch.rand(batch, time, generator=torch.Generator().manual_seed(3)) < 0.6
    one = t == (row * 6 + time // 2) % time
    none = (row != 1).expand(batch, time) & pre
    masks = {"pre": pre, "post": post, "both": pre & post, "holes": holes, "one": one, "none": none, "all": t >= 0}
    # Time-major memory: the kernel must respect strides.
    return masks[kind].t().contiguous().t()


def poisoned(call):
    """With every uninitialised tensor full of NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        return call()
    finally:
        torch.use_deterministic_algorithms(False)


def compare(scan, inputs, mask: Tensor | None = None, names=("dense",), equal_nan: bool = False) -> None:
    """States and every gradient of `scan` in float32 against the loop in float64, relative to the largest magnitude."""
    device = str(inputs[0].device)
    exact = [tensor.detach().requires_grad_() for tensor in inputs]
    given = [tensor.float().requires_grad_() for tensor in inputs]
    truth = reference(*exact, mask=mask)
    states = poisoned(lambda: scan(*given, mask=mask))
    assert states.dtype == torch.float32
    close(states, truth, "states", equal_nan)
    for name in names:
        upstream = upstreams(truth.shape, device)[name]
        expected = torch.autograd.grad(truth, exact, upstream.double(), retain_graph=True)
        found = poisoned(lambda upstream=upstream: torch.autograd.grad(states, given, upstream, retain_graph=True))
        for which, a, b in zip(["projected", "weight", "initial_state"], found, expected, strict=True):
            close(a, b, f"{name}: gradient of {which}", equal_nan)


def close(found: Tensor, expected: Tensor, what: str, equal_nan: bool) -> None:
    scale = max(1.0, expected.detach().nan_to_num(0, 0, 0).abs().max().item())
    torch.testing.assert_close(
        found.double(), expected, rtol=0, atol=4e-6 * scale, equal_nan=equal_nan, msg=lambda text: f"{what}: {text}"
    )


def check(case: str) -> None:
    """One case of CASES, interpreted."""
    kind, *rest = case.split()
    if kind == "shape":
        batch, time, state_dim = map(int, rest)
        compare(triton_scan.scan, problem(batch, time, state_dim))
    elif kind == "mask":
        time, state_dim = map(int, rest[1:])
        compare(triton_scan.scan, problem(3, time, state_dim), make_mask(rest[0], 3, time))
    elif kind == "upstream":
        compare(triton_scan.scan, problem(2, 6, int(rest[1])), make_mask("both", 2, 6), names=rest[:1])
    elif kind == "saturated":
        projected, weight, initial_state = problem(2, 6, int(rest[0]))
        compare(triton_scan.scan, (projected.sign() * 50, weight, initial_state))
    elif kind == "special":
        projected, weight, initial_state = problem(3, 6, int(rest[0]))
        projected[0, 2, 1], projected[0, 3, 2], projected[2, 4, 3] = torch.inf, -torch.inf, torch.nan
        compare(triton_scan.scan, (projected, weight, initial_state), equal_nan=True)
    elif kind == "infinite_start":
        projected, weight, initial_state = problem(1, 4, int(rest[0]))
        initial_state[0, 3] = torch.inf
        states = triton_scan.scan(projected.float(), weight.float(), initial_state.float())
        close(states, reference(projected, weight, initial_state), "states", equal_nan=False)
    elif kind == "tanh":
        projected = torch.cat([torch.linspace(-12, 12, 3840), torch.logspace(-30, 0, 1920)]).view(3, 15, 128)
        truth = torch.tanh(projected.double())
        states = triton_scan.scan(projected, torch.zeros(128, 128), torch.zeros(3, 128))
        assert float(((states - truth).abs() / truth.abs()).max()) < 2.5e-7
    else:
        raise ValueError(f"no such case: {case}")


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES)
def test_interpreted_equals_float64_loop(interpreted, case):
    if "only 0-dimensional arrays" in interpreted[case]:
        pytest.skip("this Triton's interpreter does not work with NumPy 2.4 or later (3.6 does not, 3.9 does)")
    assert not interpreted[case], interpreted[case]


class NoDevice:
    """Enough of a Triton driver to compile for an H200 where there is none."""

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Replaces launches by compilations for sm_90; returns the list they append to."""
    triton = pytest.importorskip("triton")
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    if not (tools / "ptxas").exists():
        pytest.skip(f"this Triton brings no ptxas ({tools})")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = []

    def compile_only(kernel):
        launch = type(kernel).run

        def run(*arguments, grid, warmup, **options):
            kernels.append(launch(kernel, *arguments, grid=grid, warmup=True, **options))

        return run

    for kernel in (triton_scan.forward, triton_scan.backward):
        kernel.device_caches.clear()
        monkeypatch.setattr(kernel, "run", compile_only(kernel))
    monkeypatch.setattr(triton.runtime.driver, "_active", NoDevice())
    yield kernels
    for kernel in (triton_scan.forward, triton_scan.backward):
        kernel.device_caches.clear()


def resources(kernel, tmp_path: Path) -> dict[str, int]:
    import triton

    binary = tmp_path / "kernel.cubin"
    binary.write_bytes(kernel.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    printed = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", printed)}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here: the tests below run the kernels themselves")
@pytest.mark.parametrize("state_dim", [31, 64, 128])
def test_compiles_for_hopper_without_spilling(compiled, tmp_path, state_dim):
    weight, initial_state = torch.zeros(state_dim, state_dim + 3)[:, :state_dim], torch.zeros(2, state_dim)
    projected = torch.zeros(2, 5, state_dim)
    triton_scan.scan(projected.requires_grad_(), weight, initial_state).sum().backward()
    assert [kernel.name for kernel in compiled] == ["forward", "backward"]
    for kernel in compiled:
        used = resources(kernel, tmp_path)
        assert used["REG"] * 32 * kernel.metadata.num_warps <= 65536
        # A few registers outside the loops may spill; W in memory would take kilobytes.
        assert used["STACK"] <= 64, (kernel.name, used)
        # One shuffle a step joins a sum that two warps share; a layout with j across lanes would need hundreds.
        assert kernel.asm["ptx"].count("shfl.sync") <= 16, kernel.name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here: the tests below run the kernels themselves")
def test_no_length_batch_or_stride_compiles_anew(compiled):
    weight = torch.zeros(32, 64)
    for batch, time, columns in [(1, 1, 0), (3, 63, 1), (32, 500, 32)]:
        projected = torch.zeros(time, batch, 33)[:, :, 1:].transpose(0, 1).requires_grad_()
        triton_scan.scan(projected, weight[:, columns : columns + 32], torch.zeros(batch, 32)).sum().backward()
    assert len(compiled) == 6
    assert len({id(kernel) for kernel in compiled}) == 2


def test_more_states_than_registers_hold_are_refused():
    assert max(triton_scan.FORWARD_WARPS) == LARGEST_TRITON_STATE
    with pytest.raises(Unsupported, match=r"state_dim of at most 128, got 129: choose auto"):
        choose_backend("triton", Case(torch.device("cuda"), torch.float32, 129))


@pytest.mark.parametrize(("batch", "time", "state_dim"), [(1, 1, 1), (3, 2, 7), (3, 15, 31), (1, 15, 130)])
def test_cudnn_equals_float64_loop(batch, time, state_dim):
    before = torch.backends.cudnn.allow_tf32
    compare(cudnn.scan, problem(batch, time, state_dim), names=ALL_UPSTREAMS)
    assert torch.backends.cudnn.allow_tf32 == before


def test_cudnn_saturates_at_infinity():
    projected, weight, initial_state = problem(2, 3, 5)
    projected[0, 1, 2], projected[1, 0, 0] = torch.inf, -torch.inf
    compare(cudnn.scan, (projected, weight, initial_state))


def test_cudnn_turns_tf32_off_forward_and_backward(monkeypatch):
    before, seen = torch.backends.cudnn.allow_tf32, []
    genuine = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *a, **k: seen.append(cudnn.rnn_precision.fp32_precision) or genuine(*a, **k)
    )
    projected = torch.zeros(1, 2, 3, requires_grad=True)
    cudnn.scan(projected, torch.zeros(3, 3), torch.zeros(1, 3)).sum().backward()
    assert seen == ["ieee"]
    assert torch.backends.cudnn.allow_tf32 == before


def test_cudnn_works_in_inference_mode():
    with torch.inference_mode():
        states = cudnn.scan(torch.ones(1, 2, 3), torch.zeros(3, 3), torch.zeros(1, 3))
    assert states.shape == (1, 2, 3)


def test_cudnn_refuses_a_mask():
    mask = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(Unsupported, match=r"takes no mask.*got one: choose auto, or bptt"):
        tanh_scan(torch.zeros(1, 2, 3), torch.zeros(3, 3), torch.zeros(1, 3), mask, "cudnn")


on_a_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device: the interpreter covers the kernels"
)


def peer(projected: Tensor, weight: Tensor, initial_state: Tensor) -> Tensor:
    """torch.nn.RNN's own arithmetic without TF32."""
    return cudnn.scan(projected, weight, initial_state)


def errors(scan, inputs: tuple[Tensor, ...]) -> list[float]:
    """Largest error of the states, then of each gradient under a dense upstream gradient, against float64."""
    exact = [tensor.detach().requires_grad_() for tensor in inputs]
    given = [tensor.float().requires_grad_() for tensor in inputs]
    truth, states = reference(*exact), scan(*given)
    upstream = upstreams(truth.shape, "cuda")["dense"]
    expected = torch.autograd.grad(truth, exact, upstream.double())
    found = torch.autograd.grad(states, given, upstream)
    # Relative to the largest magnitude, where that is above 1.
    pairs = zip([states, *found], [truth, *expected], strict=True)
    return [((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in pairs]


@on_a_gpu
@pytest.mark.parametrize("state_dim", [1, 16, 31, 32, 64, 100, 128])
@pytest.mark.parametrize("time", [1, 2, 63, 500])
@pytest.mark.parametrize("batch", [1, 3, 32])
def test_gpu_is_as_exact_as_cudnn(batch, time, state_dim):
    # Contracting weights: with orthogonal ones the path, not the kernel, decides how far a rounding error grows in
    # 500 steps.
    projected, weight, initial_state = problem(batch, time, state_dim, "cuda")
    inputs = (projected, weight * 0.7, initial_state)
    names = ["states", "projected", "weight", "initial_state"]
    for name, ours, theirs in zip(names, errors(triton_scan.scan, inputs), errors(peer, inputs), strict=True):
        # Either may be right to the last bit by luck: one unit in the last place of 1 is always allowed.
        assert ours <= max(2 * theirs, 1.2e-7), (name, ours, theirs)


@on_a_gpu
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("state_dim", [31, 32, 64, 128])
def test_gpu_with_a_mask(kind, state_dim):
    compare(
        triton_scan.scan,
        problem(5, 63, state_dim, "cuda", scale=3.0),
        make_mask(kind, 5, 63).cuda(),
        names=ALL_UPSTREAMS,
    )


@on_a_gpu
@pytest.mark.parametrize("state_dim", [7, 32, 64, 128])
def test_gpu_with_infinities_and_nan(state_dim):
    projected, weight, initial_state = problem(3, 6, state_dim, "cuda")
    projected[0, 2, 1], projected[0, 3, 2], projected[2, 4, 3] = torch.inf, -torch.inf, torch.nan
    compare(triton_scan.scan, (projected, weight, initial_state), equal_nan=True)


@on_a_gpu
@pytest.mark.parametrize("state_dim", [32, 64, 128])
def test_gpu_repeats_bitwise_whatever_tf32_says(state_dim):
    given = [tensor.float().requires_grad_() for tensor in problem(32, 500, state_dim, "cuda")]
    upstream = upstreams(given[0].shape, "cuda")["dense"]
    results = []
    for precision in ["highest", "high", "highest"]:
        torch.set_float32_matmul_precision(precision)
        states = triton_scan.scan(*given)
        results.append([states, *torch.autograd.grad(states, given, upstream)])
    for again in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], again, strict=True))


def peak(call, device_inputs: list[Tensor], upstream: Tensor) -> int:
    used = 0
    # The second round counts: the first may allocate what stays.
    for _ in range(2):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        states = call(*device_inputs)
        gradients = torch.autograd.grad(states, device_inputs, upstream)
        used = torch.cuda.max_memory_allocated() - before
        del states, gradients
    return used


@on_a_gpu
@pytest.mark.parametrize("state_dim", [32, 64, 128])
def test_gpu_takes_no_more_memory_than_nn_rnn(state_dim):
    given = [tensor.float().requires_grad_() for tensor in problem(32, 500, state_dim, "cuda")]
    upstream = upstreams(given[0].shape, "cuda")["dense"].contiguous()
    rnn = torch.nn.RNN(state_dim, state_dim, batch_first=True).cuda()
    theirs = peak(lambda projected, *_: rnn(projected)[0], given[:1], upstream)
    assert peak(triton_scan.scan, given, upstream) <= theirs


if __name__ == "__main__":
    outcome = {}
    for each in CASES:
        try:
            check(each)
            outcome[each] = ""
        except Exception:  # noqa: BLE001 reported by the test that asked for this case
            outcome[each] = traceback.format_exc()
    print(json.dumps(outcome))
