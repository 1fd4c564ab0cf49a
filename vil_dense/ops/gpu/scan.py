"""Runs the scan: gates, states and hidden states in the forward pass, and their gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vil_dense.ops.gpu.launches import launch
from vil_dense.ops.gpu.plan import Plan, Tile

GATE_BLOCK = 256


class States(NamedTuple):
    """Holds states before chunks, or their gradients after chunks; see `scan_states`. None in one chunk."""

    C: Tensor | None = None
    vectors: Tensor | None = None
    products: Tensor | None = None


class Folded(NamedTuple):
    """Holds maps of q, k and v and what lies behind h, as kernels read them; all None for q, k, v as they are."""

    q_map: Tensor | None = None
    q_map_bias: Tensor | None = None
    v_map: Tensor | None = None
    v_map_bias: Tensor | None = None
    norm: Tensor | None = None
    norm_bias: Tensor | None = None
    skip: Tensor | None = None


def head_strides(x: Tensor) -> tuple[int, int, int]:
    """Returns strides of batch, head and token of a view (B, NH, S, DH)."""
    if x.stride(3) != 1:
        raise ValueError("channels must lie side by side")
    return x.stride(0), x.stride(1), x.stride(2)


def tiled(plan: Plan, tile: Tile) -> dict[str, Any]:
    """Returns constants of kernels that hold a whole head in registers."""
    return dict(
        BD=plan.BD, NB=plan.NB, BT=tile.BT, BS=tile.BS, PRECISION=plan.PRECISION, num_warps=tile.warps,
        num_stages=tile.stages,
    )  # fmt: skip


def is_large(*tensors: Tensor) -> bool:
    """Returns whether 32 bits do not number the elements of a head, (B, NH, S, DH)."""
    return any(x.shape[2] * x.stride(2) >= 2**31 for x in tensors)


def state_tokens(plan: Plan, backward: bool) -> int:
    """Returns how many tokens `scan_states` adds at once: as many as spill no registers."""
    if not plan.half:
        return 32
    return (16 if plan.BD == 64 else 32) if backward else 64


def states_of(x: Tensor, y: Tensor, stats: Tensor, maxima: Tensor, plan: Plan, reverse: bool) -> States:
    """Computes states before each chunk; x and y are k and v, or c and u, (B, NH, S, DH)."""
    if plan.N == 1:
        return States()
    return run_states(x, y, stats, maxima, plan, reverse, 1.0)


def run_states(
    x: Tensor,
    y: Tensor,
    stats: Tensor,
    maxima: Tensor,
    plan: Plan,
    reverse: bool,
    scale: float,
    read: tuple[Tensor, Tensor] | None = None,
    before: States | None = None,
    folded: Folded | None = None,
) -> States:
    """Runs `scan_states`: forward, or, where `read` (inverse normaliser, its gradient) is given, backward."""
    B, NH, S, DH = x.shape
    BD, blocks = plan.BD, plan.NB
    C = torch.empty(B * NH, plan.N, DH, DH, dtype=plan.state_dtype, device=x.device)
    vectors = torch.empty(B * NH, plan.N, 2 * DH + 1, device=x.device)
    backward = read is not None
    products = torch.empty(B * NH, plan.N, blocks * blocks, device=x.device) if backward else None
    inverse, dden = read or (None, None)
    before = before or States()
    folded = folded or Folded()
    maps = folded.q_map is not None
    launch(
        "scan_states", (B * NH, blocks, blocks),
        x, y, stats, maxima, inverse, dden, before.C, before.vectors, folded.q_map, folded.q_map_bias, C, vectors,
        products, scale, *head_strides(x), *head_strides(y), NH, S, plan.N, plan.L,
        BACKWARD=backward, MAPS=maps, DH=DH, BD=BD, NB=blocks, BT=state_tokens(plan, backward),
        REVERSE=reverse, LARGE=is_large(x, y), PRECISION=plan.PRECISION, num_warps=8 if BD == 64 else 4, num_stages=2,
    )  # fmt: skip
    return States(C, vectors, products)


def sum_gates(
    i: Tensor,
    f: Tensor | None,
    shape: tuple[int, int],
    strides: tuple[int, int, int],
    plan: Plan,
    reverse: bool,
    folded_gates: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Runs `gate_sums`; returns stats, (8, B * NH, S), and maxima, (2, B * NH, N).

    Args:
        i: pre-activations; with `folded_gates` in parts, (parts, B, S, 16), of all gates, and f is None.
        shape: B and NH.
        strides: of batch, head and token.
        folded_gates: constants, and the biases of the gates.
    """
    heads = shape[0] * shape[1]
    stats = torch.empty(8, heads, plan.S, device=i.device)
    maxima = torch.empty(2, heads, plan.N, device=i.device)
    maps = folded_gates is not None
    constants, i_bias, f_bias = folded_gates or (None, None, None)
    blocks = constants.shape[0] if constants is not None else 1
    launch(
        "gate_sums", (heads,),
        i, f, constants, i_bias, f_bias, stats, maxima, *strides, i.stride(0) if maps else 0,
        i.shape[0] if maps else 1, shape[1], plan.S, plan.N, plan.L, blocks,
        BLOCK=gate_block(plan.S), BLOCK_CONSTANTS=power_of_two(blocks), MAPS=maps, REVERSE=reverse, num_warps=4,
    )  # fmt: skip
    return stats, maxima


def power_of_two(n: int) -> int:
    """Returns the least power of two that is not below n."""
    return 1 << (n - 1).bit_length()


def gate_block(S: int) -> int:
    """Returns the tokens of a block in the kernels of the gates."""
    return min(power_of_two(max(S, 16)), GATE_BLOCK)


def hidden(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    stats: Tensor,
    maxima: Tensor,
    states: States,
    plan: Plan,
    reverse: bool,
    eps: float,
    h: Tensor | None,
    folded: Folded | None = None,
    z: Tensor | None = None,
    y: Tensor | None = None,
    norm_eps: float = 1e-5,
) -> Tensor:
    """Runs `hidden_states`, which fills h and y; returns its stats, (3, B * NH, S) or, without maps, (1, B * NH, S)."""
    B, NH, S, DH = q.shape
    maps = folded is not None
    large = is_large(q, v) or (z is not None and S * z.stride(1) >= 2**31)
    tile = plan.tile()
    tiles = -(-S // tile.BT)
    out_stats = torch.empty(3 if maps else 1, B * NH, S, device=q.device)
    launch(
        "hidden_states", (B * NH * tiles,),
        q, k, v, z, stats, maxima, states.C, states.vectors, *(folded or Folded()), y, h, out_stats,
        1.0 if maps else DH**-0.5, eps, norm_eps, *head_strides(q), *head_strides(v),
        *(z.stride()[:2] if z is not None else (0, 0)), *(head_strides(h) if h is not None else (0, 0, 0)),
        NH, S, plan.N, plan.L, tiles,
        MAPS=maps, STATES=plan.N > 1, DH=DH, REVERSE=reverse, LARGE=large,
        **tiled(plan, tile),
    )  # fmt: skip
    return out_stats


def scan_gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dh: Tensor,
    stats: Tensor,
    maxima: Tensor,
    inverse: Tensor,
    dden: Tensor,
    before: States,
    after: States,
    plan: Plan,
    reverse: bool,
    gradients: tuple[Tensor, Tensor, Tensor],
    sums: Tensor,
    folded: Folded | None = None,
) -> Tensor | None:
    """Runs `scan_gradients`, which fills dq, dk, dv (`gradients`) and `sums`; returns the parts of the folded map's.

    With `folded` dq and dk are one tensor, and the parts are (B * tiles, NH, 5 DH): of each block 4 x 4, then biases.
    """
    B, NH, S, DH = q.shape
    maps = folded is not None
    tile = plan.tile(backward=True)
    tiles = -(-S // tile.BT)
    parts = torch.empty(B * tiles, NH, 5 * DH, device=q.device) if maps else None
    dq, dk, dv = gradients
    q_map, q_map_bias = folded[:2] if folded is not None else (None, None)
    launch(
        "scan_gradients", (B * NH * tiles,),
        q, k, v, dh, stats, maxima, inverse, dden, before.C, before.vectors, after.C, after.vectors, q_map, q_map_bias,
        dq, dk, dv, sums, parts, 1.0 if maps else DH**-0.5, *head_strides(q), *head_strides(v), *head_strides(dh),
        *head_strides(dq)[:2], *head_strides(dv), NH, S, plan.N, plan.L, tiles,
        MAPS=maps, STATES=plan.N > 1, DH=DH, REVERSE=reverse, LARGE=is_large(q, v),
        **tiled(plan, tile),
    )  # fmt: skip
    return parts


def sum_gate_gradients(
    stats: Tensor,
    sums: Tensor,
    products: Tensor | None,
    di: Tensor,
    df: Tensor | None,
    NH: int,
    strides: tuple[int, int, int],
    plan: Plan,
    reverse: bool,
) -> None:
    """Runs `gate_gradients`, which fills di and df; or, with maps, di for all gates, (B, S, 16)."""
    parts = products.shape[2] if products is not None else 1
    launch(
        "gate_gradients", (stats.shape[1],),
        stats, sums, products, di, df, *strides, NH, plan.S, plan.N, plan.L, parts,
        BLOCK=gate_block(min(plan.S, plan.L)), BLOCK_PRODUCTS=power_of_two(parts), MAPS=df is None, REVERSE=reverse,
        PRECISION=plan.PRECISION, num_warps=4,
    )  # fmt: skip
