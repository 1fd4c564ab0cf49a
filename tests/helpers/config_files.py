"""Finds the files of configs/ by their names and by what they train, and reads their docstrings."""

import ast
import re
from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENTS = sorted(path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts)
"""All experiments; what they share lies in `_base_`."""
BY_NAME = {path.stem: path for path in EXPERIMENTS}
CLASSIFIERS = [path for path in EXPERIMENTS if path.parent.name in ("imagenet", "designs", "pooling")]
CLASSIFIERS += [BY_NAME["vil_imagenet"]]
VOLUMES = [path for path in EXPERIMENTS if path.parent.name == "volumes" or path.stem.startswith("vil_unet3d")]
VOLUME_PRETRAINING = [path for path in EXPERIMENTS if path.parent.name == "pretrain" and "3d" in path.stem]
PICTURES = [path for path in EXPERIMENTS if path not in (*VOLUMES, *VOLUME_PRETRAINING)]
SEGMENTORS = [path for path in EXPERIMENTS if "upernet" in path.stem or "maskformer" in path.stem]


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def field(text: str, name: str) -> str:
    """Returns the text that follows `NAME:` up to the next name or empty line, on one line; without it, nothing."""
    found = re.search(rf"^{name}: +(.*?)(?=^\w+: |^$|\Z)", text, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
