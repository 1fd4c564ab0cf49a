"""Builds our network and a transformer of its width and depth, eager and compiled.

Networks are plain: pictures to normed tokens (B, S, C), random weights from one seed, moved off their initialisation so
that no part is idle. In half precision they run under autocast with float32 weights.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.contestants.case import (
    TOLERANCES,
    Case,
    Check,
    Contestant,
    compile_each,
    deviation,
    drop_gradients,
    refuse_missing_triton,
    refuse_uncompiled,
)
from vil_dense.backbones import VisionLSTM, variant

EXACT_PX = {"recurrent": 96, "parallel": 512}
"""Largest side of a picture that is compared with float64 and another form of the mLSTM: the definition, which is slow,
and the quadratic one, for as many tokens as make several segments."""


def seeded(build: Callable[[], nn.Module], case: Case) -> Any:
    """Makes the network of `build`, the same each time, on the run's device."""
    torch.manual_seed(0)
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.to(case.device).train(case.backward)


def pictures(case: Case) -> Tensor:
    """Draws the pictures of a case, (B, 3, H, W)."""
    return case.random(case.batch, 3, case.size, case.size, dtype=case.input_dtype)


def cotangent_of(case: Case) -> Tensor:
    """Draws the gradient of the output, (B, S, C)."""
    return case.random(case.batch, case.tokens, case.options["dim"])


def run_pass(model: nn.Module, x: Tensor, cotangent: Tensor, case: Case) -> Tensor:
    """Returns the output of `model` for pictures; in training it computes every parameter's gradient, too."""
    with torch.set_grad_enabled(case.backward), case.autocast():
        y = model(x)
    if case.backward:
        y.backward(cotangent.view(y.shape).to(y.dtype))
    return y.detach()


def outcome(model: nn.Module, case: Case) -> dict[str, Tensor]:
    """Returns the output (B, S, C) and, in training, gradients."""
    output = run_pass(model, pictures(case), cotangent_of(case), case)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    drop_gradients(model.parameters())
    return {"output": output.view(case.batch, case.tokens, -1), **gradients}


def timed(model: nn.Module, case: Case, cotangent: Tensor) -> Callable[[], None]:
    """Returns the step: forward, in training backward, and the gradients dropped."""
    x = pictures(case)

    def step() -> None:
        run_pass(model, x, cotangent, case)
        drop_gradients(model.parameters())

    return step


def network(family: str, model: nn.Module, case: Case, *checks: Check) -> Contestant:
    """Returns the contestant that runs `model`."""
    return Contestant(family, timed(model, case, cotangent_of(case)), checks)


def check_network(case: Case, against: str, found: Callable[[], dict], expected: Callable[[], dict]) -> Check:
    """Returns the check of a network by the tolerance of its dtype, which is larger for gradients."""
    slack = 1 if not case.backward else 10 if case.dtype == torch.float32 else 2
    return Check(against, lambda: deviation(found(), expected()), slack * TOLERANCES[case.dtype])


def check_exact(model: nn.Module, case: Case, px: int, build: Callable[[], nn.Module], form: str = "") -> Check:
    """Compares with a network of `build`, with the same weights in float64, on one picture of at most `px`."""
    small = replace(case, size=min(case.size, px), batch=1)

    def expected() -> dict[str, Tensor]:
        exact = build()
        exact.load_state_dict(model.state_dict())
        return outcome(exact.double().to(case.device).train(case.backward), replace(small, dtype=torch.float64))

    return check_network(small, f"{form}float64, {small.size} px", lambda: outcome(model, small), expected)


def check_eager(model: nn.Module, eager: nn.Module, case: Case) -> Check:
    """Returns the check of a compiled network against the eager one."""
    return check_network(case, "eager", lambda: outcome(model, case), lambda: outcome(eager, case))


def own_network(
    case: Case,
    compiled: bool = False,
    with_cp: bool = False,
    recompute: bool = True,
    direction: str | None = None,
    backend: str | None = None,
) -> Contestant:
    """Makes our network; kernels of `triton` are compiled in any case, the rest of its blocks by torch.compile."""
    refuse_missing_triton(case, backend)
    chosen = {key: value for key, value in (("direction", direction), ("backend", backend)) if value}
    options = {**case.options, "recompute": recompute, **chosen}
    eager = seeded(partial(VisionLSTM, **options), case)
    model = copy.deepcopy(eager)
    model.with_cp = with_cp
    how = ["cp"] * with_cp + ["kept"] * (not recompute) + [name for name in (direction, backend) if name]
    family = "-".join(["ours", *how])
    if compiled:
        if backend == "triton":
            compile_each(model.blocks, case)
        else:
            refuse_uncompiled(case)
            model.compile_blocks()
        return network(family, model, case, check_eager(model, eager, case))
    checks = [
        check_exact(model, case, px, partial(VisionLSTM, **{**options, "backend": form}), f"{form}, ")
        for form, px in EXACT_PX.items()
        if form == "recurrent" or case.size > EXACT_PX["recurrent"]
    ]
    return network(family, model, case, *checks)


def vit_options(case: Case) -> dict[str, Any]:
    """Returns the options of a transformer of our width: one of its blocks, attention and MLP, for two of ours."""
    dim, depth = case.options["dim"], case.options["depth"]
    shape = dict(dim=dim, depth=-(-depth // 2), num_heads=max(1, dim // 64), grid=(case.side, case.side))
    return {**variant("deit3-tiny"), **shape, "pooling": None}


def vit(case: Case, compiled: bool = False) -> Contestant:
    """Builds the transformer of the width and depth of the case."""
    build = partial(VisionLSTM, **vit_options(case))
    eager = seeded(build, case)
    if not compiled:
        return network("vit", eager, case, check_exact(eager, case, EXACT_PX["parallel"], build))
    model = copy.deepcopy(eager)
    compile_each(model.blocks, case)
    return network("vit", model, case, check_eager(model, eager, case))
