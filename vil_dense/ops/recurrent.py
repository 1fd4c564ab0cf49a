"""Defines the mLSTM one token after another: the recurrence, which is the reference of the tests."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mlstm_recurrent(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool) -> Tensor:
    """Computes the recurrence of xLSTM (arXiv 2405.04517), one token after another; see `ops.mlstm`.

    C, n and h are those of equations 19 to 21, scaled by the stabiliser m of equation 15. With a_t = logsigmoid(f_t):

        m_t = max(a_t + m_{t-1}, i_t),    m_0 = -inf
        C_t = e^{a_t + m_{t-1} - m_t} C_{t-1} + e^{i_t - m_t} k_t v_t^T,    n_t the same with k_t alone

    Numerator and normaliser of h_t are both multiplied by e^{m_t - max(m_t, 0)}. The quotient stays the same, and
    e^{-m_t} does not overflow where m_t is far below 0.
    """
    k = k / k.shape[-1] ** 0.5
    a = F.logsigmoid(f)
    C = q.new_zeros(*q.shape[:2], q.shape[3], q.shape[3])
    n = torch.zeros_like(q[:, :, 0])
    m = torch.full_like(i[:, :, 0], -torch.inf)
    h = []
    steps = range(q.shape[2])
    for t in reversed(steps) if reverse else steps:
        m_new = torch.maximum(a[:, :, t] + m, i[:, :, t])
        forget = torch.exp(a[:, :, t] + m - m_new)[..., None]
        write = torch.exp(i[:, :, t] - m_new)[..., None] * k[:, :, t]
        C = forget[..., None] * C + write[..., None] * v[:, :, t, None, :]
        n = forget * n + write
        m = m_new
        m_out = m.clamp(min=0)
        q_t = q[:, :, t] * torch.exp(m - m_out)[..., None]
        numerator = torch.einsum("bhd,bhde->bhe", q_t, C)
        normaliser = torch.maximum((n * q_t).sum(-1).abs(), torch.exp(-m_out)) + eps * torch.exp(m - m_out)
        h.append(numerator / normaliser[..., None])
    return torch.stack(h[::-1] if reverse else h, dim=2)
