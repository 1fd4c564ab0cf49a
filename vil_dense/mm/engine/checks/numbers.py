"""Checks numbers of a config whose errors would come late, without a name, or not at all."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from mmengine.config import Config

from vil_dense.mm.datasets.wrappers import config_parts
from vil_dense.mm.engine.checks.components import components

NUMBERS: dict[str, tuple[type[int] | tuple[type[float], ...], float]] = {
    **{f"{split}_dataloader.batch_size": (int, 1) for split in ("train", "val", "test")},
    **{f"{split}_dataloader.num_workers": (int, 0) for split in ("train", "val", "test")},
    **{f"train_cfg.{key}": (int, 1) for key in ("max_iters", "max_epochs", "val_interval")},
    **{f"model.{head}.channels": (int, 1) for head in ("decode_head", "auxiliary_head")},
    "model.boundary_weight": ((int, float), 0),
    "optim_wrapper.optimizer.lr": ((int, float), 0),
    "optim_wrapper.accumulative_counts": (int, 1),
    "default_hooks.watch.max_skipped": (int, 0),
}
"""Type and smallest value by place."""
POSITIVE = ("optim_wrapper.clip_grad.max_norm", "optim_wrapper.paramwise_cfg.layer_decay_rate")
"""Numbers above 0; else the gradients vanish or lead away from the minimum, and training goes on."""


def check_numbers(cfg: Config) -> None:
    """Checks the numbers of loaders, optimizer, losses, crops, windows and maps; None is not checked.

    One number in place of height and width, as in `crop_size=64`, becomes a pair: mmseg itself reads only pairs.

    Raises:
        ValueError: names the place in the config, its value and the values that can be.
    """
    for key, (kind, least) in NUMBERS.items():
        value = _at(cfg, key)
        if value is not None and not (_is_number(value, kind) and value >= least):
            raise ValueError(f"{key} is a {'whole ' if kind is int else ''}number from {least} on, got {value!r}")
    for key in POSITIVE:
        value = _at(cfg, key)
        if value is not None and not (_is_number(value, (int, float)) and value > 0):
            raise ValueError(f"{key} is a number greater than 0, got {value!r}")
    for place, part in components(cfg._cfg_dict):
        weight = part.get("loss_weight")
        if weight is not None and not (_is_number(weight, (int, float)) and weight >= 0):
            raise ValueError(f"{place}.loss_weight is a number from 0 on, got {weight!r}")
    _check_crops(cfg)
    _check_windows(cfg)
    _check_maps(cfg)


def _check_crops(cfg: Config) -> None:
    """Checks that crops have a size, and that batches are not padded to less."""
    loader, preprocessor = cfg.get("train_dataloader") or {}, _at(cfg, "model.data_preprocessor")
    dataset = loader.get("dataset")
    padded: tuple[int, int] | None = None
    if isinstance(preprocessor, MutableMapping) and preprocessor.get("size") is not None:
        padded = _set_pair(preprocessor, "size", "model.data_preprocessor.size")
    for part in config_parts(dataset) if isinstance(dataset, Mapping) else ():
        for number, step in enumerate(part.get("pipeline") or []):
            if step.get("type") != "RandomCrop":
                continue
            crop = _set_pair(step, "crop_size", f"crop_size of step {number} of the training pipeline")
            if padded and any(length < cut for length, cut in zip(padded, crop, strict=True)):
                raise ValueError(
                    f"model.data_preprocessor.size is {padded} and the training crop {crop}: pictures smaller than "
                    "the crop are padded to that size, so it has to be that of the crop"
                )


def _check_windows(cfg: Config) -> None:
    """Checks the mode of testing, and that windows cover a picture."""
    test = _at(cfg, "model.test_cfg")
    segments = _at(cfg, "model.type") in ("EncoderDecoder", "CascadeEncoderDecoder")  # others have modes of their own
    if not segments or not isinstance(test, MutableMapping) or "mode" not in test:
        return
    if test["mode"] not in ("slide", "whole"):
        raise ValueError(f"model.test_cfg.mode is slide or whole, got {test['mode']!r}")
    if test["mode"] == "whole":
        return
    if missing := [key for key in ("crop_size", "stride") if not test.get(key)]:
        raise ValueError(f"model.test_cfg.mode=slide needs model.test_cfg.{missing[0]}=(HEIGHT,WIDTH) in px")
    crop, stride = (_set_pair(test, key, f"model.test_cfg.{key}") for key in ("crop_size", "stride"))
    if any(step > length for step, length in zip(stride, crop, strict=True)):
        raise ValueError(f"model.test_cfg.stride {stride} is larger than crop_size {crop}: pixels would be left out")


def _check_maps(cfg: Config) -> None:
    """Checks that the heads read maps that ViL returns, where a neck keeps their number."""
    maps, neck = _at(cfg, "model.backbone.out_indices"), _at(cfg, "model.neck")
    kept = neck is None or (isinstance(neck, Mapping) and neck.get("type") == "Feature2Pyramid")
    if _at(cfg, "model.backbone.type") != "ViL" or not isinstance(maps, (list, tuple)) or not kept:
        return
    for head in ("decode_head", "auxiliary_head"):
        indices = _at(cfg, f"model.{head}.in_index")
        for index in indices if isinstance(indices, (list, tuple)) else [indices]:
            if isinstance(index, int) and not -len(maps) <= index < len(maps):
                raise ValueError(
                    f"model.{head}.in_index names map {index}, and there are {len(maps)}, counted from 0: one for each "
                    "block in model.backbone.out_indices"
                )


def _set_pair(part: MutableMapping, key: str, place: str) -> tuple[int, int]:
    """Replaces one number by height and width, and returns these; raises ValueError unless both are 1 or more."""
    value: Any = part.get(key)
    pair = (value, value) if isinstance(value, int) else value
    sound = isinstance(pair, (list, tuple)) and len(pair) == 2 and all(_is_number(x, int) and x >= 1 for x in pair)
    if not sound:
        raise ValueError(f"{place} is one whole number of px from 1 on, or (height, width), got {value!r}")
    if isinstance(value, int):
        part[key] = (value, value)
    return pair[0], pair[1]


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and abs(value) < float("inf")


def _at(cfg: Config, place: str) -> Any:
    """Returns the value at a place such as `model.neck`; None if there is none."""
    value: Any = cfg._cfg_dict
    for part in place.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
