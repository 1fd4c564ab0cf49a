"""Resolves what a config of one's own pictures leaves to the data: split, classes, sizes of crop and pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dist import broadcast_object_list, is_main_process

from vil_dense.files import save_json
from vil_dense.mm.datasets.folders.split import SPLITS
from vil_dense.mm.datasets.folders.survey import Folder, inspect_folder
from vil_dense.mm.datasets.wrappers import config_parts

OPTIONS = ("data_root", "pictures", "masks", "classes", "ignore", "coding", "split_by", "val_share", "split_seed")
"""Keys at the top of a config that its `PictureFolder`s have in common."""
FOUND = ("crop_size", "image_scale", "num_classes")
"""Keys at the top of a config that the data decide on, unless they are set."""
LONGEST_SHORT_SIDE = 512
"""Pictures whose median short side is longer are scaled to it, in px."""
CROP_STEP = 32
"""Crops are multiples of this, in px."""
MOST_TOKENS = 32
"""Tokens on a side of the largest crop."""


def resolve_pictures(cfg: Config) -> list[str]:
    """Inspects the folder of a config's `PictureFolder`s and writes what it finds into the config.

    The values at the top of the config (`OPTIONS`) go to the data sets. Parts that hold a value of `shared` get what
    was found (`FOUND`), or what is set at the top; other values are their own and stay. The pairs go to `splits.json`
    in the work folder; a resumed run reads them from there, and its classes and sizes are those of these pairs. The
    config of a run keeps its classes and sizes with another `data_root`, so that it can be tested there.

    Raises:
        FileNotFoundError, ValueError: the folder cannot be used; says what to do.
    """
    if "shared" not in cfg:
        return []
    loaders = [cfg[f"{split}_dataloader"] for split in ("train", "val", "test") if cfg.get(f"{split}_dataloader")]
    parts = [part for loader in loaders for part in config_parts(loader.dataset) if part.type == "PictureFolder"]
    if not parts:
        return []
    before = cfg.shared
    lines = ["data: split and classes as the config says"]
    for key in ("crop_size", "image_scale"):
        cfg[key] = _two_sizes(key, cfg[key])
    found: dict[str, Any] = {key: cfg[key] for key in FOUND}
    of_a_run = all(part.get("splits") for part in parts)
    if not of_a_run or any(cfg.get(key) != before.get(key) for key in OPTIONS):
        folder = _find_data(cfg, parts, of_a_run)
        if not of_a_run:
            sizes = choose_sizes(folder.sizes, cfg.model.backbone.get("patch_size", 16))
            found = {key: value if cfg[key] == before[key] else cfg[key] for key, value in sizes.items()}
        found["num_classes"] = len(folder.classes.classes)
        lines = folder.lines
    _replace(cfg, before, found)
    for part in parts:
        part.metainfo = {**(part.get("metainfo") or {}), **{key: found[key] for key in FOUND}}
    cfg.update(found)
    _shorten_intervals(cfg)
    cfg.shared = {key: cfg[key] for key in (*OPTIONS, *FOUND)}
    return [*lines, _describe_steps(cfg)]


def _find_data(cfg: Config, parts: Sequence[ConfigDict], of_a_run: bool) -> Folder:
    """Inspects the folder and gives its classes and split to the data sets; those of a run keep what is not changed."""
    before = cfg.shared
    _refuse_own_options(parts, before)
    options = {key: cfg[key] for key in OPTIONS if key in cfg}
    if of_a_run:
        options |= {key: parts[0][key] for key in ("classes", "ignore", "coding") if cfg[key] == before[key]}
    folder, file = _inspect(cfg, options), Path(cfg.work_dir) / SPLITS
    for part in parts:
        part.update(folder.classes.as_config(), splits=str(file), data_root=str(folder.root))
    return folder


def resolve_from_checkpoint(cfg: Config, meta: Mapping[str, Any]) -> None:
    """Writes the classes and sizes of a training into a config of `PictureFolder`s, from what its checkpoint keeps.

    Args:
        cfg: changed in place; others are left as they are.
        meta: `dataset_meta` of the checkpoint.
    """
    if "shared" in cfg and all(key in meta for key in FOUND):
        _replace(cfg, cfg.shared, {key: meta[key] for key in FOUND})


def choose_sizes(sizes: np.ndarray, patch: int) -> dict[str, tuple[int, int]]:
    """Chooses crop (height, width) and scale (longest long side, short side) of pictures, in px.

    Args:
        sizes: height and width of each picture, (N, 2) px.
        patch: side of a patch of the model, in px.
    """
    short = min(LONGEST_SHORT_SIDE, int(np.median(sizes.min(1))))
    crop = min(max(round(short / CROP_STEP), 1) * CROP_STEP, MOST_TOKENS * patch)
    return dict(crop_size=(crop, crop), image_scale=(4 * short, short))


def _two_sizes(key: str, value: Any) -> tuple[int, int]:
    """Returns two sizes in px; raises ValueError for something else."""
    sizes = [value, value] if isinstance(value, int) else value
    if not isinstance(sizes, list | tuple) or len(sizes) != 2 or not all(isinstance(x, int) and x > 0 for x in sizes):
        raise ValueError(f"{key} is two sizes in px, as in {key}=(128,128), got {value!r}")
    return sizes[0], sizes[1]


def _refuse_own_options(parts: Sequence[ConfigDict], before: ConfigDict) -> None:
    """Raises ValueError if a data set was given an option that the top of the config sets for all."""
    for part in parts:
        own = [key for key in OPTIONS if key in part and part[key] != before.get(key) and not part.get("splits")]
        if own:
            raise ValueError(f"set {own[0]} at the top of the config, for training and validation: {own[0]}=...")


def _inspect(cfg: Config, options: dict[str, Any]) -> Folder:
    """Inspects the folder in the first process, writes the split to the work folder, and tells the other processes."""
    result: list[Any] = [None, None]
    if is_main_process():
        try:
            file = Path(cfg.work_dir) / SPLITS
            earlier = file if cfg.get("resume") and file.is_file() else None
            folder = inspect_folder(**options, split_file=earlier)
            if not earlier:
                _save_splits(file, folder)
            result[0] = folder
        except (OSError, ValueError) as error:
            result[1] = error
    broadcast_object_list(result)
    if result[1]:
        raise result[1]
    return result[0]


def _save_splits(file: Path, folder: Folder) -> None:
    content = {
        split: [[path.relative_to(folder.root).as_posix() for path in (pair.picture, pair.mask)] for pair in pairs]
        for split, pairs in folder.splits.items()
    }
    save_json(file, content)


def _replace(cfg: Config, before: ConfigDict, found: dict[str, Any]) -> None:
    """Replaces values of `shared` by those that were found, in pipelines and model."""
    for part, key, name in _places(cfg):
        value = part.get(key)  # one number is that of both sides
        if value is not None and tuple([value] * 2 if isinstance(value, int) else value) == tuple(before[name]):
            part[key] = found[name]
    model = cfg.model
    heads = [model.get(name) for name in ("decode_head", "auxiliary_head")]
    for head in (head for entry in heads if entry for head in (entry if isinstance(entry, list) else [entry])):
        if head.get("num_classes") == before.num_classes:
            head.num_classes = found["num_classes"]
    patch = model.backbone.get("patch_size", 16)
    if tuple(model.backbone.get("grid", ())) == tuple(side // patch for side in before.crop_size):
        model.backbone.grid = tuple(side // patch for side in found["crop_size"])


def _shorten_intervals(cfg: Config) -> None:
    """Validates and saves at the end of a run that is shorter than the config's intervals."""
    steps = cfg.train_cfg.get("max_iters")
    for part, key in ((cfg.train_cfg, "val_interval"), (cfg.default_hooks.get("checkpoint") or {}, "interval")):
        if steps and part.get(key, 0) > steps:
            part[key] = steps


def _places(cfg: Config) -> Iterator[tuple[ConfigDict, str, str]]:
    """Yields the parts of a config that hold a size: part, key, and the name of the size."""
    yield cfg.model.data_preprocessor, "size", "crop_size"
    yield cfg.model.test_cfg, "crop_size", "crop_size"
    for split in ("train", "val", "test"):
        for dataset in config_parts(cfg[f"{split}_dataloader"].dataset) if cfg.get(f"{split}_dataloader") else ():
            for step in dataset.get("pipeline", ()):
                yield step, "crop_size", "crop_size"
                yield step, "scale", "image_scale"


def _describe_steps(cfg: Config) -> str:
    height, width = cfg.crop_size
    batch, steps = cfg.train_dataloader.batch_size, cfg.train_cfg.get("max_iters")
    length = f"; {steps} steps of {batch} crops" if steps else ""
    return f"crop: {height} x {width} px of pictures whose short side is about {cfg.image_scale[1]} px{length}"
