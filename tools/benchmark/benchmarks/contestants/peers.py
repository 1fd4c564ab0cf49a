"""Builds the authors' network from a clone of their repository."""

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.contestants.case import PATCH, Case, Contestant, LeftOut, compile_each, refuse_quadratic
from benchmarks.contestants.networks import check_network, network, outcome, seeded
from vil_dense.backbones import VisionLSTM


def import_from(folder: Path, name: str) -> Any:
    """Imports a module of a clone, which is on the path for the import alone."""
    sys.path.insert(0, str(folder))
    try:
        return import_module(name)
    except ImportError as error:
        raise LeftOut(f"{name} cannot be imported from {folder} ({error})") from error
    finally:
        sys.path.remove(str(folder))


def build_official(case: Case) -> nn.Module:
    """Makes the authors' stand-alone model for this size; its output is (B, S, C)."""
    options = dict(dim=case.options["dim"], input_shape=(3, case.size, case.size), pooling=None, output_shape=None)
    depth, clone = case.options["depth"], Path(str(case.official))
    if case.options["conv"] == "causal":
        theirs = import_from(clone, "vision_lstm.vision_lstm").VisionLSTM
        return theirs(depth=depth, mode=None, legacy_norm=True, **options)
    if depth % 2:
        raise LeftOut(f"its blocks come in pairs, and {depth} is odd")
    return import_from(clone, "vision_lstm.vision_lstm2").VisionLSTM2(depth=depth // 2, mode="features", **options)


def official(case: Case, compiled: bool = False) -> Contestant:
    """Compares with ours, which takes its weights: outputs, and in training every gradient under our names."""
    try:
        from vil_dense.backbones.checkpoint import infer_options, load_weights, to_own
    except ImportError as error:
        raise LeftOut(f"its weights cannot become ours ({error})") from error
    if case.size % PATCH:
        raise LeftOut(f"it takes multiples of {PATCH} px only")
    # Measured: 9.2 matrices live in one layer's forward, and training keeps 4.4 of every layer.
    refuse_quadratic(case, 9.2 + 4.4 * case.options["depth"] * case.backward)
    model = seeded(partial(build_official, case), case)
    weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
    if compiled:
        compile_each(model.blocks, case)

    def found() -> dict[str, Tensor]:
        theirs = outcome(model, case)
        output = {"output": theirs.pop("output")}
        if not theirs:
            return output
        # Their weights become ours by an affine map; gradients by its linear part.
        zero = to_own({key: torch.zeros_like(value) for key, value in theirs.items()})
        return output | {key: value - zero[key] for key, value in to_own(theirs).items()}

    def expected() -> dict[str, Tensor]:
        own = to_own(weights)
        ours = VisionLSTM(**{**case.options, **infer_options(own)}).to(case.device).train(case.backward)
        load_weights(ours, own)
        return outcome(ours, case)

    return network("official", model, case, check_network(case, "ours with its weights", found, expected))
