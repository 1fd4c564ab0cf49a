"""Defines the fused ViL block, with the modules and parameters of `vil.py`, in less time and memory.

The up-projection is called as a module. What follows is one operator for each traversal, `torch.ops.vil_dense.cell`,
which reads the parameters of its scan (see `ops.cell`). `reason_against` says when a layer takes the plain form.
"""

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.module import _has_any_global_hook

from vil_dense.layers.residual import Residual
from vil_dense.layers.vil import BlockDiagonalLinear, HeadNorm, Scan, ViLBlock, ViLLayer
from vil_dense.ops import ORDERS, frame_axes, from_frame, to_frame
from vil_dense.ops.cell import cell, cell_operator
from vil_dense.ops.cell_weights import CellWeights
from vil_dense.ops.gpu.launches import can_launch
from vil_dense.ops.linear import linear
from vil_dense.ops.norm import norm_beside_residual, norm_operator
from vil_dense.ops.operators import no_autocast, traced

BACKENDS = ("chunkwise", "triton")
"""The mLSTM backends that have a fused form."""

TYPES: dict[str, tuple[type[nn.Module], ...]] = {
    "": (Scan,),
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "q_proj": (BlockDiagonalLinear,),
    "k_proj": (BlockDiagonalLinear,),
    "v_proj": (BlockDiagonalLinear,),
    "igate": (nn.Linear,),
    "fgate": (nn.Linear,),
    "outnorm": (HeadNorm,),
}
"""The modules of a scan, by name, as `vil.py` makes them."""

PARAMETERS = (nn.Parameter, FakeTensor)
"""Kinds of parameters that may be read: plain ones, and fake ones, which have shapes only, of memory estimates."""

NORM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class FusedViLLayer(ViLLayer):
    """Computes a ViL layer in the fused form if possible, else module by module."""

    compiled = False
    """True after `VisionLSTM.compile_blocks`: the fused form is compiled, also outside of torch.compile."""

    def forward(self, x: Tensor) -> Tensor:
        """Computes the layer: (B, *grid, C) -> (B, *grid, C)."""
        if traced() or reason_against(self):
            return super().forward(x)
        # With one traversal, x with its C channels is permuted once, and not u and z with their 2 E. Its
        # down-projection belongs to the operator, which then need not save the gated output for the backward pass.
        frame, down = (self.orders[0], self.proj_down) if len(self.orders) == 1 else ("rows", None)
        if down is not None and not _is_plain(down, nn.Linear):
            down = None
        x, proj_up = to_frame(x, frame).contiguous(), self.proj_up
        up = linear(x, proj_up.weight, proj_up.bias) if _is_plain(proj_up, nn.Linear) else proj_up(x)
        first, *others = (self._scan(scan, order, up, frame, down) for scan, order in self.traversals())
        y = sum(others, first)
        return from_frame(y if down else self.proj_down(y), frame)

    def _scan(self, scan: Scan, order: str, up: Tensor, frame: str, down: nn.Linear | None) -> Tensor:
        """Computes the gated output of one traversal, (B, *grid, E), or with `down` its projection (B, *grid, C).

        Args:
            up: u and z side by side, (B, *grid, 2 E).
        """
        up = up if order == frame else to_frame(up, order).contiguous()
        compiling = torch.compiler.is_compiling()
        projection = (down.weight, down.bias) if down else (None, None)
        options = ORDERS[order].reverse, scan.backend, self.compiled or compiling
        args = up, *_weights(scan, order), *projection, *options
        if self.recompute or compiling:
            y = cell_operator(*args)
        else:
            with no_autocast(up):
                y = cell(*args)
        return y if order == frame else from_frame(y, order)


class FusedViLBlock(ViLBlock):
    """Computes a `ViLBlock` whose layer takes the fused form; on the backend `triton` its norm does, too."""

    layer_type = FusedViLLayer

    def forward(self, x: Tensor) -> Tensor:
        """Computes the block: (B, *grid, C) -> (B, *grid, C)."""
        if traced() or not self._fuses_norm(x):
            return super().forward(x)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        args = self.norm.weight, self.norm.bias, self.norm.eps, dtype
        if self.residual.training and self.residual.rate:  # the branch may get a part of x only
            return self.residual(x, lambda x: self.layerscale(self.layer(norm_operator(x, *args))))
        x, y = norm_beside_residual(x, *args)
        return x + self.layerscale(self.layer(y))

    def _fuses_norm(self, x: Tensor) -> bool:
        """Returns whether norm and residual are plain modules, whose call the kernel can replace."""
        plain = _is_plain(self.norm, nn.LayerNorm) and _is_plain(self.residual, Residual)
        kernels = all(scan.backend == "triton" for scan, _ in self.layer.traversals()) and can_launch(x)
        return plain and kernels and x.dtype in NORM_DTYPES and reason_against(self.layer) is None


def reason_against(layer: ViLLayer) -> str | None:
    """Returns why a layer is computed module by module, or None if it uses the fused form.

    The fused form reads the parameters of a scan and does not call its modules. So it steps aside where a call could do
    something else: a hook, another module (an adapter, a quantised layer), another `forward`, a parameter that is no
    plain one (parametrised, quantised, or handed in by torch.func.functional_call). Tracers and exporters, too, see the
    modules.
    """
    for scan, _ in layer.traversals():
        if scan.backend not in BACKENDS:
            return f"the mLSTM backend {scan.backend!r} has no fused form"
        for name, module in scan.named_modules():
            if not _is_plain(module, *TYPES.get(name, ())):
                return f"{name or 'the scan'} ({type(module).__name__}) is hooked, replaced or has other parameters"
    return "a hook is set on all modules" if _has_any_global_hook() else None


def describe_forms(network: nn.Module) -> str:
    """Returns how many ViL layers of a network take the fused form, and why the first other one does not."""
    layers = [module for module in network.modules() if isinstance(module, FusedViLLayer)]
    reasons = [reason for layer in layers if (reason := reason_against(layer))]
    text = f"{len(layers) - len(reasons)} of {len(layers)} layers fused"
    return f"{text} ({reasons[0]})" if reasons else text


def _is_plain(module: nn.Module, *types: type[nn.Module]) -> bool:
    """Returns whether reading the parameters of a module is as good as calling it."""
    hooked = any(len(getattr(module, hooks)) for hooks in HOOKS)
    parameters = (x for x in module._parameters.values() if x is not None)
    replaced = type(module) not in types or "forward" in vars(module)
    return not replaced and not hooked and all(type(x) in PARAMETERS for x in parameters)


def _weights(scan: Scan, order: str) -> CellWeights:
    """Returns the parameters of a scan, the kernel of a convolution on the grid in the frame of the traversal."""
    kernel = scan.conv.weight
    if not scan.causal:
        kernel = kernel.permute(0, 1, *(2 + axis for axis in frame_axes(order, kernel.ndim - 2)))
    q, k, v = scan.q_proj, scan.k_proj, scan.v_proj
    return CellWeights(
        kernel, scan.conv.bias, q.weight, q.bias, k.weight, k.bias, v.weight, v.bias,
        scan.igate.weight, scan.igate.bias, scan.fgate.weight, scan.fgate.bias,
        scan.outnorm.weight, scan.outnorm.bias, scan.skip,
    )  # fmt: skip
