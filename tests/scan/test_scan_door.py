"""The door to C: what does not fit is refused before C sees it, and a kernel of other sources is not used."""

import ctypes
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from test_recurrence import scan_tokens
from torch import Tensor

from rnn_imdb.model.embedding import bigrams
from rnn_imdb.scan import Case, Unsupported, choose_backend, lookup, native, project_inputs, scan_inputs, tanh_scan
from rnn_imdb.scan.csrc.version import version
from rnn_imdb.training.optimizers import RMSprop

INSTRUCTION_SETS = native.INSTRUCTION_SETS["AVX512"]
with_kernel = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
# sizes and numbers of a call that fits
NUMBERS: dict[str, tuple[int | float, ...]] = {
    "recurrence_forward": (3, 4, 5, 17, 29, 0, 0, 6),
    "recurrence_backward": (3, 4, 5, 17, 29, 5, 6),
    "linear": (5, 17, 29),
    "linear_backward": (5, 17, 29, 20),
    "dot": (5, 70),
    "dot_backward": (5, 70),
    "scatter_add": (5, 7, 6),
    "rmsprop": (5, 0.1, 0.9, 0.1, 1e-8, 0.0),
}


def fitting(function: str) -> list[Tensor | None]:
    """Arrays for a call with those sizes."""
    known = native._FUNCTIONS[function]
    needs = known.needs(*NUMBERS[function])
    arrays = [torch.zeros(need, dtype=dtype) for dtype, need in zip(known.dtypes, needs, strict=True)]
    return [array.fill_(True) if name == "mask?" else array for name, array in zip(known.names, arrays, strict=True)]


@with_kernel
@pytest.mark.parametrize("function", NUMBERS)
def test_arrays_that_do_not_fit_are_refused(function: str) -> None:
    assert set(NUMBERS) == set(native._FUNCTIONS)
    numbers, arrays = NUMBERS[function], fitting(function)
    native.call(function, numbers, *arrays)
    known = native._FUNCTIONS[function]
    for position, (name, dtype, array) in enumerate(zip(known.names, known.dtypes, arrays, strict=True)):
        if array is None:
            continue
        wrong_kind = [array.to(torch.float64 if dtype == torch.float32 else torch.int32), array.to("meta")]
        wrong_kind += [] if name.endswith("?") else [None]
        longer = torch.cat([array, array])
        wrong_size = [array[1:], array[:0], longer]
        if len(array) > 1:
            wrong_size += [longer[::2], array[:1].expand(len(array))]
        for error, values in ((TypeError, wrong_kind), (ValueError, wrong_size)):
            for value in values:
                given = [*arrays[:position], value, *arrays[position + 1 :]]
                with pytest.raises(error, match=rf"^{name.rstrip('?')} must be {dtype} on cpu .* in {function}, got"):
                    native.call(function, numbers, *given)


@with_kernel
@pytest.mark.parametrize(
    ("function", "numbers"),
    [
        ("recurrence_forward", (-3, -2, -5, 17, 29, 0, 0, 6)),
        ("recurrence_forward", (3, 3, 5, 17, 29, 0, 0, 6)),
        ("recurrence_forward", (3, 4, 5, 0, 29, 0, 0, 6)),
        ("recurrence_backward", (3, 3, 5, 17, 29, 5, 6)),
        ("recurrence_backward", (3, 4, 5, 17, 29, 6, 6)),
        ("linear", (-5, -17, -29)),
        ("linear_backward", (5, 17, 29, 16)),
        ("scatter_add", (-5, -7, -6)),
        ("rmsprop", (-5, 0.1, 0.9, 0.1, 1e-8, 0.0)),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_each_other_are_refused(function: str, numbers: tuple[int | float, ...]) -> None:
    known = native._FUNCTIONS[function]
    needs = map(abs, known.needs(*numbers))
    given = [torch.zeros(need, dtype=dtype) for dtype, need in zip(known.dtypes, needs, strict=True)]
    with pytest.raises(ValueError, match=f"in {function}, got"):
        native.call(function, numbers, *given)


@with_kernel
@pytest.mark.parametrize("token", [-1, 6, 2**40, -(2**62)])
def test_no_row_outside_a_table_is_read_or_written(kernel: str, token: int) -> None:
    tokens, rows, table = torch.tensor([1, 0, token, 2]), torch.ones(4, 40), torch.zeros(6, 40)
    with pytest.raises(IndexError, match="out of range in scatter_add: words have numbers from 0 to 5"):
        native.call("scatter_add", (4, 40, 6), tokens, None, rows, table)
    # a masked one is not read
    native.call("scatter_add", (4, 40, 6), tokens, tokens != token, rows, table.zero_())
    assert table.sum(1).tolist() == [40, 40, 40, 0, 0, 0]
    for read in (lambda words: lookup(table, words), lambda words: scan_tokens(words, table, torch.zeros(3, 43))):
        with pytest.raises(IndexError, match="out of range"):
            read(tokens[None])


@with_kernel
def test_memory_that_is_not_there_is_a_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted:
        scatter_add = staticmethod(lambda *_: native._NO_MEMORY)

    monkeypatch.setattr(native, "_kernel", lambda: (Exhausted(), "avx2"))
    with pytest.raises(MemoryError, match=r"scatter_add could not allocate .* \(5, 7, 6\)"):
        native.call("scatter_add", NUMBERS["scatter_add"], *fitting("scatter_add"))


def everything() -> list[Tensor]:
    """Values and gradients through all kernels, and weights after two steps."""
    generator = torch.Generator("cpu").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cpu", dtype=torch.float32).requires_grad_()

    embedding, A, b, vectors, initial = normal(20, 5), normal(9, 14), normal(9), normal(3, 7, 5), normal(3, 9)
    tokens = torch.tensor([[0, 0, 3, 5, 3, 19, 1], [0, 2, 2, 2, 2, 2, 2], [0, 0, 0, 0, 0, 0, 4]], device="cpu")
    pairs = torch.tensor([2 * 2**16 + 2], device="cpu")
    results = []
    for last in (False, True):
        results += [scan_tokens(tokens, embedding, A, b, only_last=last), scan_inputs(vectors, A, b, only_last=last)]
        results.append(tanh_scan(project_inputs(vectors, A[:, 9:], b), A[:, :9], initial, only_last=last))
    results += [lookup(embedding, tokens.int()), bigrams(tokens.int(), pairs, embedding)]
    leaves = [embedding, A, b, vectors, initial]
    optimizer = RMSprop(leaves)
    for _ in "ab":
        for leaf, gradient in zip(
            leaves, torch.autograd.grad(sum(r.sum() for r in results), leaves, retain_graph=True), strict=True
        ):
            leaf.grad = gradient
    optimizer.step()
    return [*results, *[leaf.grad for leaf in leaves if leaf.grad is not None], *leaves]


@pytest.fixture
def another_default(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_default_dtype()
    if request.param == "meta":
        with torch.device("meta"):
            yield
    else:
        torch.set_default_dtype(getattr(torch, request.param))
        yield
        torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def usual() -> list[Tensor]:
    return everything()


@pytest.mark.usefixtures("another_default")
@pytest.mark.parametrize("another_default", ["meta", "float64", "bfloat16"], indirect=True)
def test_neither_default_device_nor_dtype_matters(usual: list[Tensor]) -> None:
    for value, expected in zip(everything(), usual, strict=True):
        assert torch.equal(value, expected)


@with_kernel
@pytest.mark.parametrize(
    "state", [None, 0.5, torch.zeros(1), torch.zeros(4, 3).T, torch.zeros(3, 4).double(), torch.zeros(3, 4).half()]
)
def test_a_state_of_the_optimizer_that_does_not_fit_is_refused(state: object) -> None:
    weight = torch.ones(3, 4, requires_grad=True)
    weight.grad = torch.ones(3, 4)
    optimizer = RMSprop([weight])
    optimizer.step()
    before = weight.detach().clone()
    optimizer.state[weight]["square_avg"] = state
    with pytest.raises((TypeError, ValueError), match="square_avg must be"):
        optimizer.step()
    assert torch.equal(weight, before)


@with_kernel
def test_only_words_of_integers_are_looked_up() -> None:
    table = torch.ones(4, 3, requires_grad=True)
    for dtype in (torch.float32, torch.uint8, torch.int16, torch.bool):
        with pytest.raises((RuntimeError, TypeError, IndexError)):
            lookup(table, torch.zeros(2, dtype=dtype))


@with_kernel
def test_a_gradient_of_the_callers_is_left_as_it_is() -> None:
    # as large as the gradient of x, whose memory it could be
    x, gradient = torch.ones(2, 3, 16, requires_grad=True), torch.ones(2, 3, 16)
    project_inputs(x, torch.full((16, 16), 2.0)).backward(gradient)
    assert x.grad is not None
    assert (x.grad == 32).all()
    assert (gradient == 1).all()


@with_kernel
def test_nothing_is_done_for_no_rows() -> None:
    table, matrix = torch.ones(4, 3, requires_grad=True), torch.ones(5, 3, requires_grad=True)
    for result in (
        lookup(table, torch.zeros(0, 2, dtype=torch.int64)),
        project_inputs(torch.zeros(2, 0, 3, requires_grad=True), matrix, torch.zeros(5)),
    ):
        assert result.numel() == 0
    lookup(table, torch.zeros(0, 2, dtype=torch.int64)).sum().backward()
    project_inputs(torch.zeros(2, 0, 3), matrix).sum().backward()
    for leaf in (table, matrix):
        assert leaf.grad is not None
        assert not leaf.grad.any()


@with_kernel
@pytest.mark.parametrize(
    "function",
    [
        lambda x: tanh_scan(x[None], torch.eye(16), torch.zeros(1, 16)),
        lambda x: scan_inputs(x[None], torch.ones(3, 19)),
        lambda x: scan_tokens(torch.zeros(1, 2, dtype=torch.int64), x, torch.ones(3, 19)),
        lambda x: lookup(x, torch.zeros(1, dtype=torch.int64)),
        lambda x: project_inputs(x, torch.ones(3, 16)),
    ],
)
def test_second_derivatives_are_refused(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.ones(4, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_change_of_any_source_or_flag_is_another_version(tmp_path: Path) -> None:
    shutil.copytree(native._SOURCES, tmp_path / "csrc", ignore=shutil.ignore_patterns("__pycache__"))
    assert version(tmp_path / "csrc") == version(native._SOURCES)
    files = sorted(path for path in (tmp_path / "csrc").iterdir())
    assert {"common.h", "scan.h", "build.py"} <= {path.name for path in files}
    versions = {version(native._SOURCES)}
    for path in files:
        path.write_text(path.read_text().replace("-mfma", "-mno-fma") if path.name == "build.py" else "\n")
        versions.add(version(tmp_path / "csrc"))
    assert len(versions) == len(files) + 1


@with_kernel
@pytest.mark.parametrize("before_versions", [False, True])
def test_a_kernel_of_other_sources_is_not_called(before_versions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if before_versions:
        # a library without the function
        whole = ctypes.CDLL
        monkeypatch.setattr(ctypes, "CDLL", lambda _: whole(None))
    else:
        monkeypatch.setattr(native, "version", lambda folder: version(folder) ^ 1)
    monkeypatch.setattr(native, "_kernel", native._kernel.__wrapped__)
    assert not native.available()
    reason = "the C kernel was built for another version of rnn_imdb. Install a C compiler .* and reinstall rnn_imdb"
    case = Case(torch.device("cpu"), torch.float32, 32)
    assert choose_backend("auto", case) == "bptt"
    with pytest.raises(Unsupported, match=reason):
        choose_backend("cpu", case)


def test_where_there_is_a_compiler_all_kernels_are_built(tmp_path: Path) -> None:
    """An install without a kernel goes on, so nothing else would notice that sources or flags do not compile."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"the instruction sets are those of x86-64, this is {platform.machine()}")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    source = tmp_path / "try.c"
    source.write_text("#include <omp.h>\nint threads(void) { return omp_get_max_threads(); }\n")
    try:
        command = [*compiler, "-shared", "-fPIC", "-fopenmp", str(source), "-o", str(tmp_path / "try.so")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler with OpenMP here: {error}")
    # a processor without an instruction set can load its kernel too, as long as it calls nothing but the version
    assert all(native.load(name) for name in INSTRUCTION_SETS)
    capability = torch.backends.cpu.get_cpu_capability()
    assert native.instruction_set() == native.INSTRUCTION_SETS.get(capability, ("baseline",))[0]
