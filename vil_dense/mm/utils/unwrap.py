"""Finds the model within the wrappers of torch and MMEngine."""

from typing import Any

from torch import nn


def unwrap(model: Any) -> Any:
    """Returns the model that DDP, other wrappers and MMEngine's test-time augmentation hold as `module`."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model
