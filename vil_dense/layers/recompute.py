"""What is computed again in the backward pass instead of kept."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint


def recompute(function: Callable[..., Tensor], parameters: Callable[[], Iterable[Tensor]], *tensors: Any) -> Tensor:
    """`function(*tensors)`, of which nothing but `tensors` is kept; a gradient of it has no further gradient.

    torch's checkpoint does the same with hooks for each tensor inside, which take long where there are many, and runs
    the first pass with all that a backward pass asks for. It is what this becomes within a graph of torch.compile.

    Args:
        function: draws no random numbers.
        parameters: all that `function` reads beside `tensors`, asked for anew in the backward pass: sharded ones are
            put together for each pass.
        tensors: or None.
    """
    if torch.compiler.is_compiling():
        return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return _Recompute.apply(function, parameters, len(tensors), *tensors, *parameters())


class _Recompute(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Tensor], parameters: Callable[[], Iterable[Tensor]], count: int, *inputs: Any
    ) -> Tensor:
        device = next(x.device.type for x in inputs if x is not None)
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        ctx.autocast = dict(device_type=device, dtype=dtype, enabled=enabled)
        ctx.function, ctx.parameters = function, parameters
        ctx.save_for_backward(*inputs[:count])
        # Detached, as they are in a pass without gradients: compiled functions then have one graph for both.
        return function(*(None if x is None else x.detach() for x in inputs[:count]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        needed, kept = ctx.needs_input_grad[3:], ctx.saved_tensors
        given = zip(kept, needed[: len(kept)], strict=True)
        tensors = [x if x is None else x.detach().requires_grad_(need) for x, need in given]
        with torch.enable_grad(), torch.autocast(**ctx.autocast):
            y = ctx.function(*tensors)
        sources = zip((*tensors, *ctx.parameters()), needed, strict=True)
        found = iter(torch.autograd.grad(y, [x for x, need in sources if need], gradient))
        return None, None, None, *(next(found) if need else None for need in needed)
