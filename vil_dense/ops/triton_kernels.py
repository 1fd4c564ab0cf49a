"""The Triton kernels of `ops/triton_chunkwise.py`.

A program works for one head (of B * NH), mostly for one chunk of L tokens too, and for a block of BD of DH channels.
`position` counts tokens along the scan, `token` along the tensor.
"""

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("the mLSTM backend 'triton' needs the package triton: pip install triton") from error


@triton.jit
def _start(head, NH, stride_B, stride_NH):
    """Where a head begins in a tensor; int64, since a tensor may have more than 2^31 elements."""
    return (head // NH).to(tl.int64) * stride_B + (head % NH).to(tl.int64) * stride_NH


@triton.jit
def _tokens(chunk, S, L: tl.constexpr, REVERSE: tl.constexpr):
    """The tokens at the positions of a chunk, int64, (L,); outside 0 ... S - 1 where there is none."""
    position = chunk.to(tl.int64) * L + tl.arange(0, L)
    if REVERSE:
        return S - 1 - position
    return position


@triton.jit
def _load(x, token, channel, stride, S, DH):
    """Tokens by channels, float32, with zeros where there are none."""
    inside = ((token >= 0) & (token < S))[:, None] & (channel < DH)[None, :]
    return tl.load(x + token[:, None] * stride + channel[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _store(x, value, token, channel, stride, S, DH):
    """The inverse of `_load`. A gradient beyond float16 saturates there instead of inf; NaN stays NaN."""
    inside = ((token >= 0) & (token < S))[:, None] & (channel < DH)[None, :]
    if x.dtype.element_ty == tl.float16:
        value = tl.clamp(value, -65504.0, 65504.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(x + token[:, None] * stride + channel[None, :], value.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _load_state(C, row, column, DH):
    """A block of a state, (DH, DH), with zeros where there is none."""
    inside = (row < DH)[:, None] & (column < DH)[None, :]
    return tl.load(C + row[:, None] * DH + column[None, :], mask=inside, other=0.0)


@triton.jit
def _decays(row, row_low, col, col_low, offset, L: tl.constexpr):
    """How much of token s is left at token t of the same chunk, (L, L); zero where s comes after t."""
    at = offset + tl.arange(0, L)
    high = tl.load(row + at)[:, None] + tl.load(col + at)[None, :]
    low = tl.load(row_low + at)[:, None] + tl.load(col_low + at)[None, :]
    causal = tl.arange(0, L)[:, None] >= tl.arange(0, L)[None, :]
    return tl.exp(tl.where(causal, high + low, float("-inf")))


@triton.jit
def scan_states(
    x, y, x_y, x_1, decay, C, state, n, product,
    x_B, x_NH, x_S, y_B, y_NH, y_S, NH, S, N,
    BACKWARD: tl.constexpr, DH: tl.constexpr, BD: tl.constexpr, L: tl.constexpr, REVERSE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of the state before (BACKWARD: after) each chunk; see `_run_states`."""
    head, row_block, column_block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = row_block * BD + tl.arange(0, BD)
    column = column_block * BD + tl.arange(0, BD)
    inside = (row < DH)[:, None] & (column < DH)[None, :]
    x += _start(head, NH, x_B, x_NH)
    y += _start(head, NH, y_B, y_NH)
    state_block = tl.zeros((BD, BD), tl.float32)
    n_block = tl.zeros((BD,), tl.float32)
    for step in range(N):
        chunk = N - 1 - step if BACKWARD else step
        at = head.to(tl.int64) * N + chunk
        block = at * DH * DH + row[:, None] * DH + column[None, :]
        tl.store(state + block, state_block, mask=inside)
        if column_block == 0:
            tl.store(n + at * DH + row, n_block, mask=row < DH)
        if BACKWARD:
            both = state_block * tl.load(C + block, mask=inside, other=0.0)
            parts = tl.num_programs(1) * tl.num_programs(2)
            tl.store(product + at * parts + row_block * tl.num_programs(2) + column_block, tl.sum(both))

        token = _tokens(at - head.to(tl.int64) * N, S, L, REVERSE)
        position = at * L + tl.arange(0, L)
        x_block = _load(x, token, row, x_S, S, DH)
        y_block = _load(y, token, column, y_S, S, DH)
        weighted = tl.trans(x_block * tl.load(x_y + position)[:, None])
        chunk_decay = tl.load(decay + at)
        state_block = tl.dot(weighted, y_block, chunk_decay * state_block, input_precision=PRECISION)
        n_block = chunk_decay * n_block + tl.sum(x_block * tl.load(x_1 + position)[:, None], 0)


@triton.jit
def hidden_states(
    q, k, v, C, n, row, row_low, col, col_low, read, floor, eps, h, den, scale,
    stride_B, stride_NH, stride_S, NH, S, T,
    DH: tl.constexpr, BD: tl.constexpr, L: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """h of one chunk in one block of channels, and n . q of it."""
    head, chunk, column_block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    token = _tokens(chunk, S, L, REVERSE)
    column = column_block * BD + tl.arange(0, BD)
    start = _start(head, NH, stride_B, stride_NH)
    offset = head.to(tl.int64) * T + chunk * L
    position = offset + tl.arange(0, L)
    state = head.to(tl.int64) * tl.num_programs(1) + chunk

    scores = tl.zeros((L, L), tl.float32)
    from_C = tl.zeros((L, BD), tl.float32)
    from_n = tl.zeros((L,), tl.float32)
    for first in range(0, DH, BD):
        channel = first + tl.arange(0, BD)
        q_block = _load(q + start, token, channel, stride_S, S, DH)
        k_block = _load(k + start, token, channel, stride_S, S, DH)
        C_block = _load_state(C + state * DH * DH, channel, column, DH)
        n_block = tl.load(n + state * DH + channel, mask=channel < DH, other=0.0)
        scores = tl.dot(q_block, tl.trans(k_block), scores, input_precision=PRECISION)
        from_C = tl.dot(q_block, C_block, from_C, input_precision=PRECISION)
        from_n += tl.sum(q_block * n_block[None, :], 1)

    w = scores * (_decays(row, row_low, col, col_low, offset, L) * scale)
    read_weight = tl.load(read + position)
    v_block = _load(v + start, token, column, stride_S, S, DH)
    numerator = tl.dot(w, v_block, from_C * read_weight[:, None], input_precision=PRECISION)
    dot = tl.sum(w, 1) + from_n * read_weight
    normaliser = tl.maximum(tl.abs(dot), tl.load(floor + position)) + tl.load(eps + position)
    _store(h + head.to(tl.int64) * S * DH, numerator / normaliser[:, None], token, column, DH, S, DH)
    if column_block == 0:
        tl.store(den + position, dot)


@triton.jit
def query_gradient(
    q, k, v, dh, C, n, row, row_low, col, col_low, read, inverse, dden, dq, dread, drow, scale,
    stride_B, stride_NH, stride_S, NH, S, T,
    DH: tl.constexpr, BD: tl.constexpr, L: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of q of one chunk in one block of channels, and of the logarithms of the weights with which its tokens
    read: the state, and the tokens before them in the chunk."""
    head, chunk, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    token = _tokens(chunk, S, L, REVERSE)
    channel = block * BD + tl.arange(0, BD)
    start = _start(head, NH, stride_B, stride_NH)
    offset = head.to(tl.int64) * T + chunk * L
    position = offset + tl.arange(0, L)
    state = head.to(tl.int64) * tl.num_programs(1) + chunk
    inverse_normaliser = tl.load(inverse + position)[:, None]
    dden_chunk = tl.load(dden + position)[:, None]

    dw = tl.zeros((L, L), tl.float32)
    dq_block = tl.zeros((L, BD), tl.float32)
    for first in range(0, DH, BD):
        column = first + tl.arange(0, BD)
        dnum = _load(dh + head.to(tl.int64) * S * DH, token, column, DH, S, DH) * inverse_normaliser
        v_block = _load(v + start, token, column, stride_S, S, DH)
        C_block = _load_state(C + state * DH * DH, channel, column, DH)
        dw = tl.dot(dnum, tl.trans(v_block), dw, input_precision=PRECISION)
        dq_block = tl.dot(dnum, tl.trans(C_block), dq_block, input_precision=PRECISION)

    q_block = _load(q + start, token, channel, stride_S, S, DH)
    k_block = _load(k + start, token, channel, stride_S, S, DH)
    n_block = tl.load(n + state * DH + channel, mask=channel < DH, other=0.0)
    dq_block = (dq_block + dden_chunk * n_block[None, :]) * tl.load(read + position)[:, None]
    part = (head.to(tl.int64) * tl.num_programs(2) + block) * T + chunk * L + tl.arange(0, L)
    tl.store(dread + part, tl.sum(q_block * dq_block, 1))

    dscores = (dw + dden_chunk) * (_decays(row, row_low, col, col_low, offset, L) * scale)
    same = tl.arange(0, L)[:, None] == tl.arange(0, L)[None, :]
    dq_others = tl.dot(tl.where(same, 0.0, dscores), k_block, input_precision=PRECISION)
    tl.store(drow + part, tl.sum(q_block * dq_others, 1))
    dq_block += dq_others + tl.sum(tl.where(same, dscores, 0.0), 1)[:, None] * k_block
    _store(dq + head.to(tl.int64) * S * DH, dq_block, token, channel, DH, S, DH)


@triton.jit
def key_value_gradient(
    q, k, v, dh, dC, dn, row, row_low, col, col_low, write, inverse, dden, dk, dv, dwrite, dcol, ddiagonal, scale,
    stride_B, stride_NH, stride_S, NH, S, T,
    DH: tl.constexpr, BD: tl.constexpr, L: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v of one chunk in one block of channels, and of the logarithms of the weights with which its
    tokens are written into the state, are read by those behind them in the chunk, and read themselves."""
    head, chunk, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    token = _tokens(chunk, S, L, REVERSE)
    channel = block * BD + tl.arange(0, BD)
    start = _start(head, NH, stride_B, stride_NH)
    offset = head.to(tl.int64) * T + chunk * L
    position = offset + tl.arange(0, L)
    state = head.to(tl.int64) * tl.num_programs(1) + chunk
    dh += head.to(tl.int64) * S * DH
    inverse_normaliser = tl.load(inverse + position)[:, None]

    scores = tl.zeros((L, L), tl.float32)
    dw = tl.zeros((L, L), tl.float32)
    dk_block = tl.zeros((L, BD), tl.float32)
    dv_block = tl.zeros((L, BD), tl.float32)
    for first in range(0, DH, BD):
        other = first + tl.arange(0, BD)
        k_other = _load(k + start, token, other, stride_S, S, DH)
        v_other = _load(v + start, token, other, stride_S, S, DH)
        dv_block = tl.dot(
            k_other, _load_state(dC + state * DH * DH, other, channel, DH), dv_block, input_precision=PRECISION
        )
        dC_block = _load_state(dC + state * DH * DH, channel, other, DH)
        dk_block = tl.dot(v_other, tl.trans(dC_block), dk_block, input_precision=PRECISION)
        q_other = _load(q + start, token, other, stride_S, S, DH)
        scores = tl.dot(q_other, tl.trans(k_other), scores, input_precision=PRECISION)
        dnum = _load(dh, token, other, DH, S, DH) * inverse_normaliser
        dw = tl.dot(dnum, tl.trans(v_other), dw, input_precision=PRECISION)

    q_block = _load(q + start, token, channel, stride_S, S, DH)
    k_block = _load(k + start, token, channel, stride_S, S, DH)
    dnum = _load(dh, token, channel, DH, S, DH) * inverse_normaliser
    write_weight = tl.load(write + position)[:, None]
    dn_block = tl.load(dn + state * DH + channel, mask=channel < DH, other=0.0)
    dk_block = (dk_block + dn_block[None, :]) * write_weight
    part = (head.to(tl.int64) * tl.num_programs(2) + block) * T + chunk * L + tl.arange(0, L)
    tl.store(dwrite + part, tl.sum(k_block * dk_block, 1))

    decays = _decays(row, row_low, col, col_low, offset, L) * scale
    dv_block = tl.dot(tl.trans(scores * decays), dnum, dv_block * write_weight, input_precision=PRECISION)
    _store(dv + head.to(tl.int64) * S * DH, dv_block, token, channel, DH, S, DH)

    dscores = (dw + tl.load(dden + position)[:, None]) * decays
    same = tl.arange(0, L)[:, None] == tl.arange(0, L)[None, :]
    dk_others = tl.dot(tl.trans(tl.where(same, 0.0, dscores)), q_block, input_precision=PRECISION)
    tl.store(dcol + part, tl.sum(k_block * dk_others, 1))
    dk_itself = tl.sum(tl.where(same, dscores, 0.0), 1)[:, None] * q_block
    tl.store(ddiagonal + part, tl.sum(k_block * dk_itself, 1))
    _store(dk + head.to(tl.int64) * S * DH, dk_block + dk_others + dk_itself, token, channel, DH, S, DH)


INTERPRETED = not isinstance(scan_states, triton.JITFunction)
"""Whether kernels run in Triton's interpreter, on the CPU: TRITON_INTERPRET=1 was set when they were defined."""
