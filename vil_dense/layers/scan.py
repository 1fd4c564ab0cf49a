"""One pass of the mLSTM over a grid, from the up-projection to the gated output, in few and fused steps.

Channels E are kept grouped here: inside each head the four channels of every block of the block-diagonal q, k and v
maps lie DH / 4 apart instead of side by side. Compiled, these maps are then element-wise products of whole rows.
Weights are brought into this order at each call; parameters keep the published one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.layers.compiled import any_size, compiled
from vil_dense.layers.embed import CONVS
from vil_dense.ops import ORDERS, frame_axes, mlstm
from vil_dense.ops.chunkwise import Places, State, cut, mlstm_segment, scan
from vil_dense.ops.mlstm import EPS, widen

NUM_HEADS = 4
QKV_BLOCK = 4
CONV_KINDS = ("causal", "grid")


def grouped(x: Tensor) -> Tensor:
    """(E, ...) -> (E, ...), the channels of the first axis in grouped order."""
    return x.unflatten(0, (NUM_HEADS, -1, QKV_BLOCK)).transpose(1, 2).flatten(0, 2)


class BlockDiagonalLinear(nn.Module):
    """The weights of a linear map that mixes channels in blocks of `QKV_BLOCK` only: (E / 4, 4 out, 4 in) and (E)."""

    def __init__(self, dim: int, bias: bool, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim // QKV_BLOCK, QKV_BLOCK, QKV_BLOCK) * std)
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None


class HeadNorm(nn.Module):
    """The weights of a layer normalisation of each head by itself, (E)."""

    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None


class Weights(NamedTuple):
    """What a segment needs of a scan's parameters, channels grouped, float32 or better."""

    gates: Tensor  # (2 of c, u; 2 NH of i, f; E): gates read q, k and v, and these are linear in c and u
    gates_bias: Tensor  # (2 NH, 1)
    maps: Tensor  # (3 of q, k, v; NH; 4 in; 4 out; DH / 4)
    maps_bias: Tensor  # (3, NH, 4 out, DH / 4)
    vectors: Tensor  # (4 of norm, its bias, skip, the bias of z; E)


def block_diagonal(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(N, L, E) -> heads (NH, N, L, DH); weight (NH, 4 in, 4 out, DH / 4) and bias (NH, 4 out, DH / 4)."""
    if not torch.compiler.is_compiling():  # unfused, many passes over x cost more than a product with mostly zeros
        dense = torch.diag_embed(weight).transpose(2, 3).reshape(NUM_HEADS, x.shape[-1] // NUM_HEADS, -1)
        heads = x.flatten(0, 1).unflatten(-1, (NUM_HEADS, -1)).transpose(0, 1)
        return torch.baddbmm(bias.flatten(1)[:, None], heads, dense).unflatten(1, x.shape[:2])
    x = x.unflatten(-1, (NUM_HEADS, QKV_BLOCK, -1)).permute(2, 0, 1, 3, 4)
    y = bias[:, None, None]
    for row, of_row in zip(x.unbind(-2), weight.unbind(1), strict=True):  # their gradient is no scattering
        y = y + row[..., None, :] * of_row[:, None, None]
    return y.flatten(-2)


class Inputs(NamedTuple):
    """Of the mLSTM: q, k, v (NH, N, L, DH), i, f (NH, N, L), float32 or better."""

    q: Tensor
    k: Tensor
    v: Tensor
    i: Tensor
    f: Tensor


def enter(u: Tensor, c: Tensor, weights: Weights) -> tuple[Inputs, Tensor]:
    """Inputs of the mLSTM, and c after its activation; from u and c (N, L, E), what is read and its convolution."""
    N, L, E = u.shape
    u, c = u.to(weights.maps.dtype), F.silu(c.to(weights.maps.dtype))
    # Gates come first in the product, so that those of a head lie side by side.
    of_c = torch.addmm(weights.gates_bias, weights.gates[0], c.reshape(N * L, E).mT)
    i, f = torch.addmm(of_c, weights.gates[1], u.reshape(N * L, E).mT).view(2, NUM_HEADS, N, L)
    pairs = zip((c, c, u), weights.maps, weights.maps_bias, strict=True)
    q, k, v = (block_diagonal(x, weight, bias) for x, weight, bias in pairs)
    return Inputs(q, k, v, i, f), c


def leave(h: Tensor, c: Tensor, z: Tensor, weights: Weights) -> Tensor:
    """Gated outputs (N, L, E) in the dtype of z, from hidden states h (NH, N, L, DH), c of `enter`, and z (N, L, E)."""
    norm, norm_bias, skip, z_bias = weights.vectors
    h = F.layer_norm(h, h.shape[-1:], eps=1e-5).permute(1, 2, 0, 3).flatten(2)
    return ((h * norm + norm_bias + skip * c) * F.silu(z.to(h.dtype) + z_bias)).to(z.dtype)


def scan_segment(
    u: Tensor, c: Tensor, z: Tensor, weights: Weights, places: Places, state: State | None
) -> tuple[Tensor, State]:
    """`enter`, the mLSTM on the chunks of `places`, `leave`: gated outputs and the state after them.

    u, c, z are (B, N, L, E): sequences that share the places of their chunks.
    """
    B, N = u.shape[:2]
    u, c, z = (x.flatten(0, 1) for x in (u, c, z))
    inputs, c = enter(u, c, weights)
    inputs = Inputs(*(x.unflatten(1, (B, N)).flatten(0, 1) for x in inputs))  # heads of all are heads of one
    h, state = mlstm_segment(*inputs, places, state, EPS)
    return leave(h.unflatten(0, (NUM_HEADS, B)).flatten(1, 2), c, z, weights).unflatten(0, (B, N)), state


def at_once(B: int, device: torch.device) -> int:
    """How many of B sequences a segment takes side by side.

    All on a GPU, where a step is a few large kernels then. On a CPU one after the other, so that what a segment makes
    stays in the caches.
    """
    return 1 if device.type == "cpu" else B


class Scan(nn.Module):
    """Convolution, q k v, gates, mLSTM, head norm, skip and gate; u, z (B, *grid', E) -> (B, *grid', E).

    Grids are in the frame of the pass's order, channels grouped. z comes without its bias: it is added where z is read.
    A `grid` convolution acts in the image's own frame, whatever the order of the pass; a `causal` one runs along it.
    """

    def __init__(
        self, dim: int, ndim: int, *, conv: str, conv_kernel: int, bias: bool, norm_bias: bool, std: float, backend: str
    ) -> None:
        super().__init__()
        self.causal = conv == "causal"
        self.backend = backend
        self.compiled = False
        self.conv = CONVS[1 if self.causal else ndim](dim, dim, conv_kernel, groups=dim)
        self.q_proj = BlockDiagonalLinear(dim, bias, std)
        self.k_proj = BlockDiagonalLinear(dim, bias, std)
        self.v_proj = BlockDiagonalLinear(dim, bias, std)
        self.igate = nn.Linear(3 * dim, NUM_HEADS)
        self.fgate = nn.Linear(3 * dim, NUM_HEADS)
        self.outnorm = HeadNorm(dim, norm_bias)
        self.skip = nn.Parameter(torch.ones(dim))
        for gate in (self.igate, self.fgate):
            nn.init.zeros_(gate.weight)
        nn.init.normal_(self.igate.bias, std=0.1)
        self.fgate.bias.data.copy_(torch.linspace(3, 6, NUM_HEADS))

    def forward(self, u: Tensor, z: Tensor, z_bias: Tensor | None, order: str) -> Tensor:
        grid, dtype = u.shape[1:-1], u.dtype
        tokens = [x.flatten(1, -2) for x in (u, self._convolve(u, order), z)]
        if dtype == torch.float16:
            tokens = [widen(x, torch.float32) for x in tokens]
        run = self._run_chunks if self.backend == "chunkwise" else self._run_whole
        with torch.autocast(u.device.type, enabled=False):
            y = run(tokens, self._weights(z_bias), ORDERS[order].reverse)
        return y.to(dtype).unflatten(1, grid)

    def _run_chunks(self, tokens: list[Tensor], weights: Weights, reverse: bool) -> Tensor:
        B, S, E = tokens[0].shape
        N, L = cut(S)
        if missing := N * L - S:
            tokens = [F.pad(x, (0, 0, 0, missing)) for x in tokens]
        side_by_side = at_once(B, tokens[0].device)
        tokens = [x.reshape(side_by_side, -1, L, E) for x in tokens]
        segment = self._fused(scan_segment)

        def run(inputs: list[Tensor], places: Places, state: State | None) -> tuple[Tensor, State]:
            for x in (places.chunks, places.sequence):
                any_size(x, 0)
            for x in (places.future, places.missing):
                any_size(x, 0, 1)
            for x in state or ():
                any_size(x, *([0] if side_by_side > 1 else []))
            # With the strides of its shape: others would ask for graphs of their own.
            inputs = [x.contiguous() if side_by_side > 1 else x.squeeze(0).unsqueeze(0) for x in inputs]
            return segment(*(any_size(x, 0, 1, 2) for x in inputs), weights, places, state)

        parts = scan(run, tokens, S, E // NUM_HEADS, reverse)
        y = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return y.reshape(B, N * L, E)[:, :S]

    def _run_whole(self, tokens: list[Tensor], weights: Weights, reverse: bool) -> Tensor:
        u, c, z = (any_size(x, 0, 1) for x in tokens)
        inputs, c = self._fused(enter)(u, c, weights)
        h = mlstm(*(x.transpose(0, 1) for x in inputs), reverse=reverse, backend=self.backend).transpose(0, 1)
        return self._fused(leave)(any_size(h, 1, 2), any_size(c, 0, 1), z, weights)

    def _fused(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return compiled(function) if self.compiled else function

    def _weights(self, z_bias: Tensor | None) -> Weights:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        zeros = torch.zeros_like(self.skip)
        vectors = [*(x.bias for x in projections), self.outnorm.weight, self.outnorm.bias, self.skip]
        dtype = torch.promote_types(self.skip.dtype, torch.float32)
        # Heads h, blocks d of a head, and in a block channels o out, i in.
        maps = torch.stack([x.weight for x in projections]).to(dtype).unflatten(1, (NUM_HEADS, -1))
        rows = torch.stack([zeros if vector is None else vector for vector in vectors]).to(dtype)
        gates = torch.cat([self.igate.weight, self.fgate.weight]).to(dtype)
        gates_bias = torch.cat([self.igate.bias, self.fgate.bias]).to(dtype)
        gates_bias = torch.addmv(gates_bias, gates, rows[:3].flatten())
        gates = gates.unflatten(1, (3, NUM_HEADS, -1, QKV_BLOCK))
        of_q, of_k, of_v = torch.einsum("gmhdo,mhdoi->mghid", gates, maps).flatten(2)
        rows = rows.unflatten(1, (NUM_HEADS, -1, QKV_BLOCK)).transpose(2, 3).contiguous()
        return Weights(
            torch.stack([of_q + of_k, of_v]),
            gates_bias[:, None],
            maps.permute(0, 1, 4, 3, 2).contiguous(),
            rows[:3],
            torch.cat([rows[3:].flatten(1), (zeros if z_bias is None else z_bias).to(dtype)[None]]),
        )

    def _convolve(self, u: Tensor, order: str) -> Tensor:
        """Depthwise convolution, (B, *grid', E) -> (B, *grid', E); u in the frame of `order`."""
        weight, bias = grouped(self.conv.weight), grouped(self.conv.bias)
        if self.causal:
            grid, lead = u.shape[1:-1], weight.shape[-1] - 1
            reverse = ORDERS[order].reverse
            u = F.pad(u.flatten(1, -2), (0, 0, 0, lead) if reverse else (0, 0, lead, 0)).unsqueeze(1)
            weight = (weight.flip(-1) if reverse else weight).unsqueeze(2)
            return convolution(u, weight, bias, 0).squeeze(1).unflatten(1, grid)
        ndim = u.ndim - 2
        weight = weight.permute(0, 1, *(2 + axis for axis in frame_axes(order, ndim)))
        return convolution(u.contiguous(), weight, bias, weight.shape[-1] // 2)


def convolution(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """Depthwise, (B, *grid, E) -> (B, *grid, E), channels last in memory throughout."""
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[x.ndim - 2]
    return function(x.movedim(-1, 1), weight, bias, padding=padding, groups=x.shape[-1]).movedim(1, -1).contiguous()
