"""Gradients of the raw parameters, from those of what `fold_maps` made of them: small tensors, in torch."""

from typing import NamedTuple

import torch
from torch import Tensor

from vil_dense.ops.cell_weights import QKV_BLOCK, CellWeights


class FoldedGradients(NamedTuple):
    """Sums of what the kernels return in parts."""

    output: Tensor
    """(NH, 8, DH): of norm, norm_bias, skip, v_map_bias, and of the map of v, (4 in, 4 out, DH / 4)"""
    q_map: Tensor
    """(NH, 5 DH): of the map of q and k, (4 in, 4 out, DH / 4), then of its bias"""
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


def blocks_of(x: Tensor, heads: int) -> Tensor:
    """(..., E) -> (..., 4, E / 4): the channels of each block."""
    return x.unflatten(-1, (heads, QKV_BLOCK, -1)).transpose(-3, -2).flatten(-2)


def channels_of(x: Tensor, heads: int) -> Tensor:
    """The inverse of `blocks_of`."""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2).flatten(-3)


def maps_of(x: Tensor) -> Tensor:
    """(NH, 4 in, 4 out, DH / 4), flat behind the first axis, -> (4 in, 4 out, E / 4)."""
    return x.reshape(x.shape[0], QKV_BLOCK, QKV_BLOCK, -1).movedim(0, 2).flatten(2)


def _unfold(weights: CellWeights, folded: FoldedGradients) -> CellWeights:
    """With n blocks of 4 channels, o and p outputs, i inputs, g gates: the derivatives of `fold_maps`, term by term."""
    heads, K = folded.heads, folded.conv.shape[0] - 33
    E = folded.conv.shape[1]
    scale = (E // heads) ** -0.5
    Q, K_map, V = (x.float() for x in (weights.q, weights.k, weights.v))
    q_bias, k_bias, v_bias = (
        torch.zeros_like(Q[0]) if x is None else blocks_of(x.float(), heads)
        for x in (weights.q_bias, weights.k_bias, weights.v_bias)
    )
    gates = blocks_of(torch.cat([weights.igate, weights.fgate]).float().unflatten(1, (3, E)), heads)

    dM = maps_of(folded.q_map[:, : E // heads * 4])
    dM_bias = blocks_of(folded.q_map[:, E // heads * 4 :].flatten(), heads)
    of_c, of_u = folded.conv[K + 1 : K + 17], folded.conv[K + 17 :]
    dgates_c, dgates_u = blocks_of(of_c[:8], heads), blocks_of(of_u[:8], heads)
    # Of the rows for beta, a head's row acts on its own channels.
    dbeta = of_c[8 : 8 + heads].view(heads, heads, QKV_BLOCK, -1).diagonal().movedim(-1, 1).flatten(1)
    constant, constant_beta = folded.constants[:8], folded.constants[8 : 8 + heads]
    constant_beta = scale * constant_beta.repeat_interleave(E // QKV_BLOCK // heads)

    # q_map = scale K^T Q and its bias scale K^T q_bias; beta = scale k_bias (Q c + q_bias).
    dQ = scale * (torch.einsum("pon,ipn->ion", K_map, dM) + dbeta[:, None] * k_bias)
    dQ += torch.einsum("gon,gin->ion", gates[:, 0], dgates_c)
    dK = scale * (torch.einsum("ion,ipn->pon", Q, dM) + dM_bias[:, None] * q_bias)
    dK += torch.einsum("gon,gin->ion", gates[:, 1], dgates_c)
    dV = maps_of(folded.output[:, 4:]) + torch.einsum("gon,gin->ion", gates[:, 2], dgates_u)
    of_constants = torch.einsum("g,gmon->mon", constant, gates)
    dq_bias = scale * torch.einsum("pon,pn->on", K_map, dM_bias) + constant_beta * k_bias + of_constants[0]
    dk_bias = scale * torch.einsum("ion,in->on", Q, dbeta) + constant_beta * q_bias + of_constants[1]
    dv_bias = blocks_of(folded.output[:, 3].flatten(), heads) + of_constants[2]
    dgates = [
        torch.einsum("gin,ion->gon", d, x) + constant[:, None, None] * bias
        for d, x, bias in ((dgates_c, Q, q_bias), (dgates_c, K_map, k_bias), (dgates_u, V, v_bias))
    ]
    dgates_all = channels_of(torch.stack(dgates, 1), heads).flatten(1)
    dq_bias, dk_bias, dv_bias = channels_of(torch.stack([dq_bias, dk_bias, dv_bias]), heads)
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
