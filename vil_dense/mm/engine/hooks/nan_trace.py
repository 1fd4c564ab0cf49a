"""Finds the module of a network whose numbers are the first that are not finite, by repeating a step under hooks."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves, tree_map


def is_finite(tensors: Any) -> bool:
    """Returns whether the floating-point tensors of a nested structure hold neither NaN nor infinity.

    Of a sharded tensor only the part of this process is checked.
    """
    return all(
        bool(torch.isfinite((x.to_local() if isinstance(x, DTensor) else x).detach()).all())
        for x in tree_leaves(tensors)
        if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())
    )


def first_not_finite(model: nn.Module, loss_of_step: Callable[[], Tensor]) -> str:
    """Describes the module or parameter whose numbers are the first that are not finite; empty if all are finite.

    In the forward pass it is the module with a finite input and an output that is not finite. In the backward pass it
    is the module with a finite gradient of its output, and a gradient of its input or parameters that is not finite.
    Of nested modules it is the innermost.

    All processes have to call it.

    Args:
        model: its gradients are overwritten.
        loss_of_step: runs `model` and returns the loss that the step minimises.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    bad = next((index for index, (_, tensor) in enumerate(tensors) if not is_finite(tensor)), len(tensors))
    # Either all processes repeat the step or none, as it gathers sharded weights.
    first = torch.tensor(bad)
    all_reduce(first, "min")
    if first < len(tensors):
        return f"{tensors[first][0]}, which was not finite before the step"
    model.zero_grad(set_to_none=True)
    trace = _Trace(model)
    try:
        loss = loss_of_step()
        loss.backward()
    finally:
        trace.remove()
    if trace.forward:
        return trace.forward
    if not is_finite(loss):
        return f"the loss, after all modules of {type(model).__name__}"
    return trace.backward()


class _Trace:
    """Puts hooks on all modules of `model`.

    `forward` describes the origin of the fault in the forward pass, `backward()` that in the gradients; empty if none.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.names = {module: name for name, module in model.named_modules()}
        self.forward = ""
        self.done: list[nn.Module] = []
        self.bad_inputs: set[nn.Module] = set()
        self.bad_outputs: set[nn.Module] = set()
        self.handles = [
            handle
            for module in self.names
            for handle in (
                module.register_forward_pre_hook(self._before, with_kwargs=True),
                module.register_forward_hook(self._after, with_kwargs=True),
            )
        ]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def backward(self) -> str:
        found = [
            module
            for module in self.done
            if module not in self.bad_outputs
            and (module in self.bad_inputs or not is_finite(_gradients(module.parameters(recurse=False))))
        ]
        innermost = [
            module for module in found if not any(other is not module and other in found for other in module.modules())
        ]
        return f"the gradient of {self._describe(innermost[-1])}" if innermost else ""

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if module is self.model and not is_finite((args, kwargs)):
            self.forward = self.forward or "the batch itself"
        # Each module gets its own view, so that its gradient is not summed with those of other uses of the input.
        return tree_map(lambda x: self._watched(x, module, self.bad_inputs, view=True), (args, kwargs))

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        tree_map(lambda x: self._watched(x, module, self.bad_outputs), output)
        self.done.append(module)
        if self.forward or is_finite(output):
            return
        if is_finite((args, kwargs)):
            self.forward = f"the output of {self._describe(module)}"
        else:
            parent = self.model.get_submodule(self.names[module].rpartition(".")[0])
            self.forward = f"{self._describe(parent)}, in the input of {self._describe(module)}"

    def _watched(self, x: Any, module: nn.Module, bad: set[nn.Module], view: bool = False) -> Any:
        if not isinstance(x, Tensor) or not x.requires_grad:
            return x
        x = x.view_as(x) if view else x
        x.register_hook(lambda gradient: None if is_finite(gradient) else bad.add(module))
        return x

    def _describe(self, module: nn.Module) -> str:
        kind = type(module).__name__
        return f"{self.names[module]} ({kind})" if self.names[module] else kind


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
