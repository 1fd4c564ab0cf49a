"""Compares our kernels on the device: the mLSTM with the recurrence, the fused layer with its plain form."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks.contestants.case import Case, Check, Contestant, deviation, refuse_missing_triton
from benchmarks.contestants.networks import check_network
from benchmarks.contestants.operators import check_against
from benchmarks.measure import Result, admit
from benchmarks.session import Session, in_parallel, set_precision
from vil_dense.layers import FusedViLLayer, ViLLayer
from vil_dense.ops import mlstm

CHECKED = ("triton", "chunkwise")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
V1 = dict(conv="causal", conv_kernel=4, bias=False, norm_bias=False)
DESIGNS: dict[str, dict[str, Any]] = {"v2": {}, "v1": V1}


def kernels(session: Session) -> Iterator[Result]:
    """Compares values and all gradients of the mLSTM with the recurrence in float64, in both directions.

    The lengths are odd; the longer one has several chunks.
    """
    widths = (8, 24) if session.dry else (96, 192, 384)
    return in_parallel(session, check_operator, [*product(CHECKED, DTYPES, widths)])


def check_operator(session: Session, backend: str, dtype: torch.dtype, DH: int) -> list[Result]:
    """Compares one backend, precision and width of heads, in both directions."""
    rows = []
    for S, reverse in product((7, 70) if session.dry else (65, 601), (False, True)):
        case = session.case("op", size=S, batch=2, dim=2 * DH, dtype=dtype, backward=True)
        function = partial(mlstm, backend=backend, reverse=reverse)
        facts = dict(backend=backend, dtype=str(dtype)[6:], width=f"DH {DH}", size=f"S {S}", reverse=reverse)
        check = partial(check_against, case, function, "recurrent", norm=False, reverse=reverse)
        rows.append(facts | compare(case, backend, check))
    return rows


def layers(session: Session) -> Iterator[Result]:
    """Compares the fused layer under autocast with the plain one in float64, output and all gradients."""
    dims = (32,) if session.dry else (192, 384, 768)
    return in_parallel(session, check_layers, [*product(CHECKED, DTYPES, dims)])


def check_layers(session: Session, backend: str, dtype: torch.dtype, dim: int) -> list[Result]:
    """Compares one backend, precision and width, both versions, along two traversals."""
    rows = []
    for side, design, order in product((5,) if session.dry else (9, 19), DESIGNS, ("rows", "columns-reversed")):
        case = session.case("train", size=16 * side, batch=2, dim=dim, dtype=dtype, backward=True)
        facts = dict(backend=backend, dtype=str(dtype)[6:], width=f"{design}, C {dim}", size=f"{side} x {side + 2}")
        check = partial(check_layer, case, side, backend, orders=(order,), **DESIGNS[design])
        rows.append(facts | dict(order=order) | compare(case, backend, check))
    return rows


def compare(case: Case, backend: str, check: Callable[[], Check]) -> Result:
    """Returns deviation and tolerance, or why a backend is refused or left out."""

    def make(case: Case) -> Contestant:
        refuse_missing_triton(case, backend)
        return Contestant(backend, lambda: None, (check(),))

    set_precision(case.dtype)
    _, result = admit(make, case)
    (found,) = result.pop("checks", [{}])
    return {**found, **result}


def check_layer(case: Case, side: int, backend: str, **options: Any) -> Check:
    """Compares on grids of `side` x (`side` + 2) tokens, by the bounds of a network."""
    dim = case.options["dim"]

    def measure() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        torch.manual_seed(0)
        plain = ViLLayer(dim, backend="recurrent", **options)
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        fused = FusedViLLayer(dim, backend=backend, **options)
        fused.load_state_dict(plain.state_dict())
        x = case.random(case.batch, side, side + 2, dim, dtype=case.input_dtype)
        exact = replace(case, dtype=torch.float64)
        expected = layer_outcome(plain.double().to(case.device), x.double(), exact)
        return layer_outcome(fused.to(case.device), x, case), expected

    tolerance = check_network(case, "", dict, dict).tolerance
    return Check("plain, float64", lambda: deviation(*measure()), tolerance)


def layer_outcome(layer: ViLLayer, x: Tensor, case: Case) -> dict[str, Tensor]:
    """Returns the output and the gradients of the input and of all parameters."""
    x = x.clone().requires_grad_()
    with case.autocast():
        y = layer(x)
    y.backward(case.random(*y.shape).to(y.dtype))
    gradients = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    # The head norm takes out what scales a whole sequence: alone, the bias's gradient is a rest of large terms.
    for scan in {name.rpartition("igate.")[0] for name in gradients if "igate." in name}:
        weight, bias = (gradients.pop(f"{scan}igate.{name}") for name in ("weight", "bias"))
        gradients[f"{scan}igate"] = torch.cat([weight.flatten(), bias])
    return {"output": y.detach(), "x": x.grad, **gradients}
