"""Checks the config in a published file: plain values, and only names of known classes of known packages."""

import math
import re
from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS, METRICS, MODELS, TASK_UTILS, TRANSFORMS, Registry

CODINGS = ("ids", "colours")
"""Names how the files of a data set code classes."""

PACKAGES = ("mmcv", "mmengine", "mmseg", "torch.nn", "torch.utils.data", "vil_dense")
"""Modules whose registered classes a published config may name."""
REGISTRIES = {
    "model": (MODELS, TASK_UTILS),
    "test_dataloader": (DATASETS, TRANSFORMS, DATA_SAMPLERS, FUNCTIONS),
    "test_evaluator": (METRICS,),
}
"""The parts of a published config, and the registries in which the `type` of their dicts is looked up."""
FILE_KEYS = {
    "backend_args",
    "checkpoint",
    "checkpoint_path",
    "class_embed_path",
    "custom_imports",
    "file_client_args",
    "imports",
    "init_cfg",
    "load_from",
    "pretrained",
}
"""Keys that name files, servers or modules; a published config has them as None or not at all."""
MOST_LEVELS = 40
"""Dicts and lists within each other in a config; those of mmseg have about 10."""


def check_config(config: Mapping[str, Any]) -> None:
    """Checks the parts of a published config.

    Raises:
        ValueError: an unknown part or `type`, a key or text that could name a file or module, or another kind of value.
    """
    for part, content in config.items():
        if part not in REGISTRIES:
            raise ValueError(f"its config has an unknown part {part!r}, expected {', '.join(REGISTRIES)}")
        _check(content, part, part, MOST_LEVELS)
    model = config.get("model")
    if not isinstance(model, dict) or "decode_head" not in model:
        raise ValueError("its config has no model with a decode_head")


def _check(node: object, path: str, part: str, levels: int) -> None:
    if not levels:
        raise ValueError(f"{path} is nested deeper than {MOST_LEVELS} levels")
    if isinstance(node, dict):
        for key, value in node.items():
            _check_entry(key, value, path, part)
            _check(value, f"{path}.{key}", part, levels - 1)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            _check(value, f"{path}[{index}]", part, levels - 1)
    elif isinstance(node, str):
        _check_text(node, path, part)
    elif isinstance(node, float) and not math.isfinite(node):
        raise ValueError(f"{path} is {node}, expected a finite number")
    elif not isinstance(node, (bool, int, float, type(None))):
        raise ValueError(f"{path} is {_kind(node)}, and only numbers, texts, lists and dicts can be published")


def _check_entry(key: object, value: object, path: str, part: str) -> None:
    if not isinstance(key, str) or key.startswith("_"):
        raise ValueError(f"{path} has the key {key!r}, which a published config cannot have")
    if (key in FILE_KEYS and value is not None) or (key == "class_weight" and isinstance(value, str)):
        raise ValueError(f"{path}.{key} could name a file or a module, which a published config cannot")
    if key == "type":
        check_type(value, path, REGISTRIES[part])


def check_type(name: object, path: str, registries: tuple[Registry, ...]) -> None:
    """Checks that `name` is a class that mmengine, mmcv, mmseg or this package has registered.

    Raises:
        ValueError: it is not, or it is a path of a module.
    """
    if not isinstance(name, str):
        raise ValueError(f"{path}.type is {_kind(name)}, expected the name of a class")
    tables = [table.module_dict for root in registries for table in (root, *root.children.values())]
    found = [table[name] for table in tables if name in table]
    known = [part for part in found if part.__module__.startswith(tuple(f"{package}." for package in PACKAGES))]
    if not found or len(known) < len(found):
        packages = ", ".join(PACKAGES)
        raise ValueError(f"{path}.type is {_short(name)}, which is no registered class of {packages}")


def _check_text(text: str, path: str, part: str) -> None:
    if len(text) > 1000 or not text.isprintable():
        raise ValueError(f"{path} holds a text that is too long or cannot be printed")
    parts = re.split(r"[/\\]", text)
    if len(parts) > 1 and part == "model":
        raise ValueError(f"{path} is {_short(text)}, and no file belongs in a model that is published")
    if names_a_place(text):
        raise ValueError(f"{path} is {_short(text)}: only paths below the data root can be published")


def names_a_place(text: str) -> bool:
    """Returns whether a text is an absolute path, one that leaves its folder, or a URL."""
    return bool(re.match(r"[/\\~]|\w:[/\\]|\w+://", text)) or ".." in re.split(r"[/\\]", text)


def check_classes(described: object) -> None:
    """Checks classes, palette, label map and `reduce_zero_label` of a data set.

    Raises:
        ValueError: one of them is missing or of another form.
    """
    if not isinstance(described, dict):
        raise ValueError("it does not describe the data set that it was trained on")
    classes, palette = described.get("classes"), described.get("palette")
    if not (
        isinstance(classes, list)
        and 0 < len(classes) <= 2**16
        and all(isinstance(name, str) and name.isprintable() and len(name) <= 200 for name in classes)
    ):
        raise ValueError("its classes are not a list of 1 to 65536 names")
    if not (isinstance(palette, list) and len(palette) == len(classes) and all(map(_is_colour, palette))):
        raise ValueError(f"its palette is not a list of {len(classes)} colours [R, G, B] in 0..255")
    pairs = described.get("label_map")
    if pairs is not None and not (
        isinstance(pairs, list)
        and all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_id, pair)) for pair in pairs)
    ):
        raise ValueError("its label_map is not a list of pairs of ids")
    if described.get("coding") not in (None, *CODINGS):
        raise ValueError(f"its coding is none of {', '.join(CODINGS)}")
    if not isinstance(described.get("reduce_zero_label"), bool):
        raise ValueError("its reduce_zero_label is not true or false")


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**24  # of 16 bits, or three bytes of a colour


def _is_byte(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255


def _is_colour(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value))


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]} ...")
