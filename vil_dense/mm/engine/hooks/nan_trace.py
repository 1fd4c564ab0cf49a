"""Where in a network a number first is not finite; found in a step that is taken once more, under hooks."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves, tree_map


def is_finite(tensors: Any) -> bool:
    """No NaN and no infinity in the floating-point tensors of a nested structure (of a sharded one: in this process's
    part)."""
    return all(
        bool(torch.isfinite((x.to_local() if isinstance(x, DTensor) else x).detach()).all())
        for x in tree_leaves(tensors)
        if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())
    )


def first_not_finite(model: nn.Module, loss_of_step: Callable[[], Tensor]) -> str:
    """The module or parameter in which a step goes wrong, in words; empty where this time nothing does.

    A module is to blame whose input is finite and whose output is not; on the way back, whose output's gradient is
    finite and whose input's or parameters' gradient is not. Of modules inside each other, the innermost.

    Of several processes all call it.

    Args:
        model: its gradients are lost.
        loss_of_step: runs `model` and returns the loss that the step descends.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    bad = next((index for index, (_, tensor) in enumerate(tensors) if not is_finite(tensor)), len(tensors))
    # They take the step together or not at all, as it gathers sharded weights, of which one has what is not finite.
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
    """Hooks on all modules of `model`.

    `forward` tells where a forward pass went wrong, empty if nowhere; `backward()` the same of the gradients.
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
        return f"the gradient of {self._words(innermost[-1])}" if innermost else ""

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if module is self.model and not is_finite((args, kwargs)):
            self.forward = self.forward or "the batch itself"
        # A view of its own for each module, so that its gradient is not summed with that of the input's other uses.
        return tree_map(lambda x: self._watched(x, module, self.bad_inputs, view=True), (args, kwargs))

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        tree_map(lambda x: self._watched(x, module, self.bad_outputs), output)
        self.done.append(module)
        if self.forward or is_finite(output):
            return
        if is_finite((args, kwargs)):
            self.forward = f"the output of {self._words(module)}"
        else:
            parent = self.model.get_submodule(self.names[module].rpartition(".")[0])
            self.forward = f"{self._words(parent)}, in what it gives to {self._words(module)}"

    def _watched(self, x: Any, module: nn.Module, bad: set[nn.Module], view: bool = False) -> Any:
        if not isinstance(x, Tensor) or not x.requires_grad:
            return x
        x = x.view_as(x) if view else x
        x.register_hook(lambda gradient: None if is_finite(gradient) else bad.add(module))
        return x

    def _words(self, module: nn.Module) -> str:
        kind = type(module).__name__
        return f"{self.names[module]} ({kind})" if self.names[module] else kind


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
