"""Traces a network for users without vil_dense."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def save_torchscript(model: nn.Module, example: Tensor, path: Path) -> str:
    """Traces `model` at the size of `example` and writes it if its output on another input is that of `model`.

    Returns:
        A sentence with the result, for the log.
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
            return f"no TorchScript: its output differs by up to {apart:.2g}"
        torch.jit.save(traced, path)
    return f"TorchScript for windows of {' x '.join(map(str, example.shape[2:]))}: models/model.ts"


def follow_device(traced: torch.jit.ScriptModule) -> None:
    """Puts the tensors that a trace creates (masks, counts) on the device of its input.

    A trace stores its device as a constant, which neither `map_location` nor `to` changes. The trace must not have run
    before, as graphs that have run are not updated.
    """
    graph: Any = traced.graph  # torch's types lack some of its methods
    torch._C._jit_pass_inline(graph)  # so that the graphs of submodules can use this input, too
    device = graph.create("prim::device", [next(x for x in graph.inputs() if str(x.type()) == "Tensor")])
    device.output().setType(torch._C.DeviceObjType.get())
    graph.prependNode(device)
    for node in graph.findAllNodes("prim::Constant"):
        if node.output().type() == device.output().type():
            node.output().replaceAllUsesWith(device.output())
    torch._C._jit_pass_dce(graph)
