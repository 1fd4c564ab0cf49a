"""Plans a data set: measures its files and chooses spacing, patch, intensities and network.

The rules are those of nnU-Net's planner (Isensee et al., Nat. Methods 18:203, 2021, supplement), simplified: median
spacing, a patch in the proportions of the median volume, percentile clipping of CT and z-scores of everything else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import prod
from typing import Any

import numpy as np

from vil_dense.medical.data.cases import LoadedCase, check_cases
from vil_dense.medical.data.low_resolution import boxes_mm, coarser_spacing, median_extents_mm
from vil_dense.medical.data.mirroring import axes_without_sides, centres, paired_labels, sided_names
from vil_dense.medical.data.plan_schema import LABEL_KEYS, check_values
from vil_dense.medical.data.plan_sizes import Fit, Target, fit
from vil_dense.medical.data.preprocess import new_length
from vil_dense.medical.datalists.datalist import Case, DataList
from vil_dense.medical.io.geometry import axis_order
from vil_dense.medical.io.volumes import read_grid
from vil_dense.medical.label_map import LabelMap, chosen_labels, values_of

THICK = 3.0
"""Ratio to the finest spacing from which slices are thick; their spacing is then the 10th percentile of all cases."""
SAMPLES = 2000
"""Foreground voxels of each case and channel that are sampled for the statistics of the data set."""
NO_LIMIT = Target()
NAMED = ("channels", "labels", *LABEL_KEYS)
CHOICES = (
    *("orientation", "spacing_mm", "patch_vox", "batch_size"),
    *("intensity", "network", "flip_axes", "nan_background"),
)


class Measurements:
    """Collects the measurements of cases that the plan needs; axes are in the order of `orientation`."""

    def __init__(self, orientation: str = "RAS", ignore: int | None = None) -> None:
        self.orientation, self.ignore = orientation, ignore
        self.cases: list[dict[str, Any]] = []
        self.foreground: list[np.ndarray] = []
        self.whole: list[np.ndarray] = []
        self.centres: list[dict[int, np.ndarray]] = []
        self.sizes_mm: list[np.ndarray] = []
        self.boxes: list[dict[int, np.ndarray]] = []

    def __call__(self, case: Case, loaded: LoadedCase) -> None:
        image, label, grid = loaded
        order = axis_order(grid.affine, self.orientation)
        counts = np.bincount(label.ravel()) if label is not None else np.zeros(1, int)
        if label is not None and self.ignore is not None:
            if (label == self.ignore).all():
                raise ValueError(f"case {case.name}: every voxel of its label has the ignore_label {self.ignore}")
            label = np.where(label == self.ignore, 0, label)
        found = image[:, label > 0] if label is not None and label.any() else None
        inside = image.reshape(len(image), -1) if found is None else found
        picked = np.random.default_rng(len(self.cases)).integers(inside.shape[1], size=SAMPLES)
        (self.whole if found is None else self.foreground).append(inside[:, picked])
        self.centres.append({} if label is None else centres(label, grid.affine))
        self.boxes.append({} if label is None else boxes_mm(label, order, grid.spacing_mm))
        self.sizes_mm.append(np.abs(grid.affine[:3, :3] @ np.diag(grid.shape)).sum(1))
        self.cases.append(
            dict(
                case=case.name,
                shape_vox=[int(grid.shape[axis]) for axis in order],
                spacing_mm=[round(float(grid.spacing_mm[axis]), 4) for axis in order],
                orientation=grid.orientation,
                intensity=[
                    dict(
                        zip(("min", "median", "max"), np.quantile(channel, (0, 0.5, 1)).round(3).tolist(), strict=True)
                    )
                    for channel in image
                ],
                voxels_of_value={n: int(counts[n]) for n in np.flatnonzero(counts).tolist() if n != self.ignore},
            )
        )

    def intensities(self) -> np.ndarray:
        """Returns intensities of the foreground, (C, samples); those of whole images if no label has any."""
        return np.concatenate(self.foreground or self.whole, axis=1)

    def median_size(self, spacing_mm: Sequence[float]) -> list[int]:
        """Returns the median size of the cases at a spacing, voxels."""
        sizes = [
            [new_length(*axis) for axis in zip(case["shape_vox"], case["spacing_mm"], spacing_mm, strict=True)]
            for case in self.cases
        ]
        return np.median(sizes, axis=0).astype(int).tolist()

    def sided(self, labels: Mapping[str, Any]) -> dict[str, str]:
        """Returns the labels that belong to one side with the reason: their name, or that they lie in pairs."""
        names = {value: name for name, own in labels.items() for value in values_of(own)}
        paired = {names[value] for pair in paired_labels(self.centres, self.sizes_mm) for value in pair}
        named = sided_names(labels)
        return {name: "name" if name in named else "place" for name in sorted({*named, *paired})}


def make_plan(
    listed: DataList,
    *,
    set_values: Mapping[str, Any] | None = None,
    target: Target = NO_LIMIT,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Reads and checks every case once and chooses a plan.

    Returns `data` (measured), `plan` (chosen), `cost` of a training step, `target` with the reason of the choice,
    `low_resolution` (see `coarser_spacing`), `cases`, and `warnings` on their headers.

    Sizes and spacings are in the order of the plan's orientation (default RAS), not in that of the files.

    Args:
        set_values: values for keys of `CHOICES` and `NAMED` that replace those of the rules; dependent values are
            adapted.
        target: what the training may take.

    Raises:
        ValueError: the data have faults, a key or value is not allowed in a plan, or nothing fits the target.
    """
    given = dict(set_values or {})
    if unknown := set(given) - {*CHOICES, *NAMED}:
        raise ValueError(f"a plan has no {', '.join(sorted(unknown))}; known: {', '.join((*NAMED, *CHOICES))}")
    channels = given.get("channels") or listed.channels or [f"channel {n}" for n in range(_channels(listed))]
    given["channels"] = channels = [channels] if isinstance(channels, str) else list(channels)
    given |= chosen_labels({key: given.pop(key) for key in NAMED[1:] if key in given}, listed.label_keys)
    if "intensity" in given:
        given["intensity"] = _rules(given["intensity"], len(channels))
    check_values(given)
    measured = Measurements(given.get("orientation", "RAS"), given.get("ignore_label"))
    values = LabelMap.of(given).file_values if "labels" in given else range(256)
    warnings = list(listed.unread)
    warnings += [] if "intensity" in given else foreign_rules(channels)
    warnings += check_cases(listed.cases, len(channels), values, report, measured, nan=given.get("nan_background"))
    labels = given.get("labels")
    if not labels:
        unlabelled = all(case.label is None for case in listed.cases)
        labels = dict(background=0) if unlabelled else _found_labels(measured)
    chosen, fitted = _choose(measured, channels, labels, given, target)
    data = _summary(measured, chosen["labels"]) | dict(sided=measured.sided(chosen["labels"]))
    return dict(
        data=data,
        plan=chosen,
        cost=fitted.cost.summary(chosen["batch_size"], target),
        target=dict(asdict(target), reason=fitted.reason),
        low_resolution=coarser_spacing(
            median_extents_mm(measured.boxes, chosen["labels"]), measured.median_size, chosen
        ),
        cases=measured.cases,
        warnings=warnings,
    )


def _rules(intensity: Any, channels: int) -> list[Any]:
    """Returns a rule for each channel; a single rule, or its name, is used for all of them."""
    rules = list(intensity) if isinstance(intensity, (list, tuple)) else [intensity] * channels
    return [dict(rule=rule) if isinstance(rule, str) else rule for rule in rules]


def _found_labels(measured: Measurements) -> dict[str, int]:
    """Returns classes named after the values in the labels, for a data set without class names."""
    found = sorted({n for case in measured.cases for n in case["voxels_of_value"]})
    if found not in ([*range(len(found))], [*range(1, len(found) + 1)]) or found in ([], [0]):
        raise ValueError(
            f"the labels hold the values {', '.join(map(str, found[:8]))}{', ...' * (len(found) > 8)}, with a gap: "
            "name the classes, --set labels.background=0 labels.NAME=VALUE ..."
        )
    return {"background" if n == 0 else f"class {n}": n for n in range(found[-1] + 1)}


def _channels(listed: DataList) -> int:
    """Counts the channels of the first case's files."""
    return sum(read_grid(path).channels for path in listed.cases[0].images)


def _choose(
    measured: Measurements, channels: list[str], labels: dict[str, Any], given: Mapping[str, Any], target: Target
) -> tuple[dict[str, Any], Fit]:
    """Returns the plan, and how its patch, batch and network were chosen."""
    spacing = [
        float(mm) for mm in given.get("spacing_mm") or target_spacing([case["spacing_mm"] for case in measured.cases])
    ]
    median = measured.median_size(spacing)
    values = measured.intensities()
    intensity = given.get("intensity") or [
        intensity_rule(name, values[channel], [case["intensity"][channel]["min"] for case in measured.cases])
        for channel, name in enumerate(channels)
    ]
    label_keys = {key: given[key] for key in LABEL_KEYS if key in given}
    fixed = {key: given[key] for key in ("patch_vox", "batch_size", "network") if key in given}
    start = dict(channels=channels, labels=labels, spacing_mm=spacing, **label_keys, **fixed)
    fitted = fit(start, median, prod(median) * len(measured.cases), target)
    plan = dict(
        channels=channels,
        labels=labels,
        orientation=measured.orientation,
        spacing_mm=spacing,
        patch_vox=fitted.values["patch_vox"],
        intensity=intensity,
        batch_size=fitted.values["batch_size"],
        network=fitted.values["network"],
        flip_axes=list(given.get("flip_axes", axes_without_sides(measured.orientation, [*measured.sided(labels)]))),
        median_size_vox=median,
        **{key: given[key] for key in ("nan_background",) if key in given},
        **label_keys,
    )
    return plan, fitted


def target_spacing(spacings_mm: Sequence[Sequence[float]]) -> list[float]:
    """Returns the median along each axis; along thick slices the 10th percentile, so that few lose resolution."""
    spacing = np.median(spacings_mm, axis=0)
    thick = int(np.argmax(spacing))
    if spacing[thick] >= THICK * spacing.min():
        spacing[thick] = max(np.percentile(spacings_mm, 10, axis=0)[thick], np.delete(spacing, thick).max())
    return spacing.round(4).tolist()


def foreign_rules(channels: Sequence[str]) -> list[str]:
    """Returns a warning for each channel that is named as a normalisation of nnU-Net that is no rule of `INTENSITY`."""
    return [
        f"channel {name!r}: nnU-Net's normalisation of this name is no rule here, so it gets z-scores; "
        "--set intensity=... chooses another rule"
        for name in channels
        if name.lower() in ("nonorm", "rescale_to_0_1", "rgb_to_0_1")
    ]


def intensity_rule(channel: str, foreground: np.ndarray, lowest: Sequence[float]) -> dict[str, Any]:
    """Returns a rule: for CT (by its name, or by values as low as air) clipping to percentiles, else z-scores."""
    named_ct = channel.strip().upper() == "CT"
    unnamed = channel.startswith("channel ")
    if named_ct or (unnamed and np.median(lowest) <= -500):
        low, high = np.percentile(foreground, (0.5, 99.5))
        mean, std = foreground.mean(), max(float(foreground.std()), 1e-8)
        return dict(
            rule="ct", **{k: round(float(v), 3) for k, v in dict(low=low, high=high, mean=mean, std=std).items()}
        )
    return dict(rule="zscore")


def _summary(measured: Measurements, labels: Mapping[str, Any]) -> dict[str, Any]:
    spacings = np.array([case["spacing_mm"] for case in measured.cases])
    shapes = np.array([case["shape_vox"] for case in measured.cases])
    total = max(sum(sum(case["voxels_of_value"].values()) for case in measured.cases), 1)
    counts = {
        name: [sum(case["voxels_of_value"].get(value, 0) for value in values_of(own)) for case in measured.cases]
        for name, own in labels.items()
    }
    return dict(
        cases=len(measured.cases),
        spacing_mm=_spread(spacings),
        shape_vox=_spread(shapes),
        orientations=sorted({case["orientation"] for case in measured.cases}),
        foreground_intensity=[
            dict(zip(("p0.5", "mean", "std", "p99.5"), _moments(values), strict=True))
            for values in measured.intensities()
        ],
        share_of_class={name: round(sum(own) / total, 6) for name, own in counts.items()},
        cases_with_class={name: sum(voxels > 0 for voxels in own) for name, own in counts.items()},
    )


def _spread(values: np.ndarray) -> dict[str, list[float]]:
    return {
        name: np.quantile(values, q, axis=0).round(4).tolist() for name, q in (("min", 0), ("median", 0.5), ("max", 1))
    }


def _moments(values: np.ndarray) -> list[float]:
    low, high = np.percentile(values, (0.5, 99.5))
    return [round(float(x), 4) for x in (low, values.mean(), values.std(), high)]
