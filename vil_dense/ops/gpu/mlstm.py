"""Computes the mLSTM on a GPU from q, k, v and gates: the backend `triton` of `ops.mlstm`."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vil_dense.ops.gpu.launches import require_gpu
from vil_dense.ops.gpu.plan import HALF, make_plan
from vil_dense.ops.gpu.scan import (
    States,
    hidden,
    run_states,
    scan_gradients,
    states_of,
    sum_gate_gradients,
    sum_gates,
)


def mlstm_triton(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool = False) -> Tensor:
    """Computes the chunkwise form in Triton, for any S and DH; see `ops.mlstm`. It has no second derivative.

    Args:
        q, k, v: (B, NH, S, DH), float32, bfloat16 or float16. If all three have the same half precision, they are
            multiplied in it and summed in float32; otherwise in float32, or as torch does such products
            (`torch.set_float32_matmul_precision`).
        i, f: (B, NH, S).
        reverse: the scan runs from the last token to the first.

    Returns:
        h, (B, NH, S, DH), float32.

    Raises:
        ValueError: another dtype, or tensors on the CPU outside Triton's interpreter.
        ImportError: triton is not installed.
    """
    dtypes = {x.dtype for x in (q, k, v)}
    if not dtypes <= {torch.float32, *HALF}:
        raise ValueError(
            "the mLSTM backend 'triton' takes q, k, v in float32, bfloat16 or float16; "
            f"got {', '.join(sorted(map(str, dtypes)))}"
        )
    require_gpu(q)
    if len(dtypes) > 1:
        q, k, v = q.float(), k.float(), v.float()
    return _MLSTM.apply(q, k, v, i.float(), f.float(), eps, reverse)


class _MLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool) -> Tensor:
        q, k, v = same_strides(q, k, v)
        if i.stride() != f.stride():
            i, f = i.contiguous(), f.contiguous()
        B, NH, S, DH = q.shape
        plan = make_plan(S, DH, q.dtype)
        strides = (i.stride(0), i.stride(1), i.stride(2))
        stats, maxima = sum_gates(i, f, (B, NH), strides, plan, reverse)
        states = states_of(k, v, stats, maxima, plan, reverse)
        h = torch.empty(B, NH, S, DH, device=q.device)
        (den,) = hidden(q, k, v, stats, maxima, states, plan, reverse, eps, h)
        ctx.save_for_backward(q, k, v, stats, maxima, h, den)
        ctx.eps, ctx.reverse = eps, reverse
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, stats, maxima, h, den = ctx.saved_tensors
        B, NH, S, DH = q.shape
        plan = make_plan(S, DH, q.dtype)
        dh = saturated(dh, q.dtype)  # first, so that dh . h cancels with dh . v
        # Through the normaliser max(|n . q|, e^-m) + eps, all of it times e^{m - max(m, 0)}.
        m = stats[4]
        floor, one = torch.exp(-m.clamp(min=0)), ctx.eps * torch.exp(m.clamp(max=0))
        inverse = 1 / (torch.maximum(den.abs(), floor) + one)
        dh_h = (dh * h).sum(-1).flatten(0, 1)
        dnormaliser = -(dh_h.flip(1) if ctx.reverse else dh_h) * inverse
        dden = torch.where(den.abs() > floor, dnormaliser * den.sign(), 0)
        sums = torch.empty(5, B * NH, S, device=q.device)
        sums[3] = dnormaliser * one
        if plan.PRECISION == "ieee":  # see `gate_gradients`
            sums[3] = torch.where(m > 0, torch.where(den.abs() > floor, 0, -dnormaliser * floor), sums[3])
        before = states_of(k, v, stats, maxima, plan, ctx.reverse)
        after = States()
        if plan.N > 1:
            read = (inverse, dden)
            after = run_states(q, dh, stats, maxima, plan, ctx.reverse, DH**-0.5, read, before)
        gradients = (torch.empty_like(q), torch.empty_like(k), torch.empty_like(v))
        scan_gradients(
            q, k, v, dh, stats, maxima, inverse, dden, before, after, plan, ctx.reverse, gradients, sums
        )  # fmt: skip
        di, df = torch.empty(2, B, NH, S, device=q.device)
        strides = (di.stride(0), di.stride(1), di.stride(2))
        sum_gate_gradients(stats, sums, after.products, di, df, NH, strides, plan, ctx.reverse)
        return *gradients, di, df, None, None


def saturated(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns `x` in `dtype`, channels side by side; beyond the largest float16 it saturates instead of inf."""
    if dtype == torch.float16:
        largest = torch.finfo(dtype).max
        x = x.clamp(-largest, largest)
    return x.to(dtype).contiguous()


def same_strides(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Returns tensors as they are if they lie alike with channels side by side, such as views of (B, S, NH, DH); else
    copies."""
    if all(x.stride(3) == 1 and x.stride() == tensors[0].stride() for x in tensors):
        return tensors
    return tuple(x.contiguous() for x in tensors)
