"""Recomputes activations in the backward pass instead of storing them."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run(use_checkpoint: bool, module: nn.Module, *args: Tensor) -> Tensor:
    """Calls a module; with `use_checkpoint` its activations are not stored for the backward pass but recomputed."""
    if use_checkpoint and torch.is_grad_enabled():
        return checkpoint(module, *args, use_reentrant=False)
    return module(*args)
