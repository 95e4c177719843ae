"""The door to the kernels in C: finds the library, checks every call, and passes it on.

The build compiles csrc/*.c once for each instruction set. The best one that this CPU runs is loaded on first use, by
torch's choice (`torch.backends.cpu.get_cpu_capability()`, which ATEN_CPU_CAPABILITY lowers). An install without a C
compiler has none. One that was built from other sources than those beside this file is not called, since its functions
may take other arguments. `unavailable_reason()` says so, and what to do.
"""

import ctypes
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from rnn_imdb.scan.csrc.version import version

INSTRUCTION_SETS = {"AVX512": ("avx512", "avx2", "baseline"), "AVX2": ("avx2", "baseline")}
LANES = 16  # the kernels want multiples of the widest vector: 16 floats
_SOURCES = Path(__file__).parent / "csrc"

# what a function of csrc/*.c returns where it did nothing, or not all: Status in common.h
_NO_MEMORY, _OUT_OF_RANGE = 1, 2
_DTYPES = {"mask": torch.bool, "tokens": torch.int64, "numbers": torch.int64, "found": torch.int64}


def wide(columns: int) -> int:
    """So many columns, or as few more as are whole vectors."""
    return -(-columns // LANES) * LANES


class _Function:
    """What a function of csrc/*.c takes: sizes, then numbers, then arrays, and last the number of threads.

    Args:
        arrays: their names, with a question mark where None may stand; ``_DTYPES`` has those that are not float32.
        needs: from sizes and numbers to the entries of each array.
        numbers: how many arguments of `needs` are numbers; they follow the sizes.
    """

    def __init__(self, arrays: str, needs: Callable[..., tuple[int, ...]], numbers: int = 0) -> None:
        self.names = arrays.split()
        self.dtypes = [_DTYPES.get(name.rstrip("?"), torch.float32) for name in self.names]
        self.needs = needs
        self.sizes = needs.__code__.co_argcount - numbers
        pointers = [ctypes.c_void_p] * len(self.names)
        self.types = [*[ctypes.c_long] * self.sizes, *[ctypes.c_float] * numbers, *pointers, ctypes.c_int]


def found(B: int, R: int, T: int, V: int) -> int:
    """What a recurrence over words finds: a position a step, the words, two counts, and a mask of bytes."""
    return R * T + min(B * T, V) + 2 + (R * T + 7) // 8


# B reviews, R rows of states, N rows of vectors
_FUNCTIONS = {
    "recurrence_forward": _Function(
        "inputs tokens? A bias? initial mask? found? states",
        lambda B, R, T, E, H, _only_last, _padding, V: (
            *(V * (E or wide(H)), B * T, H * (H + E), wide(H), R * wide(H), B * T),
            *(found(B, R, T, V), R * T * wide(H)),
        ),
    ),
    "recurrence_backward": _Function(
        "gradient inputs tokens? A initial mask? found? states delta d_inputs? d_A? d_bias? d_initial",
        lambda B, R, T, E, H, given, V: (
            *(B * given * wide(H), V * (E or wide(H)), B * T, H * (H + E), R * wide(H), B * T),
            *(found(B, R, T, V), R * T * wide(H), R * T * wide(H), V * E, H * (H + E), wide(H), R * wide(H)),
        ),
    ),
    "linear": _Function("x matrix bias? y", lambda N, E, H: (N * E, H * E, wide(H), N * wide(H))),
    "linear_backward": _Function(
        "x matrix dy d_x? d_matrix? d_bias?",
        lambda N, E, H, step: (N * wide(E), H * step, N * wide(H), N * wide(E), H * step, wide(H)),
    ),
    "dot": _Function("x weight bias? y", lambda N, K: (N * K, K, 1, N)),
    "dot_backward": _Function("x weight dy d_x? d_weight d_bias", lambda N, K: (N * K, K, N, N * K, K, 1)),
    "scatter_add": _Function("numbers mask? rows table", lambda N, H, V: (N, N, N * H, V * H)),
    "rmsprop": _Function(
        "gradient weight square_avg", lambda N, _rate, _alpha, _beta, _eps, _decay: (N, N, N), numbers=5
    ),
}


def load(instruction_set: str) -> ctypes.CDLL:
    """The compiled kernel for `avx512`, `avx2` or `baseline`; ImportError or OSError says why it does not load."""
    name = f"rnn_imdb.scan._cpu_{instruction_set}"
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ImportError(f"{name} was not built when rnn_imdb was installed")
    # A CDLL, unlike a PyDLL, releases the GIL for the length of a call.
    library = ctypes.CDLL(spec.origin)
    kernel_version = getattr(library, "kernel_version", None)
    if kernel_version:
        kernel_version.restype = ctypes.c_int64
    if kernel_version is None or kernel_version() != version(_SOURCES):
        raise ImportError("the C kernel was built for another version of rnn_imdb")
    for name, function in _FUNCTIONS.items():
        getattr(library, name).argtypes = function.types
    return library


@cache
def _kernel() -> tuple[ctypes.CDLL | None, str]:
    """The best kernel for this CPU and its instruction set, or None and why there is none."""
    reasons = []
    for name in INSTRUCTION_SETS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",)):
        try:
            return load(name), name
        except (ImportError, OSError) as error:
            reasons.append(str(error))
    return None, "; ".join(dict.fromkeys(reasons))


def available() -> bool:
    """Whether a compiled kernel loads here."""
    return _kernel()[0] is not None


def supports(tensor: Tensor) -> bool:
    """Whether the kernels run on tensors like this one, which has no data while torch.export looks on."""
    return tensor.is_cpu and tensor.dtype == torch.float32 and available() and not torch.compiler.is_exporting()


def instruction_set() -> str | None:
    """The kernel in use: `avx512`, `avx2`, `baseline`, or None."""
    kernel, name = _kernel()
    return name if kernel else None


def unavailable_reason() -> str | None:
    """Why there is no kernel, with the remedy; None where there is one."""
    kernel, reason = _kernel()
    if kernel:
        return None
    return f"{reason}. Install a C compiler (Debian: apt install gcc) and reinstall rnn_imdb"


def keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, where the system's allocator is glibc's."""
    if kernel := _kernel()[0]:
        kernel.keep_freed_memory()


def call(function: str, numbers: tuple[int | float, ...], *arrays: Tensor | None) -> None:
    """Run a function of csrc/*.c on `arrays`, with torch's number of threads.

    `numbers` are its sizes and what else is no array; an optional array may be None. Every array is checked before C
    gets its address, since C trusts the sizes.

    Raises:
        TypeError: an array is missing, or of another dtype or device.
        ValueError: an array is not of the sizes, or not contiguous; or the sizes do not fit each other.
        IndexError: a token is outside the table.
        MemoryError: there is no memory for intermediate results.
        RuntimeError: there is no kernel.
    """
    kernel, reason = _kernel()
    if kernel is None:
        raise RuntimeError(f"the C kernel is not available: {reason}")
    known = _FUNCTIONS[function]
    if min(numbers[: known.sizes]) < 0:
        raise ValueError(f"sizes must not be negative in {function}, got {numbers}")
    addresses = []
    # sixty arrays a training step: a few short questions each
    for array, name, dtype, need in zip(arrays, known.names, known.dtypes, known.needs(*numbers), strict=True):
        if array is None and name[-1] == "?":
            addresses.append(None)
        elif array is None or array.dtype is not dtype or not array.is_cpu:
            raise TypeError(_misfit(function, name, dtype, need, array))
        elif array.numel() != need or not array.is_contiguous():
            raise ValueError(_misfit(function, name, dtype, need, array))
        else:
            addresses.append(array.data_ptr())
    status = getattr(kernel, function)(*numbers, *addresses, torch.get_num_threads())
    if status == _NO_MEMORY:
        raise MemoryError(f"{function} could not allocate its scratch memory for the sizes {numbers}")
    if status == _OUT_OF_RANGE:
        raise IndexError(f"a token is out of range in {function}: words have numbers from 0 to {numbers[-1] - 1}")
    if status:
        raise ValueError(f"sizes must fit each other in {function}, got {numbers}")


def _misfit(function: str, name: str, dtype: torch.dtype, need: int, array: Tensor | None) -> str:
    got = array
    if array is not None:
        got = f"{array.dtype} on {array.device}, of shape {tuple(array.shape)} and strides {array.stride()}"
    return f"{name.rstrip('?')} must be {dtype} on cpu and contiguous, with {need} entries in {function}, got {got}"
