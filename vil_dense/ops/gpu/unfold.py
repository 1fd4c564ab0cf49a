"""Computes gradients of the raw parameters from those of what `fold_maps` made of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from vil_dense.ops.cell_weights import CellWeights
from vil_dense.ops.gpu.launches import launch

BLOCK = 64
"""Channels of a program."""


class FoldedGradients(NamedTuple):
    """Holds sums of what the kernels return in parts; see `unfold_maps`."""

    output: Tensor  # (NH, 8, DH)
    q_map: Tensor  # (NH, 5 DH)
    conv: Tensor  # (K + 33, E)
    constants: Tensor  # (16)
    heads: int


def unfold_gradients(weights: CellWeights, folded: FoldedGradients) -> CellWeights:
    """Returns the gradients of the parameters, each in the dtype of its parameter, contiguous."""
    w = weights
    gradients = CellWeights(*(None if x is None else torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in w))  # type: ignore[arg-type]
    K, E = folded.conv.shape[0] - 33, folded.conv.shape[1]
    launch(
        "unfold_maps", (-(-E // BLOCK),),
        w.q, w.k, w.v, w.q_bias, w.k_bias, w.v_bias, w.igate, w.fgate, folded.output, folded.q_map, folded.conv,
        folded.constants, *gradients, (E // folded.heads) ** -0.5, E, K, DH=E // folded.heads, BLOCK=BLOCK, num_warps=2,
    )  # fmt: skip
    return gradients
