"""Gradients of the raw parameters, from those of what `fold_maps` made of them: small tensors, in torch."""

from typing import NamedTuple

import torch
from torch import Tensor

from vil_dense.ops.cell_weights import CellWeights


class FoldedGradients(NamedTuple):
    """Sums of what the kernels return in parts."""

    output: Tensor
    """(NH, 8, DH): of norm, norm_bias, skip, v_map_bias, and of the blocks of the map of v"""
    q_map: Tensor
    """(NH, 5 DH): of the blocks of the map of q and k, then of its bias"""
    conv: Tensor
    """(K + 33, E): of the convolution's weights and bias, then of `gates`"""
    constants: Tensor
    """(16)"""
    heads: int


def unfold_gradients(weights: CellWeights, folded: FoldedGradients) -> CellWeights:
    """The gradients of the parameters, each in the dtype of its parameter."""
    with torch.autocast(folded.conv.device.type, enabled=False):
        gradients = _unfold(weights, folded)
    named = {
        name: None if w is None or g is None else g.reshape(w.shape).to(w.dtype)
        for name, g, w in zip(weights._fields, gradients, weights, strict=True)
    }
    return CellWeights(**named)  # type: ignore[arg-type]


def _unfold(weights: CellWeights, folded: FoldedGradients) -> CellWeights:
    """With n blocks of 4 channels, o and p outputs, i inputs, g gates: the derivatives of `fold_maps`, term by term."""
    heads, K = folded.heads, folded.conv.shape[0] - 33
    E = folded.conv.shape[1]
    scale = (E // heads) ** -0.5
    Q, K_map, V = (x.float() for x in (weights.q, weights.k, weights.v))
    q_bias, k_bias, v_bias = (
        torch.zeros_like(Q[..., 0]) if x is None else x.float().view(-1, 4)
        for x in (weights.q_bias, weights.k_bias, weights.v_bias)
    )
    gates = torch.cat([weights.igate, weights.fgate]).float().view(-1, 3, E // 4, 4)

    dM = folded.q_map[:, : E // heads * 4].reshape(-1, 4, 4)
    dM_bias = folded.q_map[:, E // heads * 4 :].reshape(-1, 4)
    of_c, of_u = folded.conv[K + 1 : K + 17], folded.conv[K + 17 :]
    dgates_c, dgates_u = of_c[:8].view(8, -1, 4), of_u[:8].view(8, -1, 4)
    dbeta = torch.cat(list(of_c[8 : 8 + heads].view(heads, heads, -1).diagonal().unbind(1))).view(-1, 4)
    constant, constant_beta = folded.constants[:8], folded.constants[8 : 8 + heads]
    constant_beta = scale * constant_beta.repeat_interleave(E // 4 // heads)[:, None]

    # q_map = scale K^T Q and its bias scale K^T q_bias; beta = scale k_bias (Q c + q_bias).
    dQ = scale * (K_map @ dM + k_bias[:, :, None] * dbeta[:, None])
    dQ += torch.einsum("gno,gni->noi", gates[:, 0], dgates_c)
    dK = scale * (Q @ dM.mT + q_bias[:, :, None] * dM_bias[:, None])
    dK += torch.einsum("gno,gni->noi", gates[:, 1], dgates_c)
    dV = folded.output[:, 4:].reshape(-1, 4, 4) + torch.einsum("gno,gni->noi", gates[:, 2], dgates_u)
    of_constants = torch.einsum("g,gmno->mno", constant, gates)
    dq_bias = scale * torch.einsum("npo,no->np", K_map, dM_bias) + constant_beta * k_bias + of_constants[0]
    dk_bias = scale * torch.einsum("noi,ni->no", Q, dbeta) + constant_beta * q_bias + of_constants[1]
    dv_bias = folded.output[:, 3].reshape(-1, 4) + of_constants[2]
    dgates = [
        torch.einsum("gni,noi->gno", d, x) + constant[:, None, None] * bias
        for d, x, bias in ((dgates_c, Q, q_bias), (dgates_c, K_map, k_bias), (dgates_u, V, v_bias))
    ]
    dgates_all = torch.stack(dgates, 1).flatten(1)
    return CellWeights(
        conv=folded.conv[:K].mT,
        conv_bias=folded.conv[K],
        q=dQ,
        q_bias=dq_bias,
        k=dK,
        k_bias=dk_bias,
        v=dV,
        v_bias=dv_bias,
        igate=dgates_all[:heads],
        igate_bias=constant[:heads],
        fgate=dgates_all[heads:],
        fgate_bias=constant[heads:],
        norm=folded.output[:, 0],
        norm_bias=folded.output[:, 1],
        skip=folded.output[:, 2],
    )
