"""The mLSTM chunk by chunk: linear in S, in time and in memory, in training too.

Inside a chunk of L tokens the parallel form runs; between chunks the state (C, n, m) is carried. Segments of a few
chunks are recomputed in the backward pass, so that what is kept for it is the inputs and one state per segment.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 64
CHUNKS_PER_SEGMENT = 4


def mlstm_chunkwise(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float) -> Tensor:
    """The chunkwise form, for any S; see `ops.mlstm`."""
    S, DH = q.shape[2:]
    segments = -(-S // (CHUNK * CHUNKS_PER_SEGMENT))  # the inside of one segment is all that lives beside inputs and h
    state = [q.new_zeros(*q.shape[:2], DH, DH + 1), torch.full_like(i[:, :, 0], -torch.inf)]
    h = []
    for inputs in zip(*(x.tensor_split(segments, dim=2) for x in (q, k, v, i, f)), strict=True):
        arguments = (*inputs, *state, eps)
        if torch.is_grad_enabled():
            h_segment, *state = checkpoint(_segment, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            h_segment, *state = _segment(*arguments)
        h.append(h_segment)
    return torch.cat(h, dim=2)


def _segment(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, C: Tensor, m: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states of one segment and the state after it, from the state before it.

    The normaliser n is the last column of C, (B, NH, DH, DH + 1), and v has a column of ones for it.
    """
    S, DH = q.shape[2:]
    chunks = -(-S // CHUNK)
    L = -(-S // chunks)
    q, k, v, i, f = (_into_chunks(x, chunks, L) for x in (q, k * DH**-0.5, F.pad(v, (0, 1), value=1.0), i, f))
    a = F.logsigmoid(f)
    if chunks * L > S:  # padding comes last, so no token sees it; closed gates keep it out of the state
        padding = torch.arange(chunks * L, device=q.device).view(chunks, L) >= S
        i, a = i.masked_fill(padding, -torch.inf), a.masked_fill(padding, 0.0)
    b = a.cumsum(-1)
    g = b[..., -1]

    # 1. The state before each chunk, scaled by e^{-m}. m may be rounded: it scales numerator and normaliser alike. Its
    #    gradient cancels the rounding in that of a gate which outweighs all others, so it is kept. In exponents the
    #    large b are subtracted from each other first.
    add = (g[..., None] - b) + i
    x = (i - b).cummax(-1).values
    C_before, m_before = [], []
    for n in range(chunks):
        C_before.append(C)
        m_before.append(m)
        m_new = g[:, :, n] + torch.maximum(m, x[:, :, n, -1])
        k_add = k[:, :, n] * torch.exp(add[:, :, n] - m_new[..., None])[..., None]
        C = torch.exp(g[:, :, n] + m - m_new)[..., None, None] * C + k_add.mT @ v[:, :, n]
        m = m_new

    # 2. The tokens of a chunk see each other, and the state before their chunk.
    m_start = torch.stack(m_before, 2)[..., None]
    m_t = b + torch.maximum(m_start, x)
    m_out = m_t.clamp(min=0)
    causal = torch.ones(L, L, dtype=torch.bool, device=q.device).tril()
    log_w = (b[..., :, None] - b[..., None, :]) + (i[..., None, :] - m_out[..., :, None])
    w = (q @ k.mT) * torch.exp(log_w.masked_fill(~causal, -torch.inf))
    out = w @ v + (q * torch.exp((b - m_out) + m_start)[..., None]) @ torch.stack(C_before, 2)
    numerator, dot = out[..., :-1], out[..., -1]
    normaliser = torch.maximum(dot.abs(), torch.exp(-m_out)) + eps * torch.exp(m_t - m_out)
    h = (numerator / normaliser[..., None]).flatten(2, 3)[:, :, :S]
    return h, C, m


def _into_chunks(x: Tensor, chunks: int, L: int) -> Tensor:
    """(B, NH, S, ...) -> (B, NH, chunks, L, ...), zeros at the end."""
    missing = chunks * L - x.shape[2]
    if missing:
        x = F.pad(x, (0, 0) * (x.ndim - 3) + (0, missing))
    return x.unflatten(2, (chunks, L))
