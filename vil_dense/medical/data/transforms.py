"""From files to tensors as a plan says, for training, validation and prediction alike; and augmentation.

A plan is a mapping with
  channels      names of the input's channels
  labels        values of the classes by name, 0 (the background) upwards without a gap
  orientation   axis codes to which the volume is turned, e.g. `RAS`
  spacing_mm    to which it is resampled, three numbers in that orientation
  patch_vox     size of training patches and prediction windows, three numbers
  intensity     for each channel a dict with `rule`, a key of `INTENSITY`, and that rule's options
and, from the plan step, `batch_size`, `network` (options of `nets.ViLUNet3D`) and `median_size_vox`.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import (
    CastToTyped,
    ClassesToIndicesd,
    Compose,
    LoadImaged,
    MapTransform,
    Orientationd,
    RandAdjustContrastd,
    RandAffined,
    RandCropByLabelClassesd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    SelectItemsd,
    Spacingd,
    SpatialPadd,
)
from torch import Tensor

from vil_dense.files import read_json

Plan = Mapping[str, Any]

PLAN_KEYS = ("channels", "labels", "orientation", "spacing_mm", "patch_vox", "intensity")
PLANNED = ("batch_size", "network", "median_size_vox")
"""What the plan step adds."""
AXIS_NAMES = (("L", "R"), ("P", "A"), ("I", "S"))


def read_plan(plan: Plan | str | Path) -> Plan:
    """A plan from a mapping, or from the JSON file that the plan step writes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a plan: what is missing or wrong, in one sentence.
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
    return plan


def check_values(plan: Plan) -> None:
    """Checks what is there of a plan; raises ValueError: a value that cannot be."""
    for key, check in PLAN_CHECKS.items():
        if key not in plan:
            continue
        try:
            check(plan)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"a plan's {key} cannot be {plan[key]!r} ({type(error).__name__}: {error})") from None


def _check_labels(plan: Plan) -> None:
    if sorted(plan["labels"].values()) != list(range(len(plan["labels"]))) or len(plan["labels"]) < 2:
        raise ValueError(f"a plan's labels are 0, 1, ... without a gap, got {dict(plan['labels'])}")


def _check_orientation(plan: Plan) -> None:
    letters = plan["orientation"]
    if len(letters) != 3 or not all(any(letter in pair for letter in letters) for pair in AXIS_NAMES):
        raise ValueError(f"a plan's orientation has one letter each of L R, P A and I S, got {letters!r}")


def _check_numbers(plan: Plan, key: str, kind: type | tuple[type, ...]) -> None:
    values = plan[key]
    if len(values) != 3 or not all(isinstance(value, kind) and 0 < value < float("inf") for value in values):
        raise ValueError(f"a plan's {key} has three positive {'whole ' * (kind is int)}numbers, got {values}")


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


PLAN_CHECKS: dict[str, Callable[[Plan], None]] = {
    "channels": _check_channels,
    "labels": _check_labels,
    "orientation": _check_orientation,
    "spacing_mm": lambda plan: _check_numbers(plan, "spacing_mm", (int, float)),
    "patch_vox": lambda plan: _check_numbers(plan, "patch_vox", int),
    "intensity": _check_intensity,
    "batch_size": _check_batch_size,
    "network": _check_network,
}


def _zscore(x: Tensor, nonzero: bool = False) -> Tensor:
    """Mean 0 and deviation 1 of the volume; with `nonzero` of the voxels that are not 0, which stay 0."""
    inside = x != 0 if nonzero else torch.ones_like(x, dtype=torch.bool)
    values = x[inside]
    if not len(values):
        return x
    return torch.where(inside, (x - values.mean()) / values.std(correction=0).clamp_min(1e-8), 0.0)


def _ct(x: Tensor, low: float, high: float, mean: float, std: float) -> Tensor:
    """Clipped to [low, high] HU, then shifted and scaled by the data set's foreground."""
    return (x.clamp(low, high) - mean) / std


def _range(x: Tensor, low: float, high: float) -> Tensor:
    """[low, high] onto [0, 1], clipped."""
    return ((x - low) / (high - low)).clamp(0, 1)


INTENSITY: dict[str, Callable[..., Tensor]] = {"zscore": _zscore, "ct": _ct, "range": _range}
"""Rules for one channel, a float32 volume in and out; options beside `rule` are theirs."""


def normalise(image: Tensor, intensity: Sequence[Mapping[str, Any]]) -> Tensor:
    """(C, I, J, K) of any real dtype -> float32, each channel by its rule."""
    channels = []
    for channel, options in zip(image.float(), intensity, strict=True):
        options = dict(options)
        channels.append(INTENSITY[options.pop("rule")](channel, **options))
    return torch.stack(channels)


class Normalised(MapTransform):
    """`normalise` for dictionaries; what MONAI knows of the volume's place is kept."""

    def __init__(self, keys: KeysCollection, intensity: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(keys)
        self.intensity = intensity

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        data = dict(data)
        for key in self.key_iterator(data):
            data[key] = normalise(data[key], self.intensity)
        return data


def axes_in(orientation: str, affine: np.ndarray) -> list[int]:
    """The axes of a file, in the order that they have once it is turned to `orientation`."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(orientation)
    )
    return np.argsort(turn[:, 0]).tolist()


def preprocess(plan: Plan, keys: Sequence[str] = ("image", "label")) -> Compose:
    """Everything between the files and the network that is not chance: load, turn, resample, normalise.

    Dictionaries with paths in, with MetaTensors out: `image` (C, I, J, K) float32, `label` (1, I, J, K) uint8. With
    `keys=("image",)` for prediction. The transforms of place are invertible (MONAI's `Invertd`).
    """
    spatial = ["bilinear" if key == "image" else "nearest" for key in keys]
    steps: list[Any] = [
        LoadImaged(keys, reader="NibabelReader", ensure_channel_first=True),
        Orientationd(keys, axcodes=plan["orientation"], labels=AXIS_NAMES),
        Spacingd(keys, pixdim=plan["spacing_mm"], mode=spatial, padding_mode="border"),
        Normalised("image", plan["intensity"]),
    ]
    if "label" in keys:
        steps.append(CastToTyped("label", dtype=torch.uint8))
    return Compose(steps)


def training_cases(plan: Plan) -> Compose:
    """`preprocess`, the volume padded to the patch, and voxels of each class for the crop: what can be cached."""
    # As many places of each class as any training draws from; all of them would outweigh the volume.
    places = ClassesToIndicesd("label", num_classes=len(plan["labels"]), max_samples_per_class=20000)
    return Compose([preprocess(plan), SpatialPadd(("image", "label"), plan["patch_vox"]), places])


def augmentation(
    plan: Plan,
    *,
    foreground: float = 0.66,
    flip_axes: Sequence[int] = (0, 1, 2),
    rotate_deg: float = 15.0,
    scale: float = 0.15,
    prob: float = 0.3,
    intensity_prob: float = 0.15,
) -> Compose:
    """A random patch of a case of `training_cases`, turned, scaled, mirrored, its intensities changed.

    Args:
        foreground: probability that the patch is centred on a voxel of a foreground class, each class as likely.
        flip_axes: axes along which half of the patches are mirrored.
        rotate_deg: largest rotation about each axis; about in-plane axes alone where the spacing is anisotropic.
        scale: largest relative change of size.
        prob: of rotation and scaling.
        intensity_prob: of each change of intensity (noise, blur, contrast, gain).
    """
    keys, classes = ("image", "label"), len(plan["labels"])
    ratios = [1 - foreground, *[foreground / (classes - 1)] * (classes - 1)]
    size = tuple(plan["patch_vox"])
    return Compose(
        [
            RandCropByLabelClassesd(keys, "label", size, ratios, classes, indices_key="label_cls_indices", warn=False),
            RandAffined(
                keys,
                prob=prob,
                rotate_range=_rotations(plan["spacing_mm"], rotate_deg),
                scale_range=(scale,) * 3,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            *(RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in flip_axes),
            RandGaussianNoised("image", prob=intensity_prob, std=0.1),
            RandGaussianSmoothd("image", (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=intensity_prob),
            RandScaleIntensityd("image", factors=0.25, prob=intensity_prob),
            RandAdjustContrastd("image", prob=intensity_prob, gamma=(0.7, 1.5), retain_stats=True),
        ]
    )


def training_patches(plan: Plan, **options: Any) -> Compose:
    """`training_cases` and `augmentation` with its `options`, then `image` and `label` alone, both float32: for MONAI's
    data sets, which cache what comes before the first chance."""
    after = [SelectItemsd(("image", "label")), CastToTyped("label", dtype=torch.float32)]
    # Flat, as MONAI takes a Compose within a Compose for chance.
    return Compose([training_cases(plan), augmentation(plan, **options), *after]).flatten()


def _rotations(spacing_mm: Sequence[float], degrees: float) -> tuple[float, float, float]:
    """Largest angle about each axis, rad; a volume of thick slices is turned within them alone."""
    turns = [np.deg2rad(degrees)] * 3
    thick = int(np.argmax(spacing_mm))
    if max(spacing_mm) >= 2 * min(spacing_mm):
        turns = [turns[axis] if axis == thick else 0.0 for axis in range(3)]
    return turns[0], turns[1], turns[2]


def draw(augment: Compose, case: Mapping[str, Any], seed: int, epoch: int, index: int) -> dict[str, Tensor]:
    """One patch of a case, `image` float32 and `label` int64 plain tensors, that depends on these three numbers alone.

    MONAI's random transforms keep their state, which worker processes copy; so it is set anew for each draw.
    """
    state = np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0]
    augment.set_random_state(seed=int(state))
    patch = augment(case)
    patch = patch[0] if isinstance(patch, list) else patch
    return dict(image=plain(patch["image"]).float(), label=plain(patch["label"]).long())


def plain(x: Tensor) -> Tensor:
    """A MetaTensor as a tensor; torch.compile and collation take no other."""
    return x.as_tensor() if hasattr(x, "as_tensor") else x
