"""Functions that torch.compile fuses, where a compiler is at hand; fullgraph, and one graph for all sizes."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

GRAPHS = 64
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"cpp.max_horizontal_fusion_size": 1}
"""Measured on CPUs: less time where loops over different layouts stay apart. Not `realize_reads_threshold`, though it
saves time too: with it torch 2.13 makes backward loops that store whole vectors past the end of an array."""


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, fused. What `any_size` has marked may change without a new graph; channels may not, they are what
    inner loops run over."""
    # One limit serves all calls of a function in the process: models of several widths, training and inference.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
    return torch.compile(function, fullgraph=True, dynamic=False, options=OPTIONS)


def any_size(x: Tensor, *axes: int) -> Tensor:
    """`x`, marked: a compiled function takes any number along `axes` (0 and 1 get graphs of their own)."""
    torch._dynamo.mark_dynamic(x, [axis for axis in axes if x.shape[axis] > 1])
    return x


@cache
def compiler_problem(device: str) -> str | None:
    """Why nothing can be compiled for `device` (cpu, cuda), in one line; None where it can. Tries it."""
    try:
        torch.compile(lambda x: x.sin() + 1, fullgraph=True)(torch.zeros(8, device=device))
    except (ImportError, OSError, RuntimeError) as error:
        cause = getattr(error, "inner_exception", error)
        return next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return None
