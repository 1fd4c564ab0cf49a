"""Registers functions as operators of torch: torch.compile, FSDP and profilers then see one node instead of a loop.

An operator saves nothing but its inputs for the backward pass. There the function is computed again, this time with
gradients, by a second operator, `<name>_backward`; or a function of its own computes them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.jit import is_tracing
from torch.library import Library
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

LIBRARY = Library("vil_dense", "FRAGMENT")

KERNELS: dict[Any, Callable[..., Any]] = {}
"""The function that each operator runs: a TorchDispatchMode that wants to see the operations inside calls it in place
of the operator."""


def register(
    name: str,
    function: Callable[..., Tensor],
    output: Callable[..., Tensor],
    backward: Callable[..., list[Tensor] | None] | None = None,
) -> Callable[..., Tensor]:
    """Registers `function` as `torch.ops.vil_dense.<name>` and returns the operator.

    Args:
        name: the name of the operator.
        function: takes tensors, None where a tensor is left out, and plain values, all annotated; returns a new tensor.
            It draws no random numbers. Autocast is switched off inside.
        output: returns an empty contiguous tensor like the output, from the same arguments.
        backward: takes the gradient of the output and the same arguments, and returns the gradients of all tensors in
            order; or None where autograd shall find them.
    """
    schema = torch.library.infer_schema(function, mutates_args=())
    arguments = schema.rpartition(" -> ")[0].removeprefix("(")
    LIBRARY.define(f"{name}{schema}")
    LIBRARY.define(f"{name}_backward(Tensor gradient, {arguments} -> Tensor[]")
    operator = getattr(torch.ops.vil_dense, name).default
    backward_operator = getattr(torch.ops.vil_dense, f"{name}_backward").default

    def run(*args: Any) -> Tensor:
        args = tree_map_only(Tensor, Tensor.detach, args)  # with or without gradients: one compiled graph inside
        with torch.no_grad(), no_autocast(_tensors(args)[0]):
            return function(*args)

    def run_backward(gradient: Tensor, *args: Any) -> list[Tensor]:
        if backward is not None:
            with torch.no_grad(), no_autocast(gradient):
                computed = backward(gradient, *args)
            if computed is not None:
                return [x.flatten().view(x.shape) for x in computed]
        with torch.enable_grad(), no_autocast(gradient), _autograd():
            args = tree_map_only(Tensor, lambda x: x.detach().requires_grad_(), args)
            gradients = torch.autograd.grad(function(*args), _tensors(args), gradient)
        return [x.flatten().view(x.shape) for x in gradients]  # strides as in `new_empty`, also of axes of one

    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*_tensors(inputs))
        ctx.inputs = tree_map_only(Tensor, lambda _: Ellipsis, inputs)

    def differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch._C._functorch.is_legacy_batchedtensor(gradient):
            raise RuntimeError(
                f"vil_dense::{name} takes no batch of gradients (is_grads_batched, vectorize=True); use "
                "torch.func.jacrev, or the mLSTM backend 'parallel' or 'recurrent'"
            )
        saved = iter(ctx.saved_tensors)
        args = [next(saved) if x is Ellipsis else x for x in ctx.inputs]
        with torch.no_grad():
            gradients = backward_operator(gradient, *args)
        if torch.is_grad_enabled():
            gradients = _NoSecondDerivative.apply(name, gradients, gradient, *ctx.saved_tensors)
        found = iter(gradients)
        return tuple(next(found) if x is Ellipsis else None for x in ctx.inputs)

    for key, kernel in ((name, run), (f"{name}_backward", run_backward)):
        LIBRARY.impl(key, kernel, "CompositeExplicitAutograd")
        KERNELS[getattr(torch.ops.vil_dense, key).default] = kernel
        register_flop_formula(getattr(torch.ops.vil_dense, key), get_raw=True)(partial(_count_flops, kernel))
    LIBRARY.impl(f"{name}_backward", torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"vil_dense::{name}", output, lib=LIBRARY)
    torch.library.register_fake(
        f"vil_dense::{name}_backward", lambda _, *args: [x.new_empty(x.shape) for x in _tensors(args)], lib=LIBRARY
    )
    torch.library.register_autograd(f"vil_dense::{name}", differentiate, setup_context=save, lib=LIBRARY)
    return operator


_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)  # new in torch 2.7


def _count_flops(kernel: Callable[..., Any], *args: Any, out_val: Any = None) -> int:
    """Returns the FLOPs of a kernel for torch's FlopCounterMode, which sees operators from outside only."""
    args = tree_map_only(Tensor, lambda x: torch.empty_like(x, device="meta"), args)
    with FlopCounterMode(display=False) as counter:
        kernel(*args)
    return counter.get_total_flops()


def traced() -> bool:
    """Returns whether a tracer or a function transform runs that wants plain operators: torch.export, torch.jit.trace,
    or vmap, grad, jvp and others of torch.func outside of torch.compile."""
    if torch.compiler.is_compiling():
        return _is_exporting()
    return is_tracing() or torch._C._functorch.peek_interpreter_stack() is not None


def in_graph() -> bool:
    """Returns whether the operations that follow are recorded for later runs, perhaps at other sizes."""
    return torch.compiler.is_compiling() or is_tracing()


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    return [x for x in args if isinstance(x, Tensor)]


def no_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Returns a context that disables autocast on the device of `x`."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device):  # the meta device
        return nullcontext()
    return torch.autocast(device, enabled=False)


def _autograd() -> Any:
    """Switches autograd on, which torch switches off inside operators and dispatch modes; no public function does."""
    return torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False)


class _NoSecondDerivative(torch.autograd.Function):
    """Passes gradients through, and raises an error if they are differentiated with regard to `inputs`."""

    @staticmethod
    def forward(ctx: Any, name: str, gradients: list[Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(gradients)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(
            f"vil_dense::{ctx.name} has no second derivative; use the mLSTM backend 'parallel' or 'recurrent' for one"
        )
