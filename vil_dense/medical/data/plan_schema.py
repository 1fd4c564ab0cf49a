"""Defines the keys of a plan and checks their values.

A plan is a mapping with
  channels      names of the input's channels
  labels        value of each class by name, or a list of values; 0 is the background, see `label_map`.
                The background alone in a plan of volumes without labels
  orientation   axis codes along which the network sees a volume, e.g. `RAS`
  spacing_mm    spacing after resampling, three numbers in that orientation
  patch_vox     size of training patches and prediction windows, three numbers
  intensity     for each channel a dict with `rule`, a key of `INTENSITY`, and that rule's options
and, after planning, `batch_size`, `network` (options of `ViLUNet3D`), `flip_axes` (axes along which volumes are
mirrored, see `mirroring`) and `median_size_vox`. With `nan_background`, a number, voxels of NaN are read as this value;
without it they are an error. `class_order`, `regions_class_order` and `ignore_label` say more of the labels, see
`label_map`. In the second stage of a `cascade`, `first_stage` lists the values of each structure of the first stage's
mask, e.g. [[1], [2]]: the network sees each structure as a further channel, 1 inside and 0 outside.
"""

import math
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from vil_dense.files import read_json
from vil_dense.medical.data.intensity import INTENSITY
from vil_dense.medical.io.geometry import AXIS_NAMES, SIZES_MM
from vil_dense.medical.label_map import check_labels, in_order

Plan = Mapping[str, Any]

PLAN_KEYS = ("channels", "labels", "orientation", "spacing_mm", "patch_vox", "intensity")
LABEL_KEYS = ("class_order", "regions_class_order", "ignore_label")
PLANNED = ("batch_size", "network", "flip_axes", "median_size_vox", "nan_background", "first_stage", *LABEL_KEYS)
"""Keys that planning, or a cascade, adds; those from `nan_background` on only where they are needed."""


def read_plan(plan: Plan | str | Path) -> Plan:
    """Returns a plan from a mapping, or from a JSON file of `tools/volumes/plan.py`.

    Its labels are in `class_order`, or else in the order of their values, as MMEngine sorts the names in a config that
    it writes.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a plan must not have these keys or values.
    """
    if isinstance(plan, (str, Path)):
        path = Path(plan)
        if not path.is_file():
            raise FileNotFoundError(f"no plan at {path}; make one: python tools/volumes/plan.py DATA --out {path}")
        content = read_json(path)
        try:
            return read_plan(content.get("plan", content) if isinstance(content, dict) else content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if not isinstance(plan, Mapping):
        raise ValueError(f"a plan is an object with names and values, got a {type(plan).__name__}")
    if missing := [key for key in PLAN_KEYS if key not in plan]:
        raise ValueError(f"a plan needs {', '.join(PLAN_KEYS)}; missing: {', '.join(missing)}")
    if unknown := [key for key in plan if key not in (*PLAN_KEYS, *PLANNED)]:
        raise ValueError(f"a plan has no {', '.join(unknown)}; known: {', '.join((*PLAN_KEYS, *PLANNED))}")
    check_values(plan)
    return {**plan, "labels": in_order(plan)}


def check_values(plan: Plan) -> None:
    """Checks the values of those keys that a plan has.

    Raises:
        ValueError: a value is not allowed.
    """
    for key, check in PLAN_CHECKS.items():
        if key not in plan:
            continue
        try:
            check(plan)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"a plan's {key} cannot be {plan[key]!r} ({type(error).__name__}: {error})") from None


def _check_orientation(plan: Plan) -> None:
    letters = plan["orientation"]
    if len(letters) != 3 or not all(any(letter in pair for letter in letters) for pair in AXIS_NAMES):
        raise ValueError(f"a plan's orientation has one letter each of L R, P A and I S, got {letters!r}")


def _check_numbers(plan: Plan, key: str, kind: type[int] | tuple[type[float], ...]) -> None:
    values = plan[key]
    if len(values) != 3 or not all(isinstance(value, kind) and 0 < value < float("inf") for value in values):
        raise ValueError(f"a plan's {key} has three positive {'whole ' * (kind is int)}numbers, got {values}")


def _check_spacing(plan: Plan) -> None:
    _check_numbers(plan, "spacing_mm", (int, float))
    low, high = SIZES_MM
    if not all(low <= size <= high for size in plan["spacing_mm"]):
        raise ValueError(f"a plan's spacing_mm is from {low:g} to {high:g}, got {plan['spacing_mm']}")


def _check_intensity(plan: Plan) -> None:
    rules, count = plan["intensity"], len(plan["channels"])
    if not isinstance(rules, (list, tuple)) or len(rules) != count or not all(isinstance(x, Mapping) for x in rules):
        raise ValueError(f"a plan's intensity is a list with a rule for each of {count} channels, got {rules!r}")
    for options in rules:
        options = dict(options)
        rule = options.pop("rule")
        if rule not in INTENSITY:
            raise ValueError(f"unknown intensity rule {rule!r}; known: {', '.join(INTENSITY)}")
        signature(INTENSITY[rule]).bind(None, **options)
        bounds = {name: value for name, value in options.items() if isinstance(value, (int, float))}
        if not all(math.isfinite(value) for value in bounds.values()):
            raise ValueError(f"a plan's intensity has finite numbers, got {options}")
        if bounds.get("low", 0) >= bounds.get("high", math.inf) or bounds.get("std", 1) <= 0:
            raise ValueError(f"a plan's intensity has low < high and std > 0, got {options}")


def _check_channels(plan: Plan) -> None:
    names = plan["channels"]
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"a plan's channels is a list of names, got {names!r}")


def _check_batch_size(plan: Plan) -> None:
    number = plan["batch_size"]
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"a plan's batch_size is a whole number from 1 on, got {number!r}")


def _check_network(plan: Plan) -> None:
    if not isinstance(plan["network"], Mapping):
        raise ValueError(f"a plan's network is an object with options of ViLUNet3D, got {plan['network']!r}")


def _check_flip_axes(plan: Plan) -> None:
    axes = plan["flip_axes"]
    if len(set(axes)) != len(axes) or not set(axes) <= {0, 1, 2}:
        raise ValueError(f"a plan's flip_axes are some of 0, 1 and 2, got {axes!r}")


def _check_nan_background(plan: Plan) -> None:
    value = plan["nan_background"]
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"a plan's nan_background is a finite number, got {value!r}")


def _check_first_stage(plan: Plan) -> None:
    groups = plan["first_stage"]
    if not groups or not all(own and all(isinstance(value, int) and value > 0 for value in own) for own in groups):
        raise ValueError(f"a plan's first_stage has a list of values above 0 for each structure, got {groups!r}")


PLAN_CHECKS: dict[str, Callable[[Plan], None]] = {
    "channels": _check_channels,
    "labels": check_labels,
    "orientation": _check_orientation,
    "spacing_mm": _check_spacing,
    "patch_vox": lambda plan: _check_numbers(plan, "patch_vox", int),
    "intensity": _check_intensity,
    "batch_size": _check_batch_size,
    "network": _check_network,
    "flip_axes": _check_flip_axes,
    "nan_background": _check_nan_background,
    "first_stage": _check_first_stage,
}
