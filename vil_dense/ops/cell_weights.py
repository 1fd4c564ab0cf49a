"""Defines the parameters of a ViL cell: all between the up- and the down-projection, for one traversal."""

from typing import NamedTuple

from torch import Tensor

NUM_HEADS = 4
QKV_BLOCK = 4
"""Channels that a block of the block-diagonal q, k and v maps joins."""


class CellWeights(NamedTuple):
    """Stores raw parameters; None for a bias that the cell does not have.

    E channels are NH = 4 heads of DH = E / 4 each. The four channels of a block of q, k and v lie DH / 4 apart in
    their head: channel j of block b is channel j * DH / 4 + b.
    """

    conv: Tensor  # (E, 1, *kernel): one axis for a causal convolution (v1), those of the grid otherwise (v2)
    conv_bias: Tensor | None  # (E), and so are all biases but those of the gates
    q: Tensor  # (4 in, 4 out, E / 4), the blocks of one head after another; and so are k and v
    q_bias: Tensor | None
    k: Tensor
    k_bias: Tensor | None
    v: Tensor
    v_bias: Tensor | None
    igate: Tensor  # (NH, 3 * E), of q, k and v; and so is fgate
    igate_bias: Tensor  # (NH)
    fgate: Tensor
    fgate_bias: Tensor
    norm: Tensor  # (E), factor of the normalised heads
    norm_bias: Tensor | None
    skip: Tensor  # (E), factor of c in the skip connection
