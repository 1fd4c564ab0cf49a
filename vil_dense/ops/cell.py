"""Computes the fused mLSTM cell: all between the up- and the down-projection of a ViL layer, for one traversal.

The plain form is `layers.vil`: modules that are called one after another. This form computes the same numbers segment
by segment, so that q, k, v and h of a whole sequence never exist at once; compiled, a segment is a few loops and its
matrix products. In training it saves only its input and is recomputed in the backward pass.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vil_dense.ops import chunkwise
from vil_dense.ops.cell_weights import NUM_HEADS, QKV_BLOCK, CellWeights
from vil_dense.ops.chunkwise import (
    CPU_CHUNKS,
    GPU_CHUNKS,
    GateFactors,
    State,
    chunk_outputs,
    chunk_shape,
    gate_factors,
    on_gpu,
    run_segments,
    scan_order,
)
from vil_dense.ops.compiled import compiled
from vil_dense.ops.gpu.projected import cell_triton, cell_triton_gradients
from vil_dense.ops.linear import linear
from vil_dense.ops.mlstm import EPS, widen
from vil_dense.ops.operators import register


class SegmentWeights(NamedTuple):
    """Holds the parameters that a segment reads, float32 or float64."""

    maps: Tensor  # (3 of q, k, v; 4 in; 4 out; NH; DH / 4)
    map_biases: Tensor  # (3, NH, 4 out, DH / 4)
    vectors: Tensor  # (3 of norm, its bias, skip; E)


def cell(
    up: Tensor,
    conv: Tensor,
    conv_bias: Tensor | None,
    q: Tensor,
    q_bias: Tensor | None,
    k: Tensor,
    k_bias: Tensor | None,
    v: Tensor,
    v_bias: Tensor | None,
    igate: Tensor,
    igate_bias: Tensor,
    fgate: Tensor,
    fgate_bias: Tensor,
    norm: Tensor,
    norm_bias: Tensor | None,
    skip: Tensor,
    down: Tensor | None,
    down_bias: Tensor | None,
    reverse: bool,
    backend: str,
    compile: bool,
) -> Tensor:
    """Computes the gated output of one traversal, (B, *grid, E), or its down-projection, (B, *grid, C).

    The result has the dtype of `up`.

    Args:
        up: (B, *grid, 2 * E), u and z side by side, permuted to the frame of the traversal (`to_frame`), not reversed.
        conv ... skip: the fields of `CellWeights`; a kernel on the grid is given in the frame of the traversal, too.
        down, down_bias: the down-projection, (C, E) and (C); None to leave it to the caller.
        reverse: the traversal runs from the last token to the first.
        backend: `chunkwise` or `triton`.
        compile: compiles what a segment does; nothing for `triton`, whose kernels are compiled in any case.
    """
    weights = CellWeights(
        conv, conv_bias, q, q_bias, k, k_bias, v, v_bias, igate, igate_bias, fgate, fgate_bias, norm, norm_bias, skip
    )
    dtype = up.dtype
    if dtype == torch.float16 and backend != "triton":  # its sums over tokens can overflow
        up = widen(up, torch.float32)
    if down is not None:
        down, down_bias = down.to(up.dtype), None if down_bias is None else down_bias.to(up.dtype)
    if backend == "triton":
        y = cell_triton(up, weights, reverse)
        return y if down is None else F.linear(y, down, down_bias)
    groups = 1 if on_gpu(up) else -(-up.shape[:-1].numel() // segment_tokens())
    parts = []
    for part in up.split(max(1, -(-len(up) // max(1, groups)))):
        y = _cell(part, weights, reverse, compile)
        parts.append(y if down is None else linear(y, down, down_bias))
    return (torch.cat(parts) if len(parts) > 1 else parts[0]).to(dtype).contiguous()


def _empty_output(up: Tensor, *args: Any) -> Tensor:
    down = args[len(CellWeights._fields)]
    return up.new_empty(*up.shape[:-1], up.shape[-1] // 2 if down is None else down.shape[0])


def _gradients(gradient: Tensor, up: Tensor, *args: Any) -> list[Tensor] | None:
    """Returns the gradients of all tensors for the backend `triton`; None for others, which autograd differentiates."""
    *parameters, down, down_bias, reverse, backend, _ = args
    if backend != "triton":
        return None
    return cell_triton_gradients(gradient, up, CellWeights(*parameters), down, down_bias, reverse)


cell_operator = register("cell", cell, _empty_output, _gradients)
"""`cell` as one node for torch.compile; for the backward pass nothing but its inputs is saved."""


def _cell(up: Tensor, weights: CellWeights, reverse: bool, compile: bool) -> Tensor:
    grid, E = up.shape[1:-1], up.shape[-1] // 2
    order = scan_order(*chunk_shape(grid.numel()), reverse, up.device)
    u, z = up.split(E, -1)  # once: the gradient of each slice would be as long as u and z together
    # Not compiled: torch's compiler makes a graph of the convolution's backward pass for each width of the grid.
    c = convolve(u, centred_kernel(weights.conv, reverse), weights.conv_bias).flatten(1, -2)
    u, z = u.flatten(1, -2), z.flatten(1, -2)
    prepare, process = _prepare, _segment
    if compile:
        prepare, process = compiled(_prepare, _PREPARE_AXES), compiled(_segment, _SEGMENT_AXES)
    c, gates, prepared = prepare(u, c, weights, order)

    def step(
        u: Tensor, c: Tensor, z: Tensor, gates: GateFactors, state: State | None, last: bool
    ) -> tuple[Tensor, State | None]:
        if compile and u.stride(-2) != 2 * E:  # padding made a copy, and torch.compile guards on strides
            u, z = torch.cat([u, z], -1).split(E, -1)
        if compile and len(u) == 1:  # torch.compile guards on the stride of an axis of one: a second graph
            u, c, z = (x.squeeze(0).unsqueeze(0) for x in (u, c, z))
        if compile and not (last and state is None):  # first, middle and last segments share one graph
            state, last = state or _no_state(gates.tokens, E // NUM_HEADS), False
        return process(u, c, z, prepared, gates, state, last)

    parts = run_segments(step, (u, c, z), gates, reverse, most_chunks(order.shape[1] * len(u), u))
    y = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
    return y.unflatten(1, grid)


def segment_tokens() -> int:
    """Returns the largest number of tokens of all sequences in a segment on a CPU."""
    return chunkwise.TOKENS_PER_THREAD * torch.get_num_threads()


def most_chunks(tokens: int, x: Tensor) -> int:
    """Returns the number of chunks in a segment, where a chunk of all sequences has `tokens`, on the device of `x`."""
    return GPU_CHUNKS if on_gpu(x) else min(CPU_CHUNKS, max(1, segment_tokens() // max(1, tokens)))


def _no_state(tokens: Tensor, DH: int) -> State:
    """Returns the state before the first token, for the heads of `tokens` (8, H, N, L)."""
    sizes = (tokens.shape[1], DH, DH), (tokens.shape[1], DH)
    C, n = (tokens.new_zeros(size, requires_grad=tokens.requires_grad) for size in sizes)
    return C, n


def _prepare(
    u: Tensor, c: Tensor, weights: CellWeights, order: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], SegmentWeights]:
    """Computes what needs the whole sequence: c (B, S, E), the factors of the gates, and the weights of segments.

    Args:
        u: (B, S, E).
        c: the result of the convolution, (B, S, E), before its activation.
        weights: those of the convolution are not read.
        order: see `scan_order`.
    """
    c = F.silu(c)
    i, f = gate_preactivations(u, c, *fold_gates(weights))
    zeros = torch.zeros_like(weights.skip)
    dtype = torch.promote_types(zeros.dtype, torch.float32)
    biases = [zeros if bias is None else bias for bias in (weights.q_bias, weights.k_bias, weights.v_bias)]
    norm_bias = zeros if weights.norm_bias is None else weights.norm_bias
    segment = SegmentWeights(
        torch.stack([weights.q, weights.k, weights.v]).to(dtype).unflatten(-1, (NUM_HEADS, -1)),
        torch.stack(biases).to(dtype).unflatten(1, (NUM_HEADS, QKV_BLOCK, -1)),
        torch.stack([weights.norm, norm_bias, weights.skip]).to(dtype),
    )
    return c, gate_factors(i, f, order, EPS), segment


def centred_kernel(weight: Tensor, reverse: bool) -> Tensor:
    """Returns a kernel of odd size, contiguous, for a convolution that keeps the size.

    A causal one of k taps, (E, 1, k), gets zeros for the k - 1 tokens that come later in the traversal.
    """
    if weight.ndim > 3:
        return weight.contiguous()
    later = weight.shape[-1] - 1
    return F.pad(weight.flip(-1), (later, 0)) if reverse else F.pad(weight, (0, later))


def convolve(u: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Computes the depthwise convolution of (B, *grid, E) by a centred kernel; channels stay last.

    A kernel (E, 1, k) runs along the sequence of tokens, others over the grid. The result has the dtype of u.
    """
    # Where oneDNN has no convolution in bfloat16, the sums of torch's own gradients are in bfloat16.
    x = u.float() if u.dtype == torch.bfloat16 and u.device.type == "cpu" and not _onednn_takes_bfloat16() else u
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if weight.ndim == 3:  # as a picture of one row: conv1d does not keep channels last
        x, weight = x.flatten(1, -2).unsqueeze(1), weight.unsqueeze(2)
    function = {4: F.conv2d, 5: F.conv3d}[weight.ndim]
    padding = [size // 2 for size in weight.shape[2:]]
    c = function(x.movedim(-1, 1), weight, bias, padding=padding, groups=x.shape[-1]).movedim(1, -1)
    return c.view(u.shape).to(u.dtype)


@cache
def _onednn_takes_bfloat16() -> bool:
    """Returns whether oneDNN multiplies in bfloat16 on this CPU, which takes AVX-512 or more."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def gate_preactivations(u: Tensor, c: Tensor, maps: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the gate pre-activations i and f, (NH * B, S) each, in float32 or float64 from u and c, (B, S, E)."""
    B, S = u.shape[:2]
    of_c = torch.addmm(bias, maps[0], c.reshape(B * S, maps.shape[-1]).to(bias.dtype).mT)
    i, f = torch.addmm(of_c, maps[1], u.reshape(B * S, maps.shape[-1]).to(bias.dtype).mT).view(2, NUM_HEADS * B, S)
    return i, f


def fold_gates(weights: CellWeights) -> tuple[Tensor, Tensor]:
    """Returns maps (2 of c, u; 2 * NH; E) and biases (2 * NH, 1) that give i and f from c and u.

    The gates read (q, k, v) = (Q c + b_q, K c + b_k, V u + b_v), which is linear in c and u:
    W (q, k, v) + b = (W_q Q + W_k K) c + W_v V u + (W_q b_q + W_k b_k + W_v b_v + b).
    """
    dtype = torch.promote_types(weights.skip.dtype, torch.float32)
    W = torch.cat([weights.igate, weights.fgate]).to(dtype)
    maps = torch.stack([weights.q, weights.k, weights.v]).to(dtype)
    maps = maps.unflatten(-1, (NUM_HEADS, -1))
    # Gates g, maps m, heads h, channels of a block: out o, in i; blocks d of a head.
    of_q, of_k, of_v = torch.einsum("gmhod,miohd->mghid", W.unflatten(1, (3, NUM_HEADS, QKV_BLOCK, -1)), maps).flatten(
        2
    )
    bias = torch.cat([weights.igate_bias, weights.fgate_bias]).to(dtype)
    for part, b in zip(W.chunk(3, 1), (weights.q_bias, weights.k_bias, weights.v_bias), strict=True):
        if b is not None:
            bias = torch.addmv(bias, part, b.to(dtype))
    return torch.stack([of_q + of_k, of_v]), bias[:, None]


def _segment(
    u: Tensor, c: Tensor, z: Tensor, weights: SegmentWeights, gates: GateFactors, state: State | None, last: bool
) -> tuple[Tensor, State | None]:
    """Computes the gated output of a segment, (B, N, L, E), and the state after it; u, c, z are (B, N, L, E)."""
    B, N, L = u.shape[:3]
    H, *chunks = gates.tokens.shape[1:]
    if (H, *chunks) != (NUM_HEADS * B, N, L):  # tells a compiler, too, that these are equal
        raise ValueError(f"the gates are of {H} heads and {chunks} chunks, the tokens {(NUM_HEADS * B, N, L)}")
    inputs = zip((c, c, u), weights.maps, weights.map_biases, strict=True)
    q, k, v = (block_diagonal(x, maps, bias).flatten(0, 1) for x, maps, bias in inputs)
    h, state = chunk_outputs(q, k, v, gates, state, last)
    norm, norm_bias, skip = weights.vectors
    h = F.layer_norm(h, h.shape[-1:], eps=1e-5).unflatten(0, (NUM_HEADS, u.shape[0])).permute(1, 2, 3, 0, 4).flatten(-2)
    h = torch.addcmul(torch.addcmul(norm_bias, h, norm), c.to(h.dtype), skip)
    return (h * F.silu(z.to(h.dtype))).to(z.dtype), state


_PREPARE_AXES = (0, 1), (0, 1), ((),) * len(CellWeights._fields), (0, 1)
_SEGMENT_AXES = (
    *[(0, 1, 2)] * 3,
    ((), (), ()),
    ((1, 2, 3), (0, 1), (0, 1), (0, 1), (0, 1)),
    ((0,), (0,)),
    (),
)
"""The axes of the arguments of `_prepare` and `_segment` whose sizes change from call to call."""


def block_diagonal(x: Tensor, maps: Tensor, bias: Tensor) -> Tensor:
    """Applies a block-diagonal map to (B, N, L, E) and returns heads, (NH, B, N, L, DH), in the dtype of x.

    Args:
        maps: (4 in, 4 out, NH, DH / 4).
        bias: (NH, 4 out, DH / 4).
    """
    if not torch.compiler.is_compiling():  # without fusion, a product with mostly zeros takes less time
        dense = (
            torch.diag_embed(maps.to(x.dtype)).permute(2, 0, 3, 1, 4).reshape(NUM_HEADS, x.shape[-1] // NUM_HEADS, -1)
        )
        heads = x.flatten(0, -2).unflatten(-1, (NUM_HEADS, dense.shape[1])).transpose(0, 1)
        y = torch.baddbmm(bias.to(x.dtype).flatten(1)[:, None], heads, dense)
        return y.unflatten(1, x.shape[:-1])
    heads = x.unflatten(-1, (NUM_HEADS, QKV_BLOCK, -1)).permute(3, 0, 1, 2, 4, 5)
    y = bias[:, None, None, None]
    for row, of_row in zip(heads.unbind(-2), maps.unbind(0), strict=True):
        y = y + row[..., None, :] * of_row.transpose(0, 1)[:, None, None, None]
    # Stored before axes are joined: the compiled loop would index a joined axis by an integer division.
    return y.to(x.dtype).contiguous().flatten(-2)
