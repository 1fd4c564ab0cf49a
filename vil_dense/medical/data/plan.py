"""Plans a data set: measures its files and chooses spacing, patch, intensities and network.

The rules are those of nnU-Net's planner (Isensee et al., Nat. Methods 18:203, 2021, supplement), simplified: median
spacing, a patch in the proportions of the median volume, percentile clipping of CT and z-scores of everything else.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from vil_dense.backbones.memory import LiveMemory
from vil_dense.medical.data.checks import check_cases
from vil_dense.medical.data.mirroring import axes_without_sides, centres, paired_labels, sided_names
from vil_dense.medical.data.plan_schema import LABEL_KEYS, check_values
from vil_dense.medical.data.reader import LoadedCase
from vil_dense.medical.data.resample import new_length
from vil_dense.medical.datalists.datalist import Case, DataList
from vil_dense.medical.io.orientation import axis_order
from vil_dense.medical.io.volumes import read_grid
from vil_dense.medical.label_map import LabelMap, chosen_labels, values_of
from vil_dense.medical.networks.nets import build_network, logits_of
from vil_dense.medical.networks.topology import FEWEST_VOX, topology, total_stride
from vil_dense.medical.networks.vil_unet import ViLUNet3D

THICK = 3.0
"""Ratio to the finest spacing from which slices are thick; their spacing is then the 10th percentile of all cases."""
WIDTHS = (32, 64, 128, 256, 320)
MOST_TOKENS = 4096
"""Most tokens of a patch at the finest scale with sequence blocks."""
SAMPLES = 2000
"""Foreground voxels of each case and channel that are sampled for the statistics of the data set."""
NAMED = ("channels", "labels", *LABEL_KEYS)
CHOICES = (
    *("orientation", "spacing_mm", "patch_vox", "batch_size"),
    *("intensity", "network", "flip_axes", "nan_background"),
)


class Study:
    """Collects the measurements of cases that the plan needs; axes are in the order of `orientation`."""

    def __init__(self, orientation: str = "RAS", ignore: int | None = None) -> None:
        self.orientation, self.ignore = orientation, ignore
        self.cases: list[dict[str, Any]] = []
        self.foreground: list[np.ndarray] = []
        self.centres: list[dict[int, np.ndarray]] = []
        self.sizes_mm: list[np.ndarray] = []

    def __call__(self, case: Case, loaded: LoadedCase) -> None:
        image, label, grid = loaded
        order = axis_order(grid.affine, self.orientation)
        counts = np.bincount(label.ravel()) if label is not None else np.zeros(1, int)
        if label is not None and self.ignore is not None:
            if (label == self.ignore).all():
                raise ValueError(f"case {case.name}: every voxel of its label has the ignore_label {self.ignore}")
            label = np.where(label == self.ignore, 0, label)
        inside = image[:, label > 0] if label is not None and label.any() else image.reshape(len(image), -1)
        picked = np.random.default_rng(len(self.cases)).integers(inside.shape[1], size=SAMPLES)
        self.foreground.append(inside[:, picked])
        self.centres.append({} if label is None else centres(label, grid.affine))
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

    def sided(self, labels: Mapping[str, Any]) -> list[str]:
        """Returns the labels that belong to one side: by their names, or because they lie in pairs."""
        names = {value: name for name, own in labels.items() for value in values_of(own)}
        paired = {names[value] for pair in paired_labels(self.centres, self.sizes_mm) for value in pair}
        return sorted({*sided_names(labels), *paired})


def make_plan(
    listed: DataList,
    *,
    set_values: Mapping[str, Any] | None = None,
    patch_budget_vox: int = 96**3,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Reads and checks every case once and chooses a plan.

    Returns `data` (measured), `plan` (chosen), `cost` of a training step, `cases`, and `warnings` on their headers.

    Sizes and spacings are in the order of the plan's orientation (default RAS), not in that of the files.

    Args:
        set_values: values for keys of `CHOICES` and `NAMED` that replace those of the rules; dependent values are
            adapted.
        patch_budget_vox: most voxels of a patch.

    Raises:
        ValueError: the data have faults, or a key or value is not allowed in a plan.
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
    study = Study(given.get("orientation", "RAS"), given.get("ignore_label"))
    values = LabelMap.of(given).file_values if "labels" in given else range(256)
    warnings = check_cases(listed.cases, len(channels), values, report, study, nan=given.get("nan_background"))
    labels = given.get("labels")
    if not labels:
        unlabelled = all(case.label is None for case in listed.cases)
        labels = dict(background=0) if unlabelled else _found_labels(study)
    chosen = _choose(study, channels, labels, given, patch_budget_vox)
    data = _summary(study, chosen["labels"]) | dict(sided=study.sided(chosen["labels"]))
    return dict(data=data, plan=chosen, cost=_cost(chosen), cases=study.cases, warnings=warnings)


def _rules(intensity: Any, channels: int) -> list[Any]:
    """Returns a rule for each channel; a single rule, or its name, is used for all of them."""
    rules = list(intensity) if isinstance(intensity, (list, tuple)) else [intensity] * channels
    return [dict(rule=rule) if isinstance(rule, str) else rule for rule in rules]


def _found_labels(study: Study) -> dict[str, int]:
    """Returns classes named after the values in the labels, for a data set without class names."""
    found = sorted({n for case in study.cases for n in case["voxels_of_value"]})
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
    study: Study, channels: list[str], labels: dict[str, Any], given: Mapping[str, Any], budget: int
) -> dict[str, Any]:
    spacing = [
        float(mm) for mm in given.get("spacing_mm") or target_spacing([case["spacing_mm"] for case in study.cases])
    ]
    sizes = [
        [
            new_length(n, before, after)
            for n, before, after in zip(case["shape_vox"], case["spacing_mm"], spacing, strict=True)
        ]
        for case in study.cases
    ]
    median = np.median(sizes, axis=0).astype(int).tolist()
    patch = [int(n) for n in given.get("patch_vox") or choose_patch(median, spacing, budget)]
    batch = int(given.get("batch_size") or choose_batch(patch, budget, prod(median) * len(sizes)))
    values = np.concatenate(study.foreground, axis=1)
    intensity = given.get("intensity") or [
        intensity_rule(name, values[channel], [case["intensity"][channel]["min"] for case in study.cases])
        for channel, name in enumerate(channels)
    ]
    return dict(
        channels=channels,
        labels=labels,
        orientation=study.orientation,
        spacing_mm=spacing,
        patch_vox=patch,
        intensity=intensity,
        batch_size=batch,
        network={**choose_network(patch, spacing), **given.get("network", {})},
        flip_axes=list(given.get("flip_axes", axes_without_sides(study.orientation, study.sided(labels)))),
        median_size_vox=median,
        **{key: given[key] for key in ("nan_background", *LABEL_KEYS) if key in given},
    )


def target_spacing(spacings_mm: Sequence[Sequence[float]]) -> list[float]:
    """Returns the median along each axis; along thick slices the 10th percentile, so that few lose resolution."""
    spacing = np.median(spacings_mm, axis=0)
    thick = int(np.argmax(spacing))
    if spacing[thick] >= THICK * spacing.min():
        spacing[thick] = max(np.percentile(spacings_mm, 10, axis=0)[thick], np.delete(spacing, thick).max())
    return spacing.round(4).tolist()


def choose_patch(median_vox: Sequence[int], spacing_mm: Sequence[float], budget_vox: int) -> list[int]:
    """Returns the median size, shortened along the longest axis in mm to fit the budget, in multiples of strides."""
    size = [max(int(n), FEWEST_VOX) for n in median_vox]
    while True:
        strides = total_stride(topology(spacing_mm, len(WIDTHS), size)[0])
        patch = [-(-n // stride) * stride for n, stride in zip(size, strides, strict=True)]
        long = [axis for axis in range(3) if size[axis] > FEWEST_VOX]
        if prod(patch) <= budget_vox or not long:
            return patch
        longest = max(long, key=lambda axis: size[axis] * spacing_mm[axis])
        size[longest] = max(size[longest] - strides[longest], FEWEST_VOX)


def choose_batch(patch_vox: Sequence[int], budget_vox: int, dataset_vox: int) -> int:
    """Returns the batch size: at least 2, for small patches up to two budgets and a twentieth of the data."""
    return max(2, min(2 * budget_vox // prod(patch_vox), dataset_vox // 20 // prod(patch_vox), 12))


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


def choose_network(patch_vox: Sequence[int], spacing_mm: Sequence[float]) -> dict[str, Any]:
    """Returns the widths of all scales to which the patch can be halved, and their numbers of sequence blocks.

    There are 4 blocks at the finest scale after two halvings with at most `MOST_TOKENS`, and 2 at each coarser one.
    """
    strides, _ = topology(spacing_mm, len(WIDTHS), patch_vox)
    levels = 1 + sum(max(stride) > 1 for stride in strides)
    tokens = [prod(patch_vox) // prod(total_stride(strides[: level + 1])) for level in range(levels)]
    first = next((level for level in range(2, levels) if tokens[level] <= MOST_TOKENS), levels - 1)
    depths = [0 if level < first else 4 if level == first else 2 for level in range(levels)]
    return dict(channels=list(WIDTHS[:levels]), depths=depths, deep_supervision=max(1, min(3, levels - 1)))


def _summary(study: Study, labels: Mapping[str, Any]) -> dict[str, Any]:
    spacings = np.array([case["spacing_mm"] for case in study.cases])
    shapes = np.array([case["shape_vox"] for case in study.cases])
    total = max(sum(sum(case["voxels_of_value"].values()) for case in study.cases), 1)
    counts = {
        name: [sum(case["voxels_of_value"].get(value, 0) for value in values_of(own)) for case in study.cases]
        for name, own in labels.items()
    }
    return dict(
        cases=len(study.cases),
        spacing_mm=_spread(spacings),
        shape_vox=_spread(shapes),
        orientations=sorted({case["orientation"] for case in study.cases}),
        foreground_intensity=[
            dict(zip(("p0.5", "mean", "std", "p99.5"), _moments(values), strict=True))
            for values in np.concatenate(study.foreground, axis=1)
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


def _cost(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Returns tokens of a patch, parameters, and the estimated memory of a training step in float32."""
    network = build_network(plan, "ViLUNet3D")
    assert isinstance(network, ViLUNet3D)
    return dict(
        tokens=network.tokens(plan["patch_vox"]),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        training_gib=round(training_bytes(network, plan["patch_vox"], plan["batch_size"]) / 2**30, 2),
    )


def training_bytes(network: torch.nn.Module, patch_vox: Sequence[int], batch_size: int) -> int:
    """Returns the bytes of a training step in float32: weights, gradients, AdamW's state, saved activations.

    Activations are counted for a small patch and scaled with the voxels: those of ViL and convolutions are linear.
    """
    small = [min(n, 16 if n <= 32 else 32) for n in patch_vox]
    channels = next(network.parameters()).shape[1]
    with LiveMemory() as memory:
        losses = [logits.square().mean() for logits in logits_of(network(torch.zeros(1, channels, *small)))]
        torch.autograd.backward(losses)
    weights = sum(4 * parameter.numel() for parameter in network.parameters())
    network.zero_grad()
    return 4 * weights + max(memory.peak - weights, 0) * batch_size * prod(patch_vox) // prod(small)
