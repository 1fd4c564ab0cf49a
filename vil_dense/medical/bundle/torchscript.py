"""Traces a network for loaders that have no vil_dense."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


def save_torchscript(model: nn.Module, example: Tensor, path: Path) -> str:
    """Traces `model` at the size of `example` and writes it, if it then gives the same on another input of that size.

    Returns:
        A sentence that says whether, and for which windows.
    """
    with warnings.catch_warnings(), torch.no_grad():
        # sizes are constants of the trace: windows have one size
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        traced = torch.jit.trace(model, example)
        follow_device(traced)
        other = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
        apart = float((traced(other) - model(other)).abs().max())
        if not apart <= 1e-4:
            return f"no TorchScript: its output is up to {apart:.2g} off"
        torch.jit.save(traced, path)
    return f"TorchScript for windows of {' x '.join(map(str, example.shape[2:]))}: models/model.ts"


def follow_device(traced: torch.jit.ScriptModule) -> None:
    """Moves the tensors that a trace makes by itself (masks, counts) to where its input is.

    A trace keeps the device it was made on as a constant, which neither `map_location` nor `to` changes. Before the
    first run: what has run stays as it was.
    """
    graph = traced.graph
    torch._C._jit_pass_inline(graph)  # the graphs of the parts, too, then have this one's input
    here = graph.create("prim::device", [next(x for x in graph.inputs() if str(x.type()) == "Tensor")])
    here.output().setType(torch._C.DeviceObjType.get())
    graph.prependNode(here)
    for node in graph.findAllNodes("prim::Constant"):
        if node.output().type() == here.output().type():
            node.output().replaceAllUsesWith(here.output())
    torch._C._jit_pass_dce(graph)
