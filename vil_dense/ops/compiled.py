"""Fuses functions by torch.compile, one graph for all sizes."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

GRAPHS = 64
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"cpp.max_horizontal_fusion_size": 1}
"""Loops over different layouts are not fused, which takes less time on CPUs (measured). We do not set
`realize_reads_threshold`, although it saves time, because torch 2.13 then generates backward loops that store whole
vectors past the end of an array."""

Axes = tuple[Any, ...]
"""One entry for each argument: the axes of a tensor whose size may change, or a tuple of such entries for a tuple."""


@cache
def compiled(function: Callable[..., Any], dynamic_axes: Axes) -> Callable[..., Any]:
    """Returns `function`, compiled as a whole.

    A new size along one of the `dynamic_axes` takes no new graph, except that sizes of 1 have graphs of their own.
    Other axes may not change without one: channels are what inner loops run over.
    """
    # One limit serves all calls of a function in the process: models of several widths, training and inference.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
    fused = torch.compile(function, fullgraph=True, dynamic=False, options=OPTIONS)

    def call(*args: Any) -> Any:
        _mark(args, dynamic_axes)
        return fused(*args)

    return call


def _mark(args: Sequence[Any], axes: Axes) -> None:
    for arg, entry in zip(args, axes, strict=True):
        if isinstance(arg, Tensor) and entry:
            torch._dynamo.maybe_mark_dynamic(arg, [axis for axis in entry if arg.shape[axis] > 1])
        elif isinstance(arg, tuple) and entry:
            _mark(arg, entry)


@cache
def compiler_problem(device: str) -> str | None:
    """Returns in one line why nothing can be compiled for `device` (cpu, cuda), or None if a test works."""
    try:
        torch.compile(lambda x: x.sin() + 1, fullgraph=True)(torch.zeros(8, device=device))
    except (ImportError, OSError, RuntimeError) as error:
        cause = getattr(error, "inner_exception", error)
        return next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return None
