"""Writes a network as a program of `torch.export` or as TorchScript."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vil_dense.mm.export.onnx import export_program
from vil_dense.state_files import drop_source_records

TEXTS = "vil_dense.json"
"""The file of the description inside of a program."""


def save_program(network: nn.Module, example: Tensor, path: Path, texts: Mapping[str, str], layout: str | None) -> None:
    """Writes a program of `torch.export`; the arguments are those of `save_onnx`."""
    program = export_program(network, example, layout)
    for graph in (part for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)):
        for node in graph.graph.nodes:
            node.meta.pop("stack_trace", None)  # with paths of this machine
    torch.export.save(program, path, extra_files={TEXTS: texts["vil_dense"]})


def open_program(path: Path) -> Callable[[Tensor], Tensor]:
    """Returns a function that runs a program of `torch.export`."""
    return torch.export.load(path).module()


def save_torchscript(
    network: nn.Module, example: Tensor, path: Path, texts: Mapping[str, str], layout: str | None
) -> None:
    """Writes a trace of the network; the arguments are those of `save_onnx`."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # what a trace fixes is found by the check
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        traced = torch.jit.trace(network, example, check_trace=False)
        torch.jit.save(traced, path, _extra_files={TEXTS: texts["vil_dense"]})
        drop_source_records(path)


def open_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    """Returns a function that runs a TorchScript file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        return torch.jit.load(path)
