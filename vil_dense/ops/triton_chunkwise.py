"""The mLSTM chunk by chunk as Triton kernels, forward and backward: the chunkwise form of `ops/chunkwise.py` on a GPU.

Forward: `scan_states` runs over the chunks and keeps C and n before each; `hidden_states` then treats all chunks at
once. Backward: both states are computed again, `scan_states` runs from the last chunk to the first with the gradients
of C and n, and `query_gradient` and `key_value_gradient` treat all chunks at once. No L x L matrix leaves a kernel.

Gates are small, (B, NH, S), and stay in torch: `_log_weights` says with which logarithm every term enters. The kernels
return the gradients of these logarithms, and autograd carries them on through sums and maxima to i and f.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vil_dense.ops.triton_kernels import INTERPRETED, hidden_states, key_value_gradient, query_gradient, scan_states

CHUNK = 64
HALF = (torch.bfloat16, torch.float16)
BLOCKS = {"tf32": (64, 32), "ieee": (32,)}
"""Of these numbers of channels a program works on the one that leaves least of its last block empty. A product in
float32 has its operands in registers, and with 64 channels the compiler spills them."""
NEVER = -(2.0**100)
"""The logarithm of a weight that is zero; finite, so that differences are numbers."""


def mlstm_triton(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool = False) -> Tensor:
    """The chunkwise form in Triton, for any S and DH; see `ops.mlstm`. It has no second derivative.

    Args:
        q, k, v: (B, NH, S, DH), float32, bfloat16 or float16. Where all three are in half precision, products are in
            tf32, which holds them exactly and what they are multiplied with to 11 bits; otherwise in float32, or as
            torch does such products (`torch.set_float32_matmul_precision`). Sums, states and weights are float32
            always.
        i, f: (B, NH, S).
        reverse: the scan runs from the last token to the first.

    Returns:
        h, (B, NH, S, DH), float32.

    Raises:
        ValueError: another dtype, or tensors on the CPU outside Triton's interpreter.
    """
    dtypes = {x.dtype for x in (q, k, v)}
    if not dtypes <= {torch.float32, *HALF}:
        raise ValueError(
            "the mLSTM backend 'triton' takes q, k, v in float32, bfloat16 or float16; "
            f"got {', '.join(sorted(map(str, dtypes)))}"
        )
    if q.device.type == "cpu" and not INTERPRETED:
        raise ValueError(
            "the mLSTM backend 'triton' needs tensors on a GPU; on the CPU it runs with TRITON_INTERPRET=1 only"
        )
    with torch.cuda.device_of(q):
        return _ChunkwiseMLSTM.apply(q, k, v, i, f, eps, reverse)


class _LogWeights(NamedTuple):
    """Logarithms of weights, float64; (B, NH, T), T = N * CHUNK positions, but `decay`."""

    row: Tensor  # token s weighs e^{row_t + col_s} at token t of the same chunk ...
    col: Tensor
    diagonal: Tensor  # ... and this at s = t, the forget gates having cancelled
    read: Tensor  # of the state before a chunk, at its tokens
    write: Tensor  # of a token, in the state after its chunk
    decay: Tensor  # of the state before a chunk, in the state after it, (B, NH, N)
    floor: Tensor  # e^{-m} of the definition, and 1 of it; as in `ops/recurrent.py` both times e^{m - max(m, 0)}
    one: Tensor


def _log_weights(i: Tensor, f: Tensor, reverse: bool) -> _LogWeights:
    """All weights of the chunkwise form, along the scan.

    With A_t the sum of the log forget gates, token s weighs e^{A_t - A_s + i_s} at t, and m_t = A_t + z_t, where z_t is
    the largest i_s - A_s so far. The state is scaled by e^{-z} of the last token before, so it holds no forget gates.
    Float64, because differences of sums are taken: they are exact even behind a gate of -1e4.
    """
    missing = -i.shape[2] % CHUNK
    i, f = ((x.flip(2) if reverse else x).contiguous() for x in (i, f))  # kernels read rows that follow each other
    i = F.pad(i.double(), (0, missing), value=NEVER)
    A = F.pad(F.logsigmoid(f.double()), (0, missing)).cumsum(2)
    col = i - A
    z = col.cummax(2).values
    m = A + z
    m_out = m.clamp(min=0)
    row = A - m_out
    z_chunk = F.pad(z[:, :, CHUNK - 1 :: CHUNK], (1, 0), value=NEVER)
    z_before, z_after = z_chunk[..., :-1], z_chunk[..., 1:]
    return _LogWeights(
        row=row,
        col=col,
        diagonal=i - m_out,
        read=row + z_before.repeat_interleave(CHUNK, 2),
        write=col - z_after.repeat_interleave(CHUNK, 2),
        decay=z_before - z_after,
        floor=-m_out,
        one=m - m_out,
    )


class _ChunkwiseMLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool) -> Tensor:
        q, k, v = _same_strides(q, k, v)
        B, NH, S, DH = q.shape
        log = _log_weights(i, f, reverse)
        options = _options(q, k, v, reverse)
        write = _exp(log.write) * DH**-0.5
        C, n = _run_states(k, v, write, write, log.decay, options)
        h = torch.empty(B, NH, S, DH, device=q.device)
        den = torch.empty(log.row.shape, device=q.device)
        hidden_states[B * NH, log.decay.shape[2], _blocks(DH, options)](
            q, k, v, C, n, *_split(log.row), *_split(log.col), _exp(log.read), _exp(log.floor), eps * _exp(log.one),
            h, den, DH**-0.5, *q.stride()[:3], NH, S, log.row.shape[2], **options,
        )  # fmt: skip
        ctx.save_for_backward(q, k, v, i, f, h, den)
        ctx.eps, ctx.reverse = eps, reverse
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, i, f, h, den = ctx.saved_tensors
        dh = dh.contiguous()
        with torch.enable_grad():
            i, f = i.detach().requires_grad_(), f.detach().requires_grad_()
            log = _log_weights(i, f, ctx.reverse)
        gradients, dlog = _backward(q, k, v, h, den, dh, _LogWeights(*(x.detach() for x in log)), ctx.eps, ctx.reverse)
        di, df = torch.autograd.grad(log, (i, f), [d.double().view_as(x) for d, x in zip(dlog, log, strict=True)])
        return *gradients, di, df, None, None


def _backward(
    q: Tensor, k: Tensor, v: Tensor, h: Tensor, den: Tensor, dh: Tensor, log: _LogWeights, eps: float, reverse: bool
) -> tuple[list[Tensor], _LogWeights]:
    """Gradients of q, k, v, and of the logarithms of the weights."""
    B, NH, S, DH = q.shape
    T = log.row.shape[2]
    scale = DH**-0.5

    # 1. Through the normaliser. Zeros behind S keep the padding out of all sums below.
    floor, one = _exp(log.floor), eps * _exp(log.one)
    loud = den.abs() > floor
    inverse = F.pad(1 / (torch.maximum(den.abs(), floor) + one)[..., :S], (0, T - S))
    dh_h = (dh * h).sum(-1)
    dnormaliser = F.pad(-(dh_h.flip(2) if reverse else dh_h), (0, T - S)) * inverse
    dden = torch.where(loud, dnormaliser * den.sign(), 0)

    # 2. The states, and their gradients from the last chunk to the first.
    read, write = _exp(log.read), _exp(log.write) * scale
    options = _options(q, k, v, reverse)
    C, n = _run_states(k, v, write, write, log.decay, options)
    dC, dn, ddecay = _run_states(q, dh, read * inverse, read * dden, log.decay, options, C)
    ddecay = (ddecay.sum(-1).view(B, NH, -1) + (n * dn).sum(-1).view(B, NH, -1)) * _exp(log.decay)

    # 3. All chunks at once. Gradients of logarithms come in one part per block of channels.
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    grid = (B * NH, log.decay.shape[2], _blocks(DH, options))
    parts = torch.empty(5, B * NH, grid[2], T, device=q.device)
    weights = (*_split(log.row), *_split(log.col))
    shape = (*q.stride()[:3], NH, S, T)
    query_gradient[grid](
        q, k, v, dh, C, n, *weights, read, inverse, dden, dq, parts[0], parts[1], scale, *shape, **options
    )
    key_value_gradient[grid](
        q, k, v, dh, dC, dn, *weights, write, inverse, dden, dk, dv, parts[2], parts[3], parts[4], scale, *shape,
        **options,
    )  # fmt: skip
    dread, drow, dwrite, dcol, ddiagonal = parts.sum(2)
    dfloor = torch.where(loud, 0, dnormaliser * floor)
    return [dq, dk, dv], _LogWeights(drow, dcol, ddiagonal, dread, dwrite, ddecay, dfloor, dnormaliser * one)


def _run_states(
    x: Tensor,
    y: Tensor,
    x_y: Tensor,
    x_1: Tensor,
    log_decay: Tensor,
    options: dict[str, Any],
    C: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The state before each chunk: C, (B * NH, N, DH, DH), a sum of x y^T, and n, (B * NH, N, DH), a sum of x.

    x_y and x_1 are the weights of these sums. Where C is given, the scan runs backward, what comes out is the state
    after each chunk, and with it the parts of its scalar product with C.
    """
    B, NH, S, DH = x.shape
    N = log_decay.shape[2]
    blocks = _blocks(DH, options)
    state = torch.empty(B * NH, N, DH, DH, device=x.device)
    n = torch.empty(B * NH, N, DH, device=x.device)
    product = torch.empty(B * NH, N, blocks * blocks, device=x.device)
    scan_states[B * NH, blocks, blocks](
        x, y, x_y, x_1, _exp(log_decay), state if C is None else C, state, n, product,
        *x.stride()[:3], *y.stride()[:3], NH, S, N, BACKWARD=C is not None, **options,
    )  # fmt: skip
    return (state, n) if C is None else (state, n, product)


def _exp(x: Tensor) -> Tensor:
    return x.exp().float()


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """A float64 tensor as the sum of two in float32: large numbers with it can be subtracted without float64 units."""
    high = x.float()
    return high, (x - high.double()).float()


def _same_strides(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as they are if they lie alike with channels side by side, such as views of (B, S, NH, DH); else
    copies."""
    if all(x.stride(3) == 1 and x.stride() == tensors[0].stride() for x in tensors):
        return tensors
    return tuple(x.contiguous() for x in tensors)


def _options(q: Tensor, k: Tensor, v: Tensor, reverse: bool) -> dict[str, Any]:
    """What kernels are compiled for, and how."""
    DH = q.shape[3]
    half = all(x.dtype in HALF for x in (q, k, v))
    precision = "ieee" if not half and torch.get_float32_matmul_precision() == "highest" else "tf32"
    return dict(
        DH=DH,
        BD=min(BLOCKS[precision], key=lambda block: -(-DH // block) * block) if DH > 16 else 16,
        L=CHUNK,
        REVERSE=reverse,
        PRECISION=precision,
        num_warps=8,
        num_stages=1,
        enable_fp_fusion=True,
    )


def _blocks(DH: int, options: dict[str, Any]) -> int:
    return -(-DH // int(options["BD"]))
