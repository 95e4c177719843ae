"""The scan in C (cpu_scan.c), forward and backward, for float32 on a CPU, and the door to the other kernels in C.

    h_t = tanh(p_t + W h_{t-1}),   h_{-1} the initial state;   a masked step carries the state on: h_t = h_{t-1}

The package's own build compiles cpu_*.c once per instruction set; the best one that this CPU runs is loaded on first
use, following torch's choice (`torch.backends.cpu.get_cpu_capability()`, which ATEN_CPU_CAPABILITY lowers). Without
a compiler at install time there is no kernel, and `unavailable_reason()` says so and what to do.

States and the gradients of `projected` and `initial_state` are bitwise the same whatever the number of threads and
the rest of the batch; the weight gradient is so at a fixed number of threads.
"""

import ctypes
import importlib.util
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

INSTRUCTION_SETS = {"AVX512": ("avx512", "avx2", "baseline"), "AVX2": ("avx2", "baseline")}
_LANES = 16  # the kernel wants multiples of the widest vector: 16 floats

_N, _POINTER, _FLAG, _THREADS, _NUMBER = ctypes.c_long, ctypes.c_void_p, ctypes.c_bool, ctypes.c_int, ctypes.c_float
_MATRIX = [_POINTER, _N, _N]  # data and two strides
_SIGNATURES = {
    "tanh_scan_forward": [*[_N] * 4, *[_POINTER] * 2, *_MATRIX, *[_POINTER] * 2, *[_FLAG] * 2, _POINTER, _THREADS],
    "tanh_scan_backward": [*[_N] * 5, _POINTER, *_MATRIX, *[_POINTER] * 2, _FLAG, *[_POINTER] * 2, _THREADS],
    "linear": [*[_N] * 3, _POINTER, *_MATRIX, *[_POINTER] * 2, _THREADS],
    "linear_backward": [*[_N] * 3, _POINTER, *_MATRIX, *[_POINTER] * 3, _THREADS],
    "outer": [*[_N] * 3, *[_POINTER] * 5, _THREADS],
    "add_rows": [*[_N] * 2, *[_POINTER] * 4, _THREADS],
    "distinct": [*[_N] * 2, *[_POINTER] * 4, _THREADS],
    "begun": [*[_N] * 3, *[_POINTER] * 4, _THREADS],
    "rmsprop": [_N, *[_NUMBER] * 5, *[_POINTER] * 3, _THREADS],
}


def is_built(instruction_set: str) -> bool:
    """Whether the installation compiled the kernel for an instruction set."""
    return importlib.util.find_spec(f"rnn_imdb.scan._cpu_{instruction_set}") is not None


def load(instruction_set: str) -> ctypes.CDLL:
    """The compiled kernel for `avx512`, `avx2` or `baseline`; ImportError or OSError says why it does not load."""
    name = f"rnn_imdb.scan._cpu_{instruction_set}"
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ImportError(f"{name} was not built when rnn_imdb was installed")
    # A CDLL, unlike a PyDLL, releases the GIL for the length of a call.
    library = ctypes.CDLL(spec.origin)
    for function, arguments in _SIGNATURES.items():
        getattr(library, function).argtypes = arguments
        getattr(library, function).restype = ctypes.c_bool
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
    return None, "; ".join(reasons)


def available() -> bool:
    """Whether a compiled kernel loads here."""
    return _kernel()[0] is not None


def serves(tensor: Tensor) -> bool:
    """Whether the kernels run on tensors like this one."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and available()


def instruction_set() -> str | None:
    """The kernel in use: `avx512`, `avx2`, `baseline`, or None."""
    kernel, name = _kernel()
    return name if kernel else None


def unavailable_reason() -> str | None:
    """Why there is no kernel, with the remedy; None where there is one."""
    kernel, reason = _kernel()
    if kernel:
        return None
    return f"{reason}. Install a C compiler with OpenMP (Debian: apt install gcc) and reinstall rnn_imdb"


def call(function: str, *arguments: Tensor | int | float | None) -> None:
    """Run a function of cpu_*.c with torch's number of threads: tensors by address, sizes and strides as they are."""
    kernel, reason = _kernel()
    if kernel is None:
        raise RuntimeError(f"the C kernel is not available: {reason}")
    plain = [x.data_ptr() if isinstance(x, Tensor) else x for x in arguments]
    if not getattr(kernel, function)(*plain, torch.get_num_threads()):
        raise MemoryError(f"{function} could not allocate its scratch memory")


def pad(x: Tensor, *dims: int) -> Tensor:
    """x with zeros after its last entries, so that each of the trailing `dims` is a multiple of the vector width."""
    missing = [-x.shape[dim] % _LANES for dim in dims]
    return F.pad(x, [n for m in missing for n in (0, m)]) if any(missing) else x


class _Scan(torch.autograd.Function):
    """delta_t = (g_t + W^T delta_{t+1}) (1 - h_t^2);   dW = sum_t delta_t h_{t-1}^T;   see cpu_scan.c."""

    @staticmethod
    def forward(ctx, projected, weight, initial_state, mask, used, only_last):
        projected, initial_state = projected.contiguous(), initial_state.contiguous()
        states = torch.empty_like(projected)  # (B, T, H)
        matrix = weight, *weight.stride()
        sizes = *states.shape, used
        call("tanh_scan_forward", *sizes, projected, None, *matrix, initial_state, mask, False, only_last, states)
        ctx.save_for_backward(weight, initial_state, mask, states)
        ctx.used = used
        return states[:, -1:].clone() if only_last else states

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, initial_state, mask, states = ctx.saved_tensors
        B, T, H = states.shape
        gradient = gradient.contiguous()  # may be expanded: the gradient of a sum, say
        delta = torch.empty_like(states)  # (B, T, H)
        d_initial = torch.empty_like(initial_state)
        strides = weight.stride()
        sizes = B, T, H, ctx.used, gradient.shape[1]
        call("tanh_scan_backward", *sizes, gradient, weight, *strides, states, mask, False, delta, d_initial)
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = torch.empty(H, H)
            call("outer", B, T, H, delta, states, initial_state, mask, d_weight)
        return delta, d_weight, d_initial, None, None, None


def scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """h_t = tanh(p_t + W h_{t-1}) where the mask is true, h_{t-1} elsewhere; h_T alone, (B, 1, H), with `only_last`.

    Any B, T, H ≥ 1, fast where H is a multiple of 16; nothing is computed for masked steps. `weight` may be strided.
    Differentiable once, in all but the mask. Shapes, dtypes and devices are the caller's to check; RuntimeError
    without a kernel (see `available`).
    """
    H = projected.shape[2]
    states = _Scan.apply(
        pad(projected, -1),
        pad(weight, -1, -2),
        pad(initial_state, -1),
        None if mask is None else mask.contiguous(),
        H,
        only_last,
    )
    return states[..., :H] if states.shape[2] != H else states
