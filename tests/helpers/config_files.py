"""Finds the files of configs/ by their names and by what they train."""

from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENTS = sorted(path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts)
"""All experiments; what they share lies in `_base_`."""
BY_NAME = {path.stem: path for path in EXPERIMENTS}
CLASSIFIERS = [path for path in EXPERIMENTS if path.parent.name in ("imagenet", "designs", "pooling")]
CLASSIFIERS += [BY_NAME["vil_imagenet"]]
VOLUMES = [path for path in EXPERIMENTS if path.parent.name == "volumes" or path.stem.startswith("vil_unet3d")]
PICTURES = [path for path in EXPERIMENTS if path not in VOLUMES]
SEGMENTORS = [path for path in EXPERIMENTS if "upernet" in path.stem]
