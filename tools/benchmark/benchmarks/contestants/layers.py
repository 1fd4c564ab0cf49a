"""Runs one fused layer alone, compared with its plain form in float64 on grids that are not square."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.contestants.case import Case, Check, Contestant, deviation, drop_gradients, refuse_missing_triton
from benchmarks.contestants.networks import check_network, run_pass
from vil_dense.layers import FusedViLLayer, ViLLayer

DESIGN = ("conv", "conv_kernel", "bias", "norm_bias")
"""The options of a variant that belong to its layers."""


def own_layer(case: Case, backend: str) -> Contestant:
    """Makes the layer of the variant with one backend; it is checked along rows and, reversed, along columns."""
    refuse_missing_triton(case, backend)
    fused = pair(case, backend, "rows")[1].to(case.device)
    x, cotangent = inputs_of(case)

    def step() -> None:
        run_pass(fused, x, cotangent, case)
        drop_gradients([x, *fused.parameters()])

    checks = tuple(check_layer(case, backend, order) for order in ("rows", "columns-reversed"))
    return Contestant(f"ours-{backend}", step, checks)


def inputs_of(case: Case) -> tuple[Tensor, Tensor]:
    """Draws the input of the layer and the gradient of its output, (B, H, W, C)."""
    shape = (case.batch, case.side, case.side + 2, case.options["dim"])
    return case.random(*shape, dtype=case.input_dtype).requires_grad_(), case.random(*shape)


def pair(case: Case, backend: str, order: str) -> tuple[ViLLayer, FusedViLLayer]:
    """Returns the plain and the fused layer with the same weights, moved off their initialisation."""
    design: dict[str, Any] = {name: case.options[name] for name in DESIGN if name in case.options}
    torch.manual_seed(0)
    plain = ViLLayer(case.options["dim"], backend="recurrent", orders=(order,), **design)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    fused = FusedViLLayer(case.options["dim"], backend=backend, orders=(order,), **design)
    fused.load_state_dict(plain.state_dict())
    return plain, fused


def check_layer(case: Case, backend: str, order: str) -> Check:
    """Compares the output and all gradients, by the bounds of a network."""

    def measure() -> float:
        plain, fused = pair(case, backend, order)
        exact = outcome(plain.double().to(case.device), replace(case, dtype=torch.float64))
        return deviation(outcome(fused.to(case.device), case), exact)

    return Check(f"plain, float64, {order}", measure, check_network(case, "", dict, dict).tolerance)


def outcome(layer: ViLLayer, case: Case) -> dict[str, Tensor]:
    """Returns the output and the gradients of the input and of all parameters."""
    x, cotangent = inputs_of(case)
    y = run_pass(layer, x, cotangent, case)
    gradients = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    # The head norm takes out what scales a whole sequence: alone, the bias's gradient is a rest of large terms.
    for scan in {name.rpartition("igate.")[0] for name in gradients if "igate." in name}:
        weight, bias = (gradients.pop(f"{scan}igate.{name}") for name in ("weight", "bias"))
        gradients[f"{scan}igate"] = torch.cat([weight.flatten(), bias])
    assert x.grad is not None
    return {"output": y, "x": x.grad, **gradients}
