"""The parameters of a ViL cell: everything between the up- and the down-projection of a layer, for one traversal."""

from typing import NamedTuple

from torch import Tensor


class CellWeights(NamedTuple):
    """Holds raw parameters, channels in the published order; None where the cell has no such bias.

    E channels are NH = 4 heads of DH = E / 4 each; a map of q, k or v mixes 4 neighbouring channels.
    """

    conv: Tensor
    """(E, 1, *kernel): over the grid, or (E, 1, kernel) along the sequence."""
    conv_bias: Tensor | None
    """(E)"""
    q: Tensor
    """(E / 4, 4 out, 4 in)"""
    q_bias: Tensor | None
    """(E)"""
    k: Tensor
    k_bias: Tensor | None
    v: Tensor
    v_bias: Tensor | None
    igate: Tensor
    """(NH, 3 E), of q, k and v"""
    igate_bias: Tensor
    """(NH)"""
    fgate: Tensor
    fgate_bias: Tensor
    norm: Tensor
    """(E), what the normed heads are multiplied with"""
    norm_bias: Tensor | None
    skip: Tensor
    """(E), what c is multiplied with beside them"""
