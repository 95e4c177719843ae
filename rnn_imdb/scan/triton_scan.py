"""The tanh scan on a CUDA device in true float32, forward and backward each one launch; importing this imports Triton.

    h_t[i] = tanh(p_t[i] + Σ_j W[i, j] h_{t-1}[j])                        a masked step: h_t = h_{t-1}
    δ_t[i] = (1 − h_t[i]²) (g_t[i] + Σ_j W[j, i] δ_{t+1}[j])              a masked step: δ_t = 0, the gradient passes on
    ∂projected = δ        ∂W = Σ_{b,t} δ_t h_{t-1}ᵀ        ∂initial_state = what reaches it
    (g: the upstream gradient of the states)

The chain of T dependent steps decides the time. One program walks a row of the batch and keeps W in registers, one
output a lane: its sum stays in the lane, the state is broadcast once a step through shared memory, and nothing is
shuffled between lanes (where BLOCK = 128 goes backward, two warps share an output). What is not on the chain is loaded
four steps ahead. No atomics and no tensor cores: the same bits every time, and no TF32 setting reaches them. A row
begins at its first real token and ends at its last: padding around them costs a copy.

Dimension key: B batch, T time, H state, at most 128. Memory: the states; backward δ and at most as much again for the
partial sums of ∂W.
"""
# pyright: reportPossiblyUnboundVariable=false, reportGeneralTypeIssues=false
# Triton's ranges are no Python iterables, and `mask is not None` is decided when it compiles.

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# BLOCK (H rounded up) -> warps a program. Registers hold BLOCK² floats forward (W), twice that backward (W and ∂W).
FORWARD_WARPS = {32: 1, 64: 2, 128: 4}
BACKWARD_WARPS = {32: 1, 64: 2, 128: 8}
# Numbers of any value, pointers of any alignment: a new T, B or stride never compiles a new kernel.
NUMBERS = ["B", "T", "p_row", "p_step", "p_unit", "w_row", "m_row", "m_step", "g_row", "g_step", "g_unit"]
ARRAYS = ["projected", "weight", "initial_state", "mask", "states", "upstream", "delta", "weight_part", "initial_part"]
_kernel = triton.jit(do_not_specialize=NUMBERS, do_not_specialize_on_alignment=ARRAYS)


@triton.jit
def _tanh(x):
    """sign(x) (1 − e) / (1 + e), e = exp(−2|x|), which cannot overflow.

    Below 0.55, where 1 − e cancels, a polynomial.
    """
    e = tl.exp2(tl.abs(x) * -2.8853900817779268)
    # 1 / (1 + e) by a parabola and two Newton steps: a division would check ranges that e in [0, 1] cannot leave.
    r = 0.98989069 + e * (-0.80805974 + e * 0.32322366)
    r += r * (1 - (1 + e) * r)
    r += r * (1 - (1 + e) * r)
    sign = tl.where(x < 0, -1.0, 1.0)
    s = x * x
    small = x + x * (s * (-0.3333296 + s * (0.13320944 + s * (-0.05268422 + s * 0.01645891))))
    return tl.where(tl.abs(x) < 0.55, small, sign - (sign * 2 * e) * r)


@triton.jit
def _tile(weight, w_row, H: tl.constexpr, BLOCK: tl.constexpr):
    # The last axis must be the one contiguous in memory: from that Triton gives each lane a whole column.
    j, i = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    return tl.load(weight + j * w_row + i, mask=(j < H) & (i < H), other=0.0)


@triton.jit
def _sum(products, BLOCK: tl.constexpr):
    """Over the first axis, as four running sums: a single one would wait for itself at every addition."""
    return tl.sum(tl.sum(tl.reshape(products, [BLOCK // 4, 4, BLOCK]), 0), 0)


@triton.jit
def _four(at, step, count, i, other, H: tl.constexpr):
    """The vectors at, at + step, ..., at + 3 step; `other` from the count-th on."""
    return (
        tl.load(at, mask=i < tl.where(count > 0, H, 0), other=other),
        tl.load(at + step, mask=i < tl.where(count > 1, H, 0), other=other),
        tl.load(at + 2 * step, mask=i < tl.where(count > 2, H, 0), other=other),
        tl.load(at + 3 * step, mask=i < tl.where(count > 3, H, 0), other=other),
    )


@triton.jit
def _real_range(mask, m_step, T):
    """First real step and one past the last; (T, T) where all is padding."""
    start = T
    stop = 0
    for base in range(0, T, 1024):
        t = base + tl.arange(0, 1024)
        real = tl.load(mask + t * m_step, mask=t < T, other=0) != 0
        start = tl.minimum(start, tl.min(tl.where(real, t, T)))
        stop = tl.maximum(stop, tl.max(tl.where(real, t + 1, 0)))
    return start, tl.maximum(start, stop)


@triton.jit
def _fill(out, value, start, stop, i, H: tl.constexpr):
    for t in range(start, stop):
        tl.store(out + t * H, value, mask=i < H)


@triton.jit
def _total(upstream, total, g_step, start, stop, i, H: tl.constexpr):
    for t in tl.range(start, stop, loop_unroll_factor=8):
        total += tl.load(upstream + t * g_step, mask=i < H, other=0.0)
    return total


@triton.jit
def _forward_step(tile, h, p, mask, m_step, states, t, start, i, H: tl.constexpr, BLOCK: tl.constexpr):
    products = tile * h[:, None]
    # The state before this one is stored here, while its broadcast is on the way: earlier, the broadcast would wait.
    tl.store(states + (t - 1) * H, h, mask=i < tl.where(t > start, H, 0))
    if mask is not None:
        keep = tl.load(mask + t * m_step) != 0
    new = _tanh(p + _sum(products, BLOCK))
    # A padded lane would turn an infinite state into NaN (0 · ∞) and hand it on.
    if H < BLOCK:
        new = tl.where(i < H, new, 0.0)
    if mask is not None:
        new = tl.where(keep, new, h)
    return new


@_kernel
def forward(projected, weight, initial_state, mask, states, T, p_row, p_step, p_unit, w_row, m_row, m_step,
             H: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    p_step, m_step = p_step.to(tl.int64), m_step.to(tl.int64)
    i = tl.arange(0, BLOCK)
    # tile[j, i] = W[i, j]: the host hands over Wᵀ.
    tile = _tile(weight, w_row, H, BLOCK)
    h = tl.load(initial_state + row * H + i, mask=i < H, other=0.0)
    states += row * T * H + i
    start = 0
    stop = T
    if mask is not None:
        mask += row * m_row
        start, stop = _real_range(mask, m_step, T)
        _fill(states, h, 0, start, i, H)
    p_at = projected + row * p_row + start * p_step + i.to(tl.int64) * p_unit
    p = _four(p_at, p_step, stop - start, i, 0.0, H)
    for t in range(start, stop - 3, 4):
        p_at += 4 * p_step
        ahead = _four(p_at, p_step, stop - t - 4, i, 0.0, H)
        for k in tl.static_range(4):
            h = _forward_step(tile, h, p[k], mask, m_step, states, t + k, start, i, H, BLOCK)
        p = ahead
    for t in range(stop - (stop - start) % 4, stop):
        h = _forward_step(tile, h, p[0], mask, m_step, states, t, start, i, H, BLOCK)
        p = (p[1], p[2], p[3], p[3])
    _fill(states, h, tl.maximum(stop - 1, start), T, i, H)


@triton.jit
def _backward_step(
    tile, weight_sum, flow, g, h, before, mask, m_step, delta, t, i, H: tl.constexpr, BLOCK: tl.constexpr
):
    slope = 1 - h * h
    # (flow + g) slope, with only one operation behind flow.
    d = flow * slope + g * slope
    if H < BLOCK:
        d = tl.where(i < H, d, 0.0)
    if mask is not None:
        keep = tl.load(mask + t * m_step) != 0
        d = tl.where(keep, d, 0.0)
    spread = d[:, None]
    products = tile * spread
    tl.store(delta + t * H, d, mask=i < H)
    # ∂W takes hardly any time of its own: these additions fill the waits of the sum below.
    weight_sum += spread * before[None, :]
    passed = _sum(products, BLOCK)
    if mask is not None:
        passed = tl.where(keep, passed, flow + g)
    return weight_sum, passed


@_kernel
def backward(upstream, weight, initial_state, mask, states, delta, weight_part, initial_part, B, T,
              g_row, g_step, g_unit, w_row, m_row, m_step, H: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    g_step, m_step = g_step.to(tl.int64), m_step.to(tl.int64)
    i = tl.arange(0, BLOCK)
    zero = tl.zeros([BLOCK], tl.float32)
    # tile[j, i] = W[j, i]
    tile = _tile(weight, w_row, H, BLOCK)
    weight_sum = tl.zeros([BLOCK, BLOCK], tl.float32)
    for row in range(program, B, tl.num_programs(0)):
        g_row_at = upstream + row * g_row + i.to(tl.int64) * g_unit
        delta_at = delta + row * T * H + i
        flow = zero
        mask_at = mask
        start = 0
        stop = T
        if mask is not None:
            mask_at += row * m_row
            start, stop = _real_range(mask_at, m_step, T)
            flow = _total(g_row_at, flow, g_step, stop, T, i, H)
            _fill(delta_at, zero, stop, T, i, H)
        g_at = g_row_at + (stop - 1) * g_step
        h_at = states + (row * T + stop - 1) * H + i
        g = _four(g_at, -g_step, stop - start, i, 0.0, H)
        # Before its first real step a row is in its initial state.
        first = tl.load(initial_state + row * H + i, mask=i < H, other=0.0)
        h = _four(h_at, -H, stop - start, i, first, H)
        for left in range(stop - start, 3, -4):
            g_at -= 4 * g_step
            h_at -= 4 * H
            g_ahead = _four(g_at, -g_step, left - 4, i, 0.0, H)
            h_ahead = _four(h_at, -H, left - 4, i, first, H)
            seen = (h[0], h[1], h[2], h[3], h_ahead[0])
            for k in tl.static_range(4):
                weight_sum, flow = _backward_step(tile, weight_sum, flow, g[k], seen[k], seen[k + 1],
                                                  mask_at, m_step, delta_at, start + left - 1 - k, i,
                                                  H, BLOCK)  # fmt: skip
            g, h = g_ahead, h_ahead
        for left in range((stop - start) % 4, 0, -1):
            weight_sum, flow = _backward_step(tile, weight_sum, flow, g[0], h[0], h[1],
                                              mask_at, m_step, delta_at, start + left - 1, i, H, BLOCK)  # fmt: skip
            g, h = (g[1], g[2], g[3], g[3]), (h[1], h[2], h[3], h[3])
        if mask is not None:
            flow = _total(g_row_at, flow, g_step, 0, start, i, H)
            _fill(delta_at, zero, 0, start, i, H)
        tl.store(initial_part + row * H + i, flow, mask=i < H)
    j, k = i[:, None], i[None, :]
    tl.store(weight_part + program * H * H + j * H + k, weight_sum, mask=(j < H) & (k < H))


def _launch(kernel, programs, warps, *arguments, state_dim):
    block = max(32, triton.next_power_of_2(state_dim))
    # Allowed fewer than 255 registers, ptxas waits for one load before it issues the next.
    # Unasked, Triton 3.10 will fuse no FMA.
    options = {"num_warps": warps[block], "maxnreg": 255, "enable_fp_fusion": True}
    with torch.cuda.device_of(arguments[0]):
        kernel[(programs,)](*arguments, H=state_dim, BLOCK=block, **options)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, projected, weight, initial_state, mask):
        batch, time, state_dim = projected.shape
        columns, initial_state = weight.t().contiguous(), initial_state.contiguous()
        states = projected.new_empty(projected.shape)
        strides = (*projected.stride(), columns.stride(0), *((0, 0) if mask is None else mask.stride()))
        tensors = (projected, columns, initial_state, mask, states)
        _launch(forward, batch, FORWARD_WARPS, *tensors, time, *strides, state_dim=state_dim)
        ctx.save_for_backward(weight, initial_state, mask, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, initial_state, mask, states = ctx.saved_tensors
        batch, time, state_dim = states.shape
        weight = weight if weight.stride(1) == 1 else weight.contiguous()
        # One partial ∂W a program: no more programs than keep these sums within the memory of the states.
        programs = max(1, min(batch, batch * time // state_dim))
        delta, initial_part = torch.empty_like(states), torch.empty_like(initial_state)
        weight_part = states.new_empty(programs, state_dim, state_dim)
        strides = (*upstream.stride(), weight.stride(0), *((0, 0) if mask is None else mask.stride()))
        tensors = (upstream, weight, initial_state, mask, states, delta, weight_part, initial_part)
        numbers = batch, time, *strides
        _launch(backward, programs, BACKWARD_WARPS, *tensors, *numbers, state_dim=state_dim)
        return delta, weight_part.sum(0), initial_part, None


def scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time state"]:
    """h_t = tanh(p_t + W h_{t-1}) for all t, differentiable once; float32, H up to 128, any strides."""
    return _Scan.apply(projected, weight, initial_state, mask)
