"""Reads the cases of the folder named by VIL_DENSE_GOLDEN, and builds our networks with their weights."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vil_dense.backbones import VisionLSTM
from vil_dense.backbones.checkpoint import infer_options, layout_of, load_weights, to_own

FOLDER = Path(os.environ.get("VIL_DENSE_GOLDEN", Path(__file__).parents[2] / "../shared/reference/golden"))
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
REASON = f"no golden values in {FOLDER}: set VIL_DENSE_GOLDEN to their folder"


def names(*prefixes: str) -> Any:
    found = [name for name in NAMES if name.startswith(prefixes)]
    return pytest.mark.parametrize("name", found or [pytest.param("", marks=pytest.mark.skip(REASON))])


def read(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    return json.loads((FOLDER / f"{name}.json").read_text()), load_file(FOLDER / f"{name}.safetensors")


def part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def assert_near(actual: torch.Tensor, expected: torch.Tensor, bound: float, what: str) -> None:
    """Asserts that tensors agree within `bound` times the largest value of `expected`."""
    atol = bound * expected.double().abs().max().item()
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=0, atol=atol, msg=lambda text: f"{what}: {text}"
    )


def direction_of(kwargs: dict) -> str:
    """Returns our name of the block design in a case's constructor arguments."""
    if "bidirectional" not in kwargs and "quaddirectional" not in kwargs and "alternation" not in kwargs:
        return "uni"
    base = "bi" if kwargs.get("bidirectional") or kwargs.get("alternation") == "bidirectional" else "quad"
    return base + ("-alternating" if kwargs.get("alternation") else "-shared" if kwargs.get("sharedirs") else "")


def pooling_of(meta: dict) -> str | None:
    """Returns our name of the classification design."""
    kwargs, standalone = meta["kwargs"], not meta["cls"].startswith("src")
    if standalone:
        default = "bilateral_flatten" if meta["cls"].endswith("2") else "bilateral_avg"
        kind = kwargs.get("pooling", default)
        return {"bilateral_flatten": "bilateral-concat", "bilateral_avg": "bilateral-average"}.get(kind)
    if kwargs.get("cls_tokens"):
        return kwargs["cls_tokens"]["location"] + "-cls"
    kind, aggregate = kwargs["pooling"]["kind"], kwargs["pooling"].get("aggregate")
    bilateral = {"mean": "bilateral-average", "flatten": "bilateral-concat"}
    return {"mean_patch": "average", "middle_tokens": "middle-patch", "bilateral": bilateral.get(aggregate)}.get(
        kind, kind.replace("_", "-")
    )


def build(meta: dict, state: dict[str, torch.Tensor]) -> tuple[VisionLSTM, str, str]:
    """Returns our model with the case's weights, its layout and its direction."""
    kwargs = meta["kwargs"]
    direction = direction_of(kwargs) if meta["cls"].startswith("src") else "bi-alternating"
    layout = layout_of(state)
    own = to_own(state, direction=direction, layout=layout)
    options = infer_options(own, direction)
    sizes, patch = kwargs["input_shape"][1:], options["patch_size"]
    options["grid"] = [size // p for size, p in zip(sizes, patch, strict=True)]
    options.update(direction=direction, pooling=pooling_of(meta), stride=kwargs.get("stride"))
    if layout == "v2":  # the stand-alone package swaps the two eps of its second version
        options.update(post_norm_eps=1e-6, head_norm_eps=1e-5)
    model = VisionLSTM(**options)
    load_weights(model, own)
    return model, layout, direction
