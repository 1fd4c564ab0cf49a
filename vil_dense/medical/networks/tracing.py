"""Converts volume networks to TorchScript for any batch and any size."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class TracedNetwork(nn.Module):
    """Calls a trace, (B, C, I, J, K) -> logits; unlike a trace, torch.jit.script accepts it as a module of Python."""

    def __init__(self, trace: nn.Module) -> None:
        super().__init__()
        self.network = trace

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def scriptable(network: nn.Module, in_channels: int, strides: Sequence[int]) -> TracedNetwork:
    """Returns the trace of a network that torch.jit.script takes in its place.

    The blocks are written for Python, so they are traced, not compiled. The trace reads every size off its input: one
    trace serves any batch and any size, on the device of its input.

    Args:
        network: in eval mode.
        strides: of the coarsest scale along each axis.

    Raises:
        RuntimeError: the network is in training mode, in which its output may be a list.
    """
    if network.training:
        raise RuntimeError("torch.jit.script takes a volume network in eval mode only: call network.eval() before")
    device = next(network.parameters()).device
    example = torch.zeros(1, in_channels, *(2 * stride for stride in strides), device=device)
    with warnings.catch_warnings(), torch.no_grad():
        # The trace is right at other sizes (tested); the warnings are about numbers of its example.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        trace = torch.jit.trace(network, example, check_trace=False)
    _follow_device(trace)
    return TracedNetwork(trace)


def _follow_device(trace: torch.jit.ScriptModule) -> None:
    """Puts the tensors that a trace creates (masks, counts) on the device of its input.

    A trace stores its device as a constant, which neither `map_location` nor `to` changes. The trace must not have run
    before, as graphs that have run are not updated.
    """
    graph: Any = trace.graph  # torch's types lack some of its methods
    torch._C._jit_pass_inline(graph)  # so that the graphs of submodules can use this input, too
    device = graph.create("prim::device", [next(x for x in graph.inputs() if str(x.type()) == "Tensor")])
    device.output().setType(torch._C.DeviceObjType.get())
    graph.prependNode(device)
    for node in graph.findAllNodes("prim::Constant"):
        if node.output().type() == device.output().type():
            node.output().replaceAllUsesWith(device.output())
    torch._C._jit_pass_dce(graph)
