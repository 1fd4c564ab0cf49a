"""Builds configs as MMEngine's registries do: python tests/configs/build_plainly.py REPORT CONFIG [CONFIG ...]

What the configs name in `custom_imports` is all of vil_dense that is imported. REPORT, a JSON, gets for each config the
kinds of the parts that were built, or the error. Of configs that name the same types only the first is built.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS, init_default_scope


def types(part: object) -> Iterator[str]:
    """Yields the types that a part of a config names, and the folders of data that are there."""
    if isinstance(part, dict):
        yield from (part[key] for key in ("type",) if isinstance(part.get(key), str))
        yield from (part[key] for key in ("data_root",) if Path(str(part.get(key))).is_dir())
    if isinstance(part, (dict, list, tuple)):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from types(inner)


def build(cfg: Config, path: str) -> list[str]:
    """Builds the model (on the meta device), the evaluators, and the data sets whose folder is there."""
    init_default_scope(cfg.default_scope)
    # MONAI's SwinUNETR computes its rates of stochastic depth by tensors whose numbers it reads.
    with torch.device("cpu" if cfg.model.get("network", {}).get("type") == "SwinUNETR" else "meta"):
        parts = [MODELS.build(cfg.model)]
    for split in ("train", "val", "test"):
        loader, evaluator = cfg.get(f"{split}_dataloader"), cfg.get(f"{split}_evaluator")
        if loader is None and "pretrain" in Path(path).parts and split != "train":
            continue  # without labels there is nothing to validate
        if not isinstance(loader.batch_size, int):
            raise TypeError(f"{split}_dataloader.batch_size is {loader.batch_size!r}, not a number")
        if evaluator:
            parts.append(METRICS.build(evaluator))
        if Path(loader.dataset.data_root).is_dir():
            parts.append(DATASETS.build(loader.dataset))
            if not len(parts[-1]):
                raise ValueError(f"the data set of {split}_dataloader is empty")
    return [type(part).__name__ for part in parts]


def main() -> None:
    report, known = {}, {}
    for path in sys.argv[2:]:
        try:
            cfg = Config.fromfile(path)
            kind = frozenset(types(cfg.to_dict()))
            known[kind] = known.get(kind) or build(cfg, path)
            report[path] = dict(parts=known[kind])
        except Exception as error:  # the test shows it under the config's name
            report[path] = dict(error=f"{type(error).__name__}: {error}")
    Path(sys.argv[1]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
