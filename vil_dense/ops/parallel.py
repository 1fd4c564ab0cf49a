"""Computes the mLSTM of a whole sequence at once: O(S^2) in time and memory, the form of the official code."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mlstm_parallel(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool) -> Tensor:
    """Computes the parallel form (xLSTM, arXiv 2405.04517, appendix A.3); see `ops.mlstm`."""
    if reverse:
        q, k, v, i, f = (x.flip(2) for x in (q, k, v, i, f))
    S, DH = q.shape[2:]
    A = F.logsigmoid(f).cumsum(-1)
    causal = torch.ones(S, S, dtype=torch.bool, device=q.device).tril()
    log_w = (A[..., :, None] - A[..., None, :] + i[..., None, :]).masked_fill(~causal, -torch.inf)
    m = log_w.amax(-1, keepdim=True)
    m_out = m.clamp(min=0)
    w = (q @ k.mT) * DH**-0.5 * torch.exp(log_w - m_out)
    normaliser = torch.maximum(w.sum(-1, keepdim=True).abs(), torch.exp(-m_out)) + eps * torch.exp(m - m_out)
    h = (w @ v) / normaliser
    return h.flip(2) if reverse else h
