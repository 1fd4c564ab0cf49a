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
    S = q.shape[2]
    segments = -(-S // (CHUNK * CHUNKS_PER_SEGMENT))  # the inside of one segment is all that lives beside inputs and h
    state = [
        q.new_zeros(*q.shape[:2], q.shape[3], q.shape[3]),
        torch.zeros_like(q[:, :, 0]),
        torch.full_like(i[:, :, 0], -torch.inf),
    ]
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
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, C: Tensor, n: Tensor, m: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states of one segment and the state after it, from the state before it."""
    S, DH = q.shape[2:]
    chunks = -(-S // CHUNK)
    L = -(-S // chunks)
    q, k, v, i, f = (_into_chunks(x, chunks, L) for x in (q, k * DH**-0.5, v, i, f))
    # Padding at the end never reaches a token before it; a closed input gate keeps it out of the carried state.
    a = F.logsigmoid(f)
    if chunks * L > S:
        padding = torch.arange(chunks * L, device=q.device).view(chunks, L) >= S
        i, a = i.masked_fill(padding, -torch.inf), a.masked_fill(padding, 0.0)
    b = a.cumsum(-1)
    g = b[..., -1]

    # 1. What each chunk adds to the state, and the largest exponent in it.
    log_add = g[..., None] - b + i
    m_add = log_add.amax(-1)
    C_before, n_before, m_before = [], [], []
    for c in range(chunks):
        C_before.append(C)
        n_before.append(n)
        m_before.append(m)
        m_new = torch.maximum(g[:, :, c] + m, m_add[:, :, c])
        keep = torch.exp(g[:, :, c] + m - m_new)[..., None]
        k_add = k[:, :, c] * torch.exp(log_add[:, :, c] - m_new[..., None])[..., None]
        C = keep[..., None] * C + k_add.mT @ v[:, :, c]
        n = keep * n + k_add.sum(-2)
        m = m_new

    # 2. The tokens of a chunk see each other, and the state before their chunk.
    causal = torch.ones(L, L, dtype=torch.bool, device=q.device).tril()
    log_w = (b[..., :, None] - b[..., None, :] + i[..., None, :]).masked_fill(~causal, -torch.inf)
    log_carry = b + torch.stack(m_before, 2)[..., None]
    m_t = torch.maximum(log_carry, log_w.amax(-1))
    m_out = m_t.clamp(min=0)
    w = (q @ k.mT) * torch.exp(log_w - m_out[..., None])
    q_carry = q * torch.exp(log_carry - m_out)[..., None]
    numerator = w @ v + q_carry @ torch.stack(C_before, 2)
    dot = w.sum(-1) + (q_carry @ torch.stack(n_before, 2)[..., None]).squeeze(-1)
    normaliser = torch.maximum(dot.abs(), torch.exp(-m_out)) + eps * torch.exp(m_t - m_out)
    h = (numerator / normaliser[..., None]).flatten(2, 3)[:, :, :S]
    return h, C, n, m


def _into_chunks(x: Tensor, chunks: int, L: int) -> Tensor:
    """(B, NH, S, ...) -> (B, NH, chunks, L, ...), zeros at the end."""
    missing = chunks * L - x.shape[2]
    if missing:
        x = F.pad(x, (0, 0) * (x.ndim - 3) + (0, missing))
    return x.unflatten(2, (chunks, L))
