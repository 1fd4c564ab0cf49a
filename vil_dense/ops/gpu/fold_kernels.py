"""The kernel that folds maps and gates into what the other kernels multiply with."""

import triton
import triton.language as tl

from vil_dense.ops.gpu.tiles import load_vector


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
    q, k, v, q_bias, k_bias, v_bias, igate, fgate, q_map, q_map_bias, gates, constants, scale, E, DH,
    BE: tl.constexpr,
):  # fmt: skip
    """Folds the maps of q and k into one and the gates into linear functions of c and u, for BE channels; E = 4 DH.

    q_map, (E / 4, 4, 4): scale k^T q of each block; q_map_bias, (E). gates, (32, E): rows 0 to 15 act on c and give i
    (4), f (4) and beta (4), the others act on u. constants, (programs, 16): parts of what is added.
    """
    channel = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = channel < E
    block, place = channel // 4, channel % 4
    row = tl.arange(0, 16)
    is_beta = row[:, None] == 8 + (channel // DH)[None, :]
    of_c = tl.zeros((16, BE), tl.float32)
    of_u = tl.zeros((16, BE), tl.float32)
    bias = tl.zeros((BE,), tl.float32)
    # First the weights as functions of their input channel, summed over the four outputs.
    for out in tl.static_range(4):
        other = block * 4 + out
        at = block * 16 + out * 4 + place
        q_weight = load_vector(q, at, inside)
        k_weight = load_vector(k, at, inside)
        v_weight = load_vector(v, at, inside)
        beta = scale * load_vector(k_bias, other, inside) * q_weight
        of_c += load_gates(igate, fgate, row, tl.where(inside, other, 0), 3 * E) * q_weight[None, :]
        of_c += load_gates(igate, fgate, row, E + tl.where(inside, other, 0), 3 * E) * k_weight[None, :]
        of_c += tl.where(is_beta, beta[None, :], 0.0)
        of_u += load_gates(igate, fgate, row, 2 * E + tl.where(inside, other, 0), 3 * E) * v_weight[None, :]
        bias += scale * k_weight * load_vector(q_bias, other, inside)
        # The folded map, its output `into` and its input `place`: a sum over what q puts out.
        for into in tl.static_range(4):
            value = tl.zeros((BE,), tl.float32)
            if out == 0:
                for between in tl.static_range(4):
                    k_between = load_vector(k, block * 16 + between * 4 + into, inside)
                    value += k_between * load_vector(q, block * 16 + between * 4 + place, inside)
                tl.store(q_map + block * 16 + into * 4 + place, scale * value, mask=inside)
    tl.store(q_map_bias + channel, bias, mask=inside)
    tl.store(gates + row[:, None] * E + channel[None, :], of_c, mask=inside[None, :])
    tl.store(gates + (16 + row[:, None]) * E + channel[None, :], of_u, mask=inside[None, :])
    column = tl.where(inside, channel, 0)
    q_bias_tile = load_vector(q_bias, channel, inside)
    k_bias_tile = load_vector(k_bias, channel, inside)
    constant = load_gates(igate, fgate, row, column, 3 * E) * q_bias_tile[None, :]
    constant += load_gates(igate, fgate, row, E + column, 3 * E) * k_bias_tile[None, :]
    constant += load_gates(igate, fgate, row, 2 * E + column, 3 * E) * load_vector(v_bias, channel, inside)[None, :]
    constant += tl.where(is_beta, (scale * q_bias_tile * k_bias_tile)[None, :], 0.0)
    tl.store(constants + tl.program_id(0) * 16 + row, tl.sum(constant, 1))
