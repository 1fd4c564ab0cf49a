"""Provides functions on tensors, which import only torch, and triton if that backend is requested.

Letters, as in the xLSTM paper (arXiv 2405.04517, section 2.3): q k v queries, keys and values; i f input and forget
gate pre-activations; C n m the matrix memory, the normaliser and the stabiliser; h the hidden states.
Dimensions: B batch, NH heads, S sequence, DH head dimension, L chunk, C channels, grid the spatial axes.
"""

from vil_dense.ops.mlstm import BACKENDS, mlstm, resolve_backend, usable_backend
from vil_dense.ops.traversal import ORDERS, check_order, frame_axes, from_frame, to_frame, to_grid, to_sequence

__all__ = [
    "BACKENDS",
    "ORDERS",
    "check_order",
    "frame_axes",
    "from_frame",
    "mlstm",
    "resolve_backend",
    "to_frame",
    "to_grid",
    "to_sequence",
    "usable_backend",
]
