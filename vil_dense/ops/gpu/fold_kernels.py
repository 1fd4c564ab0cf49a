"""The kernel that folds maps and gates into what the other kernels multiply with."""

import triton
import triton.language as tl

from vil_dense.ops.gpu.tiles import cast, channels_of, load_vector


@triton.jit
def load_gates(igate, fgate, row, column, width):
    """Loads rows 0 to 3 of the input gates' weights and 4 to 7 of the forget gates', (16, channels)."""
    i = tl.load(igate + row[:, None] * width + column[None, :], mask=(row < 4)[:, None], other=0.0)
    f_row = row - 4
    is_f = (row >= 4) & (row < 8)
    f = tl.load(fgate + f_row[:, None] * width + column[None, :], mask=is_f[:, None], other=0.0)
    return i.to(tl.float32) + f.to(tl.float32)


@triton.jit
def fold_maps(
    q, k, v, q_bias, k_bias, v_bias, igate, fgate, q_map, q_map_bias, v_map, gates, constants, scale, E,
    DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr,
):  # fmt: skip
    """Folds the maps of q and k into one, and the gates into linear functions of c and u; of BD channels of a head.

    q_map, v_map, (NH, NB, BD out, BD in): tiles of block-diagonal matrices, scale k^T q and v. q_map_bias, (E).
    gates, (32, E): rows 0 to 15 act on c and give i (4), f (4) and beta (4), the others act on u.
    constants, (programs, 16): parts of what is added.
    """
    head, tile = tl.program_id(0) // NB, tl.program_id(0) % NB
    place = channels_of(tile, DH, BD, True)
    inside = place < DH
    place = tl.where(inside, place, 0)
    channel = head * DH + place
    # Of each lane: the first channel of its block, which channel it is, and the block.
    first, i, block = head * DH + place % (DH // 4), place // (DH // 4), head * (DH // 4) + place % (DH // 4)
    row = tl.arange(0, 16)
    is_beta = row[:, None] == 8 + head
    of_c = tl.zeros((16, BD), tl.float32)
    of_u = tl.zeros((16, BD), tl.float32)
    bias = tl.zeros((BD,), tl.float32)
    folded = tl.zeros((BD, BD), tl.float32)
    for o in tl.static_range(4):
        at = (i * 4 + o) * (E // 4) + block
        out = first + o * (DH // 4)
        q_weight, k_weight, v_weight = (
            load_vector(q, at, inside),
            load_vector(k, at, inside),
            load_vector(v, at, inside),
        )
        of_c += load_gates(igate, fgate, row, out, 3 * E) * q_weight[None, :]
        of_c += load_gates(igate, fgate, row, E + out, 3 * E) * k_weight[None, :]
        of_c += tl.where(is_beta, (scale * load_vector(k_bias, out, inside) * q_weight)[None, :], 0.0)
        of_u += load_gates(igate, fgate, row, 2 * E + out, 3 * E) * v_weight[None, :]
        bias += scale * k_weight * load_vector(q_bias, out, inside)
        folded += scale * k_weight[:, None] * q_weight[None, :]
    same = (block[:, None] == block[None, :]) & inside[:, None] & inside[None, :]
    local = tl.arange(0, BD)
    at = (tl.program_id(0) * BD + local[:, None]) * BD + local[None, :]
    tl.store(q_map + at, cast(tl.where(same, folded, 0.0), q_map.dtype.element_ty))
    value = tl.load(v + (i[None, :] * 4 + i[:, None]) * (E // 4) + block[:, None], mask=same, other=0.0).to(tl.float32)
    tl.store(v_map + at, cast(value, v_map.dtype.element_ty))
    tl.store(q_map_bias + channel, bias, mask=inside)
    tl.store(gates + row[:, None] * E + channel[None, :], of_c, mask=inside[None, :])
    tl.store(gates + (16 + row[:, None]) * E + channel[None, :], of_u, mask=inside[None, :])
    q_bias_tile = load_vector(q_bias, channel, inside)
    k_bias_tile = load_vector(k_bias, channel, inside)
    constant = load_gates(igate, fgate, row, channel, 3 * E) * q_bias_tile[None, :]
    constant += load_gates(igate, fgate, row, E + channel, 3 * E) * k_bias_tile[None, :]
    constant += load_gates(igate, fgate, row, 2 * E + channel, 3 * E) * load_vector(v_bias, channel, inside)[None, :]
    constant += tl.where(is_beta, (scale * q_bias_tile * k_bias_tile)[None, :], 0.0)
    tl.store(constants + tl.program_id(0) * 16 + row, tl.sum(constant, 1))
