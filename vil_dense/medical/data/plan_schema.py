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
    for key in (key for key in (*RULES, *CHECKS) if key in plan):
        try:
            if key in CHECKS:
                CHECKS[key](plan)
            elif not RULES[key][1](plan[key]):
                raise ValueError(f"a plan's {key} {RULES[key][0]}, got {plan[key]!r}")
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"a plan's {key} cannot be {plan[key]!r} ({type(error).__name__}: {error})") from None


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


def _are_numbers(values: Any, kind: type[int] | tuple[type[float], ...], low: float, high: float = math.inf) -> bool:
    """Returns whether there are three numbers of a kind from `low` to `high`, and finite."""
    return len(values) == 3 and all(isinstance(x, kind) and low <= x <= high and math.isfinite(x) for x in values)


RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "channels": (
        "is a list of names",
        lambda names: (
            isinstance(names, (list, tuple)) and len(names) > 0 and all(isinstance(name, str) for name in names)
        ),
    ),
    "orientation": (
        "has one letter each of L R, P A and I S",
        lambda letters: len(letters) == 3 and all(any(letter in pair for letter in letters) for pair in AXIS_NAMES),
    ),
    "spacing_mm": (
        "has three numbers from {:g} to {:g}".format(*SIZES_MM),
        lambda values: _are_numbers(values, (int, float), *SIZES_MM),
    ),
    "patch_vox": ("has three positive whole numbers", lambda values: _are_numbers(values, int, 1)),
    "batch_size": (
        "is a whole number from 1 on",
        lambda number: isinstance(number, int) and not isinstance(number, bool) and number >= 1,
    ),
    "network": ("is an object with options of ViLUNet3D", lambda options: isinstance(options, Mapping)),
    "flip_axes": ("are some of 0, 1 and 2", lambda axes: len(set(axes)) == len(axes) and set(axes) <= {0, 1, 2}),
    "nan_background": ("is a finite number", lambda value: not isinstance(value, bool) and math.isfinite(value)),
    "first_stage": (
        "has a list of values above 0 for each structure",
        lambda groups: (
            len(groups) > 0
            and all(own and all(isinstance(value, int) and value > 0 for value in own) for own in groups)
        ),
    ),
}
"""Gives the phrase for an allowed value of a key, and whether a value is one."""

CHECKS: dict[str, Callable[[Plan], None]] = {"labels": check_labels, "intensity": _check_intensity}
"""Checks keys that depend on others; raises ValueError."""
