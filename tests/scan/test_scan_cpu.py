"""The C kernel: every instruction set, its bits, its tanh, and the process it leaves as it was."""

import platform
import subprocess
import sys

import pytest
import torch
from conftest import runnable, with_threads
from test_scan import MASKS, assert_close, make_case, run, truth
from torch import Tensor

from rnn_imdb.benchmarks import scans
from rnn_imdb.scan import Case, Unsupported, choose_backend, fused, native, project_inputs

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 63, 31), (32, 63, 32), (9, 20, 272)], ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_every_instruction_set_equals_the_reference(kernel: str, mask: str, shape: tuple[int, int, int]) -> None:
    assert_close(run("cpu", make_case(*shape, mask=mask), torch.float32), truth_dense(*shape, mask), 5e-6)


def truth_dense(batch: int, time: int, state: int, mask: str) -> dict[str, Tensor]:
    names = ("states", "d projected, dense", "d weight, dense", "d initial state, dense")
    return {name: truth(batch, time, state, mask)[name] for name in names}


@pytest.mark.parametrize("mask", ["none", "pre", "holes"])
@pytest.mark.parametrize("state", [16, 48, 128])
def test_bits_depend_neither_on_threads_nor_on_the_batch(kernel: str, state: int, mask: str) -> None:
    case = make_case(21, 40, state, mask=mask)
    results = [with_threads(threads, lambda: run("cpu", case, torch.float32)) for threads in (1, 2, 2, 5)]
    for name in results[0]:
        assert all(torch.equal(results[0][name], other[name]) for other in results[1:]), name
    for row in (0, 7, 20):
        only = slice(row, row + 1)
        single = case._replace(
            projected=case.projected[only],
            initial_state=case.initial_state[only],
            mask=None if case.mask is None else case.mask[only],
        )
        assert torch.equal(run("cpu", single, torch.float32)["states"], results[0]["states"][only])


def test_nothing_masked_is_read(kernel: str) -> None:
    case = make_case(5, 9, 16, mask="holes")
    expected = run("cpu", case, torch.float32)
    assert case.mask is not None
    case.projected[~case.mask] = torch.nan
    for name, value in run("cpu", case, torch.float32).items():
        assert torch.equal(value, expected[name]), name


def test_tanh_is_accurate_everywhere(kernel: str) -> None:
    def scan_of(values: Tensor) -> Tensor:
        return fused.scan(values.view(-1, 1, 16), torch.zeros(16, 16), torch.zeros(len(values) // 16, 16)).flatten()

    wide = torch.linspace(-12, 12, 1_600_000)
    assert (scan_of(wide).double() - wide.double().tanh()).abs().max() < 2e-6
    assert scan_of(wide).abs().max() <= 1
    small = torch.logspace(-30, 0, 160_000)
    assert (scan_of(small).double() / small.double().tanh() - 1).abs().max() < 2e-6


def denormals_survive() -> bool:
    return bool((torch.full((64,), 1e-40) * 0.5 != 0).all()) and 1e-310 * 0.5 != 0


def test_denormals_are_flushed_inside_and_the_callers_mode_stays(kernel: str) -> None:
    case = make_case(6, 10, 32)
    before = torch.full((1, 1), 1e-40).mul(0.5).item() != 0
    try:
        for flush in (False, True):
            torch.set_flush_denormal(flush)
            run("cpu", case, torch.float32)
            project_inputs(case.projected.float(), case.weight.float())
            assert denormals_survive() is not flush
        torch.set_flush_denormal(False)
        tiny = torch.full((1, 3, 16), 1e-40)
        assert not fused.scan(tiny, torch.zeros(16, 16), torch.zeros(1, 16)).any()
    finally:
        torch.set_flush_denormal(not before)


def test_loading_the_kernels_leaves_the_process_alone() -> None:
    code = (
        "from rnn_imdb.scan import native; "
        f"[native.load(name) for name in {runnable()}]; "
        "assert 1e-310 * 0.5 != 0, 'denormals are flushed'; assert float('nan') != float('nan')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told")
def test_a_training_on_a_cpu_keeps_what_a_step_frees() -> None:
    code = (
        "import resource, torch\n"
        "from rnn_imdb.model import make_classifier\n"
        "from rnn_imdb.training.module import SentimentModule\n"
        "SentimentModule(make_classifier()).on_fit_start()\n"
        "def taken():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    torch.ones(2, 2**20), torch.ones(2**20)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "print(taken(), min(taken() for _ in range(9)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    first, later = map(int, done.stdout.split())
    assert first > 100
    assert later < 10


def test_gradients_nobody_asked_for_are_left_out(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, given, genuine = make_case(3, 5, 32), [], native.call

    def seen(name: str, numbers: tuple[int, ...], *arrays: Tensor | None) -> None:
        given.append((name, dict(zip(native._FUNCTIONS[name].names, arrays, strict=True))))
        genuine(name, numbers, *arrays)

    monkeypatch.setattr(native, "call", seen)
    projected = case.projected.float().requires_grad_()
    weight, initial = case.weight.float(), case.initial_state.float()
    fused.scan(projected, weight, initial).sum().backward()
    assert projected.grad is not None
    fused.scan(projected, torch.cat([weight, weight], dim=1), initial).sum().backward()
    assert [name for name, _ in given] == ["recurrence_forward", "recurrence_backward"] * 2
    assert all(arrays["d_A?"] is None for _, arrays in given[1::2])
    with torch.no_grad():
        assert fused.scan(projected, weight, initial).grad_fn is None


def test_auto_takes_the_kernel_for_float32_alone() -> None:
    device = torch.device("cpu")
    assert choose_backend("auto", Case(device, torch.float32, 32, masked=True)) == "cpu"
    assert choose_backend("auto", Case(device, torch.float64, 32)) == "bptt"


def test_rocm_gets_no_kernel_written_for_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4.0")
    device = torch.device("cuda")
    case = Case(device, torch.float32, 32)
    assert choose_backend("auto", case) == "bptt"
    with pytest.raises(Unsupported, match=r"triton is written for NVIDIA's GPUs, got one of ROCm 6\.4\.0"):
        choose_backend("triton", case)
    assert choose_backend("bptt", case) == "bptt"
    assert scans._backends(device, 32) == [scans.PEER, "bptt"]


def test_the_benchmark_measures_what_serves_a_size() -> None:
    device = torch.device("cuda")
    assert scans._backends(device, 256) == [scans.PEER, f"{scans.PEER} TF32", "cudnn"]
    assert scans._backends(torch.device("cpu"), 256) == [scans.PEER, "bptt", "cpu"]


def test_without_a_kernel_auto_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_kernel", lambda: (None, "no such module"))
    assert choose_backend("auto", Case(torch.device("cpu"), torch.float32, 32)) == "bptt"
    assert "Install a C compiler" in str(native.unavailable_reason())
