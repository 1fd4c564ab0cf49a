"""The mLSTM cell, fused: everything between the up- and the down-projection of a ViL layer, for one traversal.

The plain form is `layers.vil`: modules that are called one after another. This form computes the same numbers segment by
segment, so that q, k, v and h of a whole sequence never exist at once; compiled, a segment is a few loops beside its
matrix products. In training it keeps nothing but its input and is computed again in the backward pass.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vil_dense.ops.chunkwise import GateWeights, State, chunk_outputs, run_segments
from vil_dense.ops.compiled import compiled
from vil_dense.ops.mlstm import EPS
from vil_dense.ops.operators import register

NUM_HEADS = 4
QKV_BLOCK = 4
BATCH_TOKENS = 2048
"""Largest number of tokens of several short sequences that are processed together on a CPU."""


class CellWeights(NamedTuple):
    """Holds the parameters of a cell, E = 4 * DH channels, in the channel order of `layers.vil.BlockDiagonalLinear`."""

    conv: Tensor  # (E, 1, *kernel): one axis for a causal convolution (v1), those of the grid otherwise (v2)
    conv_bias: Tensor | None  # (E), and so are all biases but those of the gates
    q: Tensor  # (NH, 4 in, 4 out, DH / 4), and so are k and v
    q_bias: Tensor | None
    k: Tensor
    k_bias: Tensor | None
    v: Tensor
    v_bias: Tensor | None
    igate: Tensor  # (NH, 3 * E), and so is fgate
    igate_bias: Tensor  # (NH)
    fgate: Tensor
    fgate_bias: Tensor
    norm: Tensor  # (E)
    norm_bias: Tensor | None
    skip: Tensor  # (E)


class SegmentWeights(NamedTuple):
    """Holds the parameters that a segment reads, float32 or float64."""

    maps: Tensor  # (3 of q, k, v; NH; 4 in; 4 out; DH / 4)
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
    reverse: bool,
    backend: str,
    compile: bool,
) -> Tensor:
    """Computes the gated output of one traversal, (B, *grid, E), in the dtype of `up`.

    Args:
        up: (B, *grid, 2 * E), u and z side by side, the tokens in row-major order of the traversal.
        conv ... skip: the fields of `CellWeights`; a kernel on the grid is given in the frame of the traversal, too.
        reverse: the traversal runs from the last token to the first.
        backend: `chunkwise` or `triton`.
        compile: compiles what a segment does.
    """
    weights = CellWeights(
        conv, conv_bias, q, q_bias, k, k_bias, v, v_bias, igate, igate_bias, fgate, fgate_bias, norm, norm_bias, skip
    )
    prepared, gate_maps = _prepare(weights)
    batch = max(1, BATCH_TOKENS // up[0, ..., 0].numel()) if up.device.type == "cpu" else up.shape[0]
    parts = [_cell(part, weights, prepared, gate_maps, reverse, compile) for part in up.split(batch)]
    return (torch.cat(parts) if len(parts) > 1 else parts[0]).contiguous()


def _empty_output(up: Tensor, *args: object) -> Tensor:
    return up.new_empty(*up.shape[:-1], up.shape[-1] // 2)


cell_operator = register("cell", cell, _empty_output)
"""`cell` as one node for torch.compile; for the backward pass nothing but its inputs is saved."""


def _cell(
    up: Tensor,
    weights: CellWeights,
    prepared: SegmentWeights,
    gate_maps: tuple[Tensor, Tensor],
    reverse: bool,
    compile: bool,
) -> Tensor:
    B, grid, E = up.shape[0], up.shape[1:-1], up.shape[-1] // 2
    u, z = up.split(E, -1)
    c = F.silu(convolve(u, weights.conv, weights.conv_bias, reverse))
    u, z, c = (x.flatten(1, -2) for x in (u, z, c))
    i, f = gates(u, c, *gate_maps)
    process = compiled(_segment, _DYNAMIC_AXES) if compile else _segment

    def step(tensors: Sequence[Tensor], gates: GateWeights, state: State | None) -> tuple[Tensor, State]:
        return process(*tensors, prepared, gates, state)

    parts = run_segments(step, (u, c, z), i, f, EPS, reverse)
    y = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
    return y.unflatten(1, grid)


def convolve(u: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool) -> Tensor:
    """Computes the depthwise convolution of (B, *grid, E), along the traversal or on the grid; channels stay last."""
    weight, bias = weight.to(u.dtype), None if bias is None else bias.to(u.dtype)
    if weight.ndim == 3 and u.ndim > 3:
        return convolve(u.flatten(1, -2), weight, bias, reverse).unflatten(1, u.shape[1:-1])
    x = u.movedim(-1, 1)
    if weight.ndim == 3:
        lead = weight.shape[-1] - 1
        x = F.pad(x, (0, lead) if reverse else (lead, 0))
        # As a picture of one row: torch keeps channels last there.
        y = F.conv2d(x.unsqueeze(2), (weight.flip(-1) if reverse else weight).unsqueeze(2), bias, groups=u.shape[-1])
        return y.squeeze(2).movedim(1, -1)
    function = {4: F.conv2d, 5: F.conv3d}[weight.ndim]
    return function(x, weight, bias, padding=weight.shape[-1] // 2, groups=u.shape[-1]).movedim(1, -1)


def gates(u: Tensor, c: Tensor, maps: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the gate pre-activations i and f, (NH * B, S) each, in float32 or float64 from u and c, (B, S, E)."""
    B, S = u.shape[:2]
    of_c = torch.addmm(bias, maps[0], c.reshape(B * S, -1).to(bias.dtype).mT)
    i, f = torch.addmm(of_c, maps[1], u.reshape(B * S, -1).to(bias.dtype).mT).view(2, -1, S)
    return i, f


def fold_gates(weights: CellWeights) -> tuple[Tensor, Tensor]:
    """Returns maps (2 of c, u; 2 * NH; E) and biases (2 * NH, 1) that give i and f from c and u.

    The gates read (q, k, v) = (Q c + b_q, K c + b_k, V u + b_v), which is linear in c and u:
    W (q, k, v) + b = (W_q Q + W_k K) c + W_v V u + (W_q b_q + W_k b_k + W_v b_v + b).
    """
    dtype = torch.promote_types(weights.skip.dtype, torch.float32)
    W = torch.cat([weights.igate, weights.fgate]).to(dtype)
    maps = torch.stack([weights.q, weights.k, weights.v]).to(dtype)
    # Gates g, maps m, heads h, channels of a block: out o, in i; blocks d of a head.
    of_q, of_k, of_v = torch.einsum("gmhod,mhiod->mghid", W.unflatten(1, (3, NUM_HEADS, QKV_BLOCK, -1)), maps).flatten(
        2
    )
    bias = torch.cat([weights.igate_bias, weights.fgate_bias]).to(dtype)
    for part, b in zip(W.chunk(3, 1), (weights.q_bias, weights.k_bias, weights.v_bias), strict=True):
        if b is not None:
            bias = torch.addmv(bias, part, b.to(dtype))
    return torch.stack([of_q + of_k, of_v]), bias[:, None]


def _prepare(weights: CellWeights) -> tuple[SegmentWeights, tuple[Tensor, Tensor]]:
    zeros = torch.zeros_like(weights.skip)
    dtype = torch.promote_types(zeros.dtype, torch.float32)
    maps = torch.stack([weights.q, weights.k, weights.v]).to(dtype)
    biases = [zeros if bias is None else bias for bias in (weights.q_bias, weights.k_bias, weights.v_bias)]
    norm_bias = zeros if weights.norm_bias is None else weights.norm_bias
    segment = SegmentWeights(
        maps,
        torch.stack(biases).to(dtype).unflatten(1, (NUM_HEADS, QKV_BLOCK, -1)),
        torch.stack([weights.norm, norm_bias, weights.skip]).to(dtype),
    )
    return segment, fold_gates(weights)


def _segment(
    u: Tensor, c: Tensor, z: Tensor, weights: SegmentWeights, gates: GateWeights, state: State | None
) -> tuple[Tensor, State]:
    """Computes the gated output of a segment, (B, N, L, E), and the state after it; u, c, z are (B, N, L, E)."""
    inputs = zip((c, c, u), weights.maps, weights.map_biases, strict=True)
    q, k, v = (block_diagonal(x, maps, bias).flatten(0, 1) for x, maps, bias in inputs)
    h, state = chunk_outputs(q, k, v, gates, state)
    norm, norm_bias, skip = weights.vectors
    h = F.layer_norm(h, h.shape[-1:], eps=1e-5).unflatten(0, (NUM_HEADS, -1)).permute(1, 2, 3, 0, 4).flatten(-2)
    return ((h * norm + norm_bias + skip * c) * F.silu(z.to(h.dtype))).to(z.dtype), state


_DYNAMIC_AXES = (
    *[(0, 1, 2)] * 3,
    SegmentWeights((), (), ()),
    GateWeights((1, 2, 3), (0, 1), (0, 1), (0, 1), (0, 1)),  # type: ignore[arg-type]
    ((0,), (0,)),
)
"""Of the arguments of `_segment`."""


def block_diagonal(x: Tensor, maps: Tensor, bias: Tensor) -> Tensor:
    """Applies a block-diagonal map to (B, N, L, E) and returns heads, (NH, B, N, L, DH), in the dtype of x.

    Args:
        maps: (NH, 4 in, 4 out, DH / 4).
        bias: (NH, 4 out, DH / 4).
    """
    if not torch.compiler.is_compiling():  # without fusion, a product with mostly zeros takes less time
        dense = torch.diag_embed(maps.to(x.dtype)).transpose(2, 3).reshape(NUM_HEADS, x.shape[-1] // NUM_HEADS, -1)
        heads = x.reshape(-1, NUM_HEADS, dense.shape[1]).transpose(0, 1)
        y = torch.baddbmm(bias.to(x.dtype).flatten(1)[:, None], heads, dense)
        return y.unflatten(1, x.shape[:-1])
    heads = x.unflatten(-1, (NUM_HEADS, QKV_BLOCK, -1)).permute(3, 0, 1, 2, 4, 5)
    y = bias[:, None, None, None]
    for row, of_row in zip(heads.unbind(-2), maps.unbind(1), strict=True):
        y = y + row[..., None, :] * of_row[:, None, None, None]
    return y.flatten(-2).to(x.dtype)
