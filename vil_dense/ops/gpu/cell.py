"""Runs the ViL cell, fused: convolution, maps, gates, mLSTM, head norm, skip and gate of one traversal."""

from typing import NamedTuple

import torch
from torch import Tensor

from vil_dense.ops.cell_weights import CellWeights
from vil_dense.ops.gpu.launches import launch
from vil_dense.ops.gpu.plan import HALF, Plan, make_plan, precision_of
from vil_dense.ops.gpu.scan import (
    Folded,
    States,
    hidden,
    is_large,
    run_states,
    scan_gradients,
    states_of,
    sum_gate_gradients,
    sum_gates,
)
from vil_dense.ops.gpu.unfold import FoldedGradients, unfold_gradients

NUM_HEADS = 4
NORM_EPS = 1e-5
BE = 64
"""Channels of a tile in kernels around the convolution."""


class Saved(NamedTuple):
    """Holds what the backward pass reads, beside u, z and the weights; c and h (B, S, E) in the dtype of u."""

    c: Tensor
    h: Tensor
    stats: Tensor
    maxima: Tensor
    out_stats: Tensor
    q_map: Tensor
    q_map_bias: Tensor
    v_map: Tensor
    gates: Tensor
    C: Tensor | None
    vectors: Tensor | None


def cell_forward(
    u: Tensor, z: Tensor, weights: CellWeights, causal: bool, reverse: bool, eps: float, save: bool
) -> tuple[Tensor, Saved | None]:
    """Computes the gated output of a cell.

    Args:
        u, z: (B, *grid, E), in the frame of the traversal; bfloat16, float16 or float32, channels side by side.
        causal: the convolution runs along the sequence, else over the grid.
        reverse: sequence and causal convolution run from the last token to the first.
        eps: added to the normaliser.
        save: returns what `cell_backward` needs.

    Returns:
        y, (B, *grid, E), and the saved tensors or None.
    """
    grid = u.shape[1:-1]
    u, z = tokens_of(u), tokens_of(z)
    if u.dtype not in (torch.float32, *HALF) or z.dtype != u.dtype or u.shape != z.shape:
        raise ValueError(
            "the fused cell takes u and z alike, in float32, bfloat16 or float16; "
            f"got {tuple(u.shape)} in {u.dtype} and {tuple(z.shape)} in {z.dtype}"
        )
    plan = make_plan(u.shape[1], u.shape[2] // NUM_HEADS, u.dtype)
    q_map, q_map_bias, v_map, gates, constants = fold(weights, u, plan)
    c, gate_parts = convolve(u, weights, gates, grid, causal, reverse)
    B, S, _ = c.shape
    folded_gates = (constants, weights.igate_bias, weights.fgate_bias)
    stats, maxima = sum_gates(gate_parts, None, (B, NUM_HEADS), (S * 16, 1, 16), plan, reverse, folded_gates)
    states = states_of(heads_of(c), heads_of(u), stats, maxima, plan, reverse)
    y = torch.empty_like(c)
    h = torch.empty_like(c) if save else None
    folded = folded_of(weights, q_map, q_map_bias, v_map)
    q = heads_of(c)
    out_stats = hidden(
        q, q, heads_of(u), stats, maxima, states, plan, reverse, eps, None if h is None else heads_of(h), folded, z, y,
        NORM_EPS,
    )  # fmt: skip
    y = y.unflatten(1, grid)
    if h is None:
        return y, None
    return y, Saved(c, h, stats, maxima, out_stats, q_map, q_map_bias, v_map, gates, states.C, states.vectors)


def cell_backward(
    dy: Tensor,
    u: Tensor,
    z: Tensor,
    weights: CellWeights,
    saved: Saved,
    causal: bool,
    reverse: bool,
    eps: float,
) -> tuple[Tensor, CellWeights]:
    """Computes the gradients of u and z, side by side in one tensor (B, *grid, 2 E), and of the weights.

    See `cell_forward`.
    """
    grid = u.shape[1:-1]
    u, z, dy = tokens_of(u), tokens_of(z), tokens_of(dy).contiguous()
    B, S, E = u.shape
    plan = make_plan(S, E // NUM_HEADS, u.dtype)
    both = torch.empty(B, S, 2 * E, dtype=u.dtype, device=u.device)
    du, dz = both[..., :E], both[..., E:]
    folded = folded_of(weights, saved.q_map, saved.q_map_bias, saved.v_map)

    sums = torch.empty(5, B * NUM_HEADS, S, device=u.device)
    dh, inverse, dden, output_parts = output_gradients(dy, z, saved, folded, dz, sums, plan, reverse, eps)
    dc, du_scan, products, map_parts = scan_backward(u, dh, inverse, dden, saved, folded, sums, plan, reverse)
    dgates = torch.empty(B, S, 16, device=u.device)
    sum_gate_gradients(saved.stats, sums, products, dgates, None, NUM_HEADS, (S * 16, 1, 16), plan, reverse)
    dpre, conv_parts = activation_gradients(u, z, dy, dc, dgates, weights, saved.gates, grid, causal, reverse)
    launch(
        "convolve_gradients", (tiles(S), -(-E // BE), B),
        dpre, du_scan, dgates, weights.conv, saved.gates, du, *du.stride()[:2], S, E, *sides(grid, causal),
        **conv_options(weights.conv, causal, reverse, u.dtype),
    )  # fmt: skip
    gradients = FoldedGradients(
        output_parts.sum(0), map_parts.sum(0), conv_parts.sum(0), dgates.flatten(0, 1).sum(0), NUM_HEADS
    )
    return both.unflatten(1, grid), unfold_gradients(weights, gradients)


def tokens_of(x: Tensor) -> Tensor:
    """Flattens (B, *grid, E) to (B, S, E), as a view wherever channels lie side by side and tokens in order."""
    x = x.flatten(1, -2)
    return x if x.stride(2) == 1 else x.contiguous()


def heads_of(x: Tensor) -> Tensor:
    """Views (B, S, E) as (B, NH, S, DH)."""
    return x.unflatten(2, (NUM_HEADS, -1)).transpose(1, 2)


def folded_of(weights: CellWeights, q_map: Tensor, q_map_bias: Tensor, v_map: Tensor) -> Folded:
    """Returns the folded maps with the remaining weights of the cell."""
    return Folded(q_map, q_map_bias, v_map, weights.v_bias, weights.norm, weights.norm_bias, weights.skip)


def fold(weights: CellWeights, u: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Runs `fold_maps`; returns the maps of q and k and of v, the former with its bias, and the gates' weights."""
    E = u.shape[2]
    programs = NUM_HEADS * plan.NB
    q_map, v_map = torch.empty(2, programs, plan.BD, plan.BD, dtype=u.dtype, device=u.device)
    q_map_bias = torch.empty(E, device=u.device)
    gates = torch.empty(32, E, device=u.device)
    constants = torch.empty(programs, 16, device=u.device)
    w = weights
    launch(
        "fold_maps", (programs,),
        w.q, w.k, w.v, w.q_bias, w.k_bias, w.v_bias, w.igate, w.fgate, q_map, q_map_bias, v_map, gates, constants,
        (E // NUM_HEADS) ** -0.5, E, DH=E // NUM_HEADS, BD=plan.BD, NB=plan.NB, num_warps=4,
    )  # fmt: skip
    return q_map, q_map_bias, v_map, gates, constants


def tiles(S: int) -> int:
    """Returns the number of tiles of `CONV_TOKENS` tokens in S tokens."""
    return -(-S // CONV_TOKENS)


CONV_TOKENS = 32
"""Tokens of a tile in kernels around the convolution."""
ENOUGH_PROGRAMS = 256
"""Channels are split among programs until there are so many."""
GRADIENT_TOKENS = 1024
"""Tokens over which a program sums gradients of weights."""


def sides(grid: torch.Size, causal: bool) -> tuple[int, int]:
    """Returns height and width of the grid of a convolution; of a sequence, 1 and its length."""
    if causal:
        return 1, grid.numel()
    return (grid[-2] if len(grid) > 1 else 1), grid[-1]


def conv_options(weight: Tensor, causal: bool, reverse: bool, dtype: torch.dtype) -> dict[str, object]:
    """Returns constants of the kernels around the convolution."""
    depth, height, width = (1,) * (5 - weight.ndim) + tuple(weight.shape[2:])
    return dict(
        BT=CONV_TOKENS, BE=BE, KD=depth, KH=height, KW=width, CAUSAL=causal, REVERSE=reverse,
        PRECISION=precision_of(dtype), num_warps=8, num_stages=1,
    )  # fmt: skip


def convolve(
    u: Tensor, weights: CellWeights, gates: Tensor, grid: torch.Size, causal: bool, reverse: bool
) -> tuple[Tensor, Tensor]:
    """Runs `convolve`; returns c, (B, S, E), and the gates' pre-activations in parts, (parts, B, S, 16)."""
    B, S, E = u.shape
    blocks = -(-E // BE)
    per_part = -(-blocks // min(blocks, -(-ENOUGH_PROGRAMS // (B * tiles(S)))))
    parts = -(-blocks // per_part)
    c = torch.empty(B, S, E, dtype=u.dtype, device=u.device)
    gate_parts = torch.empty(parts, B, S, 16, device=u.device)
    launch(
        "convolve", (tiles(S), B, parts),
        u, weights.conv, weights.conv_bias, gates, c, gate_parts, *u.stride()[:2], S, E, *sides(grid, causal),
        per_part * BE, **conv_options(weights.conv, causal, reverse, u.dtype),
    )  # fmt: skip
    return c, gate_parts


def output_gradients(
    dy: Tensor,
    z: Tensor,
    saved: Saved,
    folded: Folded,
    dz: Tensor,
    sums: Tensor,
    plan: Plan,
    reverse: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Runs `output_gradients`, which fills dz and plane 3 of sums.

    Returns the gradient of h before the map of v, (B, S, E), the inverse of the normaliser and the gradient of n . q,
    (B * NH, S), and parts of the weights' gradients.
    """
    B, S, E = saved.c.shape
    dh = torch.empty_like(saved.c)
    inverse, dden = torch.empty(2, B * NUM_HEADS, S, device=z.device)
    steps = -(-min(S, GRADIENT_TOKENS) // CONV_TOKENS)
    programs = -(-S // (steps * CONV_TOKENS))
    parts = torch.empty(programs * B, NUM_HEADS, 8, E // NUM_HEADS, device=z.device)
    launch(
        "output_gradients", (programs, B * NUM_HEADS),
        dy, saved.c, z, saved.h, saved.stats, saved.out_stats, *folded[2:], dz, dh, inverse, dden, sums[3], parts, eps,
        NORM_EPS, *saved.c.stride()[:2], *z.stride()[:2], *dz.stride()[:2], NUM_HEADS, S, steps,
        DH=E // NUM_HEADS, BD=min(plan.BD, 32), WIDTH=plan.BD, NB=plan.NB, BT=CONV_TOKENS, REVERSE=reverse,
        LARGE=is_large(heads_of(z)),
        PRECISION=plan.PRECISION, num_warps=4,
        num_stages=1,
    )  # fmt: skip
    return dh, inverse, dden, parts


def scan_backward(
    u: Tensor,
    dh: Tensor,
    inverse: Tensor,
    dden: Tensor,
    saved: Saved,
    folded: Folded,
    sums: Tensor,
    plan: Plan,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Runs the gradients of the scan; returns dc and its part of du, (B, S, E), and what the next steps sum up."""
    dc, du = torch.empty_like(saved.c), torch.empty_like(saved.c)
    q, dh = heads_of(saved.c), heads_of(dh)
    before, after = States(saved.C, saved.vectors), States()
    if plan.N > 1:
        read = (inverse, dden)
        after = run_states(q, dh, saved.stats, saved.maxima, plan, reverse, 1.0, read, before, folded)
    dq = heads_of(dc)
    parts = scan_gradients(
        q, q, heads_of(u), dh, saved.stats, saved.maxima, inverse, dden, before, after, plan, reverse,
        (dq, dq, heads_of(du)), sums, folded,
    )  # fmt: skip
    assert parts is not None
    return dc, du, after.products, parts


def activation_gradients(
    u: Tensor,
    z: Tensor,
    dy: Tensor,
    dc: Tensor,
    dgates: Tensor,
    weights: CellWeights,
    gates: Tensor,
    grid: torch.Size,
    causal: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Runs `activation_gradients`; returns the gradient of the convolution's output and parts of the weights'."""
    B, S, E = u.shape
    steps = -(-min(B * S, GRADIENT_TOKENS) // CONV_TOKENS)
    programs = -(-B * S // (steps * CONV_TOKENS))
    dpre = torch.empty_like(dc)
    parts = torch.empty(programs, weights.conv[0].numel() + 33, E, device=u.device)
    launch(
        "activation_gradients", (programs, -(-E // BE)),
        u, z, dy, dc, dgates, weights.conv, weights.conv_bias, gates, weights.skip, dpre, parts, *u.stride()[:2],
        *z.stride()[:2], B, S, E, *sides(grid, causal), steps, **conv_options(weights.conv, causal, reverse, u.dtype),
    )  # fmt: skip
    return dpre, parts
