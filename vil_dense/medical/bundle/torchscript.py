"""Saves a network as TorchScript, with the metadata of its bundle, for users without vil_dense."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import save_net_with_metadata
from torch import nn

from vil_dense.state_files import drop_source_records

LARGEST_DIFFERENCE = 1e-4
"""Largest absolute difference of the logits of a TorchScript that is saved."""
SIZES = {True: "size", False: "sizes that the strides of the network divide"}
"""Describes the sizes of the input, by whether odd ones are among them."""


def save_torchscript(
    model: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    metadata: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
) -> str:
    """Converts `model` by torch.jit.script, or if that fails by torch.jit.trace, and writes it if it computes the same.

    Args:
        model: in eval mode.
        shape: (B, C, I, J, K) of a window.
        path: file to write, which ends with `.ts`.
        metadata: to be stored in the file; `monai.data.load_net_with_metadata` reads it.
        configs: by their names without `.json`, stored beside it as by `python -m monai.bundle ckpt_export`.

    Returns:
        A sentence with the result, for the log: the sizes that it takes, or why nothing was written.
    """
    batch, channels, *window = shape
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # the output is compared below
        warnings.filterwarnings("ignore", "The TorchScript type system", UserWarning)  # about MONAI's DynUNet
        try:
            script = torch.jit.script(model)
        except Exception:  # some of MONAI's networks cannot be scripted; the errors are of several types
            script = torch.jit.trace(model, torch.zeros(shape), check_trace=False)
        apart = _difference(script, model, shape)
        if not apart <= LARGEST_DIFFERENCE:
            return f"no TorchScript: its output differs by up to {apart:.2g}"
        halves = [max(1, length // 2) for length in window]
        halved = _takes(script, model, (batch + 1, channels, *halves))
        any_size = halved and _takes(script, model, (batch + 1, channels, *(length + 1 for length in halves)))
        files = {f"{name}.json": json.dumps(content).encode() for name, content in configs.items()}
        save_net_with_metadata(script, str(path), False, False, dict(metadata), files)
        drop_source_records(path)
    sizes = f"any batch and {SIZES[any_size]}" if halved else f"windows of {' x '.join(map(str, window))}"
    return f"TorchScript for {sizes}: models/model.ts"


def _takes(script: nn.Module, model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Returns whether a script and its network take inputs of `shape`, and agree on them."""
    try:
        return _difference(script, model, shape) <= LARGEST_DIFFERENCE
    except Exception:  # a network that cannot take a size raises errors of many types
        return False


def _difference(script: nn.Module, model: nn.Module, shape: tuple[int, ...]) -> float:
    """Returns the largest absolute difference of two networks on random numbers of `shape`."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return float((script(x) - model(x)).abs().max())
