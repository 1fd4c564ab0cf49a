"""Folds maps and gates into what the other kernels multiply with, and takes gradients back from there."""

import triton
import triton.language as tl

from vil_dense.ops.gpu.kernels.tiles import cast, channels_of, load_vector


@triton.jit
def load_gates(igate, fgate, row, column, width):
    """Loads rows 0 to 3 of the input gates' weights and 4 to 7 of the forget gates', (rows, channels)."""
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


@triton.jit
def store_gradient(gradient, at, value, mask):
    """Stores a gradient in the dtype of its parameter, if the parameter exists."""
    if gradient is not None:
        tl.store(gradient + at, cast(value, gradient.dtype.element_ty), mask=mask)


@triton.jit
def unfold_part(
    x, bias, dgates, constants, igate, fgate, dx, dbias, digate, dfgate, dM, own_bias, part: tl.constexpr, E, channel,
    inside, DH: tl.constexpr,
):  # fmt: skip
    """Computes the gradients of the map of q, k or v (`part` 0, 1, 2), of its bias, and of the gates' weights for it.

    A lane is a channel, input or output of its block of 4. dM: four vectors, what the gradient has besides the gates'
    share for each output of the block. own_bias: the same of the bias. dgates: gradients of the gates as functions of
    the map's input, rows of (8, E).
    """
    row = tl.arange(0, 8)
    first = channel // DH * DH + channel % (DH // 4)
    block = channel // DH * (DH // 4) + channel % (DH // 4)
    i = channel % DH // (DH // 4)
    of_gate = tl.load(dgates + row[:, None] * E + channel[None, :], mask=inside[None, :], other=0.0)
    gradient = constants[:, None] * load_vector(bias, channel, inside)[None, :]
    for j in tl.static_range(4):
        other = first + j * (DH // 4)
        weight = load_gates(igate, fgate, row, part * E + other, 3 * E)
        value = dM[j] + tl.sum(weight * of_gate, 0)
        store_gradient(dx, (i * 4 + j) * (E // 4) + block, value, inside)
        of_x = load_vector(x, (j * 4 + i) * (E // 4) + block, inside)
        gradient += tl.load(dgates + row[:, None] * E + other[None, :], mask=inside[None, :], other=0.0) * of_x[None, :]
    weight = load_gates(igate, fgate, row, part * E + channel, 3 * E)
    store_gradient(dbias, channel, own_bias + tl.sum(constants[:, None] * weight, 0), inside)
    at = (row % 4)[:, None] * (3 * E) + part * E + channel[None, :]
    store_gradient(digate, at, gradient, (row < 4)[:, None] & inside[None, :])
    store_gradient(dfgate, at, gradient, (row >= 4)[:, None] & inside[None, :])


@triton.jit
def unfold_maps(
    q, k, v, q_bias, k_bias, v_bias, igate, fgate, outputs, maps, conv, constants,
    dconv, dconv_bias, dq, dq_bias, dk, dk_bias, dv, dv_bias, digate, digate_bias, dfgate, dfgate_bias,
    dnorm, dnorm_bias, dskip, scale, E, K, DH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Computes the gradients of the raw parameters from those of what `fold_maps` made of them; of BLOCK channels.

    outputs, (NH, 8, DH): of norm, norm_bias, skip, v_bias, and of the map of v, (4 in, 4 out, DH / 4).
    maps, (NH, 5, DH): of the map of q and k, (4 in, 4 out, DH / 4), and of its bias.
    conv, (K + 33, E): of the convolution's weights and bias, then of `gates`. constants, (16): of i, f and beta.
    """
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < E
    channel = tl.where(inside, channel, 0)
    head, place = channel // DH, channel % DH
    first = head * DH + place % (DH // 4)
    block = head * (DH // 4) + place % (DH // 4)
    i = place // (DH // 4)
    # 1. What lies behind the scan, and the convolution.
    at = head * (8 * DH) + place
    store_gradient(dnorm, channel, load_vector(outputs, at, inside), inside)
    store_gradient(dnorm_bias, channel, load_vector(outputs, at + DH, inside), inside)
    store_gradient(dskip, channel, load_vector(outputs, at + 2 * DH, inside), inside)
    for offset in range(K):
        store_gradient(dconv, channel * K + offset, load_vector(conv, offset * E + channel, inside), inside)
    store_gradient(dconv_bias, channel, load_vector(conv, K * E + channel, inside), inside)
    of_c = conv + (K + 1) * E
    of_u = of_c + 16 * E

    # 2. q_map = scale k^T q and its bias scale k^T q_bias; beta = scale k_bias . (q c + q_bias).
    dbeta = load_vector(of_c, (8 + head) * E + channel, inside)
    dbeta_constant = scale * load_vector(constants, 8 + head, inside)
    dM_bias = load_vector(maps, head * (5 * DH) + 4 * DH + place, inside)
    dq_map, dk_map, dv_map = (), (), ()
    dq_own = dbeta_constant * load_vector(k_bias, channel, inside)
    dk_own = dbeta_constant * load_vector(q_bias, channel, inside)
    for o in tl.static_range(4):
        out = first + o * (DH // 4)
        of_q = dbeta * load_vector(k_bias, out, inside)
        of_k = dM_bias * load_vector(q_bias, out, inside)
        for p in tl.static_range(4):
            k_weight = load_vector(k, (p * 4 + o) * (E // 4) + block, inside)
            of_q += k_weight * load_vector(maps, head * (5 * DH) + i * DH + p * (DH // 4) + place % (DH // 4), inside)
            q_weight = load_vector(q, (p * 4 + o) * (E // 4) + block, inside)
            of_k += q_weight * load_vector(maps, head * (5 * DH) + p * DH + place, inside)
        dq_map = dq_map + (scale * of_q,)
        dk_map = dk_map + (scale * of_k,)
        of_v = load_vector(outputs, head * (8 * DH) + (4 + i) * DH + o * (DH // 4) + place % (DH // 4), inside)
        dv_map = dv_map + (of_v,)
        # Here the lane is an output, and o an input.
        weight = load_vector(k, (o * 4 + i) * (E // 4) + block, inside)
        dM_bias_in = load_vector(maps, head * (5 * DH) + (16 + o) * (DH // 4) + place % (DH // 4), inside)
        dq_own += scale * weight * dM_bias_in
        weight = load_vector(q, (o * 4 + i) * (E // 4) + block, inside)
        dk_own += scale * weight * load_vector(of_c, (8 + head) * E + out, inside)

    # 3. The gates, which read q, k and v.
    row = tl.arange(0, 8)
    constant = tl.load(constants + row)
    dv_own = load_vector(outputs, at + 3 * DH, inside)
    unfold_part(q, q_bias, of_c, constant, igate, fgate, dq, dq_bias, digate, dfgate, dq_map, dq_own, 0, E, channel,
                inside, DH)  # fmt: skip
    unfold_part(k, k_bias, of_c, constant, igate, fgate, dk, dk_bias, digate, dfgate, dk_map, dk_own, 1, E, channel,
                inside, DH)  # fmt: skip
    unfold_part(v, v_bias, of_u, constant, igate, fgate, dv, dv_bias, digate, dfgate, dv_map, dv_own, 2, E, channel,
                inside, DH)  # fmt: skip
    at = tl.program_id(0) * 8 + row  # only the first program stores these
    store_gradient(digate_bias, at, constant, at < 4)
    store_gradient(dfgate_bias, at - 4, constant, (at >= 4) & (at < 8))
