"""Provides MONAI dictionary transforms from the files of a case to the plan's grid and to training patches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    CastToTyped,
    ClassesToIndicesd,
    Compose,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandCropByLabelClassesd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandSpatialCropd,
    SelectItemsd,
    SpatialPadd,
)
from torch import Tensor

from vil_dense.medical.data.cases import read_case
from vil_dense.medical.data.first_stage import AddFirstStaged
from vil_dense.medical.data.mirroring import mirror_axes
from vil_dense.medical.data.plan_schema import Plan, read_plan
from vil_dense.medical.data.preprocess import PlanGrid, network_input
from vil_dense.medical.datalists.datalist import Case
from vil_dense.medical.io.grid import Grid
from vil_dense.medical.io.volumes import check_same_grid, read_label
from vil_dense.medical.label_map import LabelMap

KEYS = ("image", "label")
FIRST_STAGE = "first_stage"
"""Key of the mask of a first stage, see `cascade`."""
FEW_SLICES = 3
"""Ratio of the longest to the shortest axis of a patch, in voxels, above which it is rotated within its slices alone,
as in nnU-Net: other rotations would turn most voxels of the slices out of the patch."""


class LoadCased(MapTransform):
    """Reads the files of a case by `cases.read_case`, which checks them, unlike MONAI's `LoadImaged`.

    `image`, a path or one for each channel, becomes (C, I, J, K) float32, `label` (1, I, J, K) uint8, as MetaTensors on
    the grid of the file, and so does `first_stage`, a mask on the same grid. `label` and `first_stage` are read only if
    they are among the `keys`.
    """

    def __init__(self, keys: KeysCollection, plan: Plan) -> None:
        super().__init__(keys)
        self.channels, self.labels = len(plan["channels"]), LabelMap.of(plan).file_values
        self.nan = plan.get("nan_background")
        self.first_stage = {0, *(value for own in plan.get(FIRST_STAGE, ()) for value in own)}

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        case = Case.from_dict(data)
        image, label, grid = read_case(case, self.channels, self.labels if "label" in self.keys else None, self.nan)
        # MONAI names outputs after this path: by the case, not by the file of its first channel
        named = case.images[0].with_name(f"{case.name}.nii.gz")
        meta = dict(filename_or_obj=str(named), spatial_shape=np.array(grid.shape))
        volumes = dict(image=image) if label is None else dict(image=image, label=label[None])
        if FIRST_STAGE in self.keys:
            volumes[FIRST_STAGE] = self._read_mask(case, grid)[None]
        affine = torch.from_numpy(grid.affine)
        placed = {key: MetaTensor(torch.from_numpy(x), affine, dict(meta)) for key, x in volumes.items()}
        return {**data, **placed}

    def _read_mask(self, case: Case, grid: Grid) -> np.ndarray:
        """Returns the mask of the first stage, (I, J, K) uint8, or int32 with values above 255."""
        if case.first_stage is None:
            raise ValueError(f"case {case.name} has no mask of a first stage, which the plan's network sees")
        try:
            mask, mask_grid = read_label(case.first_stage, self.first_stage)
            check_same_grid(grid, mask_grid)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"case {case.name}: {error}") from None
        return mask if mask.dtype == np.uint8 else mask.astype(np.int32)  # MONAI pads no uint16


class EncodeLabelsd(MapTransform):
    """Replaces the values of a label by the numbers that loss and sampling use, see `LabelMap.encode`."""

    def __init__(self, keys: KeysCollection, plan: Plan) -> None:
        super().__init__(keys)
        self.labels = LabelMap.of(plan)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        data = dict(data)
        for key in self.key_iterator(data):
            label = data[key]
            encoded = self.labels.encode(label.as_tensor().numpy())
            if self.labels.ignore is not None and not encoded.any():
                raise ValueError(
                    f"case {data['name']}: every voxel of its label has the ignore_label {self.labels.ignore}: "
                    "annotate some of them, or take the case out of the training"
                )
            data[key] = MetaTensor(torch.from_numpy(encoded), meta=label.meta)
        return data


class ToStructuresd(MapTransform):
    """Replaces the values of a label, or of a mask, by (structures, I, J, K) uint8, 1 inside each structure.

    Voxels without annotation in `label` are in no structure of any of the keys.
    """

    def __init__(self, keys: KeysCollection, plan: Plan) -> None:
        super().__init__(keys)
        self.labels = LabelMap.of(plan)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        data = dict(data)
        ignored = -1 if self.labels.ignore is None else self.labels.ignore
        known = data["label"].int() != ignored
        for key in self.key_iterator(data):
            own = [torch.tensor(values, device=known.device) for values in self.labels.structures.values()]
            masks = torch.cat([torch.isin(data[key].int(), values) for values in own])
            data[key] = (masks & known).to(torch.uint8)
        return data


class ToPlanGridd(MapTransform):
    """Resamples a case of `LoadCased` to the plan's grid by `preprocess.PlanGrid` and normalises the intensities.

    `image` becomes (C, I', J', K') float32, the others (1, I', J', K') of their dtype, plain tensors.
    """

    def __init__(self, keys: KeysCollection, plan: Plan) -> None:
        super().__init__(keys)
        self.plan = plan

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        data = dict(data)
        for key in self.key_iterator(data):
            volume, affine = data[key].as_tensor().numpy(), data[key].affine.numpy()
            grid = PlanGrid.over(volume.shape[1:], affine, self.plan)
            data[key] = network_input(volume, grid, self.plan) if key == "image" else grid.label(volume[0])[None]
        return data


def training_cases(plan: Plan | str | Path) -> Compose:
    """Returns the transforms whose results can be cached: read, resample, pad to the patch, find voxels of each class.

    Their input is the dictionary of `Case.as_dict`, and their label is that of `LabelMap.encode`.
    """
    plan = read_plan(plan)
    labels = LabelMap.of(plan)
    encode = [] if labels.plain else [EncodeLabelsd("label", plan)]
    # 20,000 voxels of each class are enough for sampling; the indices of all would take more memory than the volume.
    count = labels.first_group + len(labels.groups)
    places = ClassesToIndicesd("label", num_classes=count, max_samples_per_class=20000)
    keys = _keys(plan)
    grid = [ToPlanGridd(keys, plan), SpatialPadd(keys, plan["patch_vox"])]
    return Compose([LoadCased(keys, plan), *encode, *grid, places])


def _keys(plan: Plan) -> tuple[str, ...]:
    """Returns the keys of a training case that hold volumes."""
    return (*KEYS, FIRST_STAGE) if FIRST_STAGE in plan else KEYS


def augmentation(
    plan: Plan,
    *,
    foreground: float = 0.66,
    flip_axes: Sequence[int] | None = None,
    rotate_deg: float = 15.0,
    scale: float = 0.15,
    prob: float = 0.3,
    intensity_prob: float = 0.15,
) -> Compose:
    """Returns the random transforms: crop a patch, rotate, scale and mirror it, and change its intensities.

    In the second stage of a cascade `first_stage.AddFirstStaged` is the last of them.

    Args:
        foreground: probability that the patch is centred on a voxel of a foreground class (of a label value, if classes
            are regions), each equally likely. No patch is centred on a voxel without annotation.
        flip_axes: axes along which half of the patches are mirrored; by default those of `mirroring.mirror_axes`.
        rotate_deg: largest rotation about each axis; with anisotropic spacing only within the slices.
        scale: largest relative change of size.
        prob: probability of rotation and scaling.
        intensity_prob: probability of each change of intensity (noise, blur, contrast, gain).
    """
    labels = LabelMap.of(plan)
    others = len(labels.groups) - 1
    ratios = [*[0.0] * labels.first_group, 1 - foreground, *[foreground / others] * others]
    keys, classes = _keys(plan), len(ratios)
    size = tuple(plan["patch_vox"])
    axes = mirror_axes(plan) if flip_axes is None else flip_axes
    return Compose(
        [
            RandCropByLabelClassesd(keys, "label", size, ratios, classes, indices_key="label_cls_indices", warn=False),
            RandAffined(
                keys,
                prob=prob,
                rotate_range=_rotations(plan, rotate_deg),
                scale_range=(scale,) * 3,
                mode=("bilinear", *["nearest"] * (len(keys) - 1)),
                padding_mode="zeros",
            ),
            *(RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in axes),
            RandGaussianNoised("image", prob=intensity_prob, std=0.1),
            RandGaussianSmoothd("image", (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=intensity_prob),
            RandScaleIntensityd("image", factors=0.25, prob=intensity_prob),
            RandAdjustContrastd("image", prob=intensity_prob, gamma=(0.7, 1.5), retain_stats=True),
            *([AddFirstStaged(plan)] if FIRST_STAGE in plan else []),
        ]
    )


def training_patches(plan: Plan | str | Path, **options: Any) -> Compose:
    """Returns `training_cases` followed by `augmentation(**options)`; `image` and `label` are float32.

    It is for MONAI's data sets, which cache the results of the transforms before the first random one.
    """
    after = [SelectItemsd(KEYS), CastToTyped("label", dtype=torch.float32)]
    # Flat, as MONAI treats a nested Compose as a random transform.
    return Compose([training_cases(plan), augmentation(read_plan(plan), **options), *after]).flatten()


def unlabelled_cases(plan: Plan | str | Path) -> Compose:
    """Returns `training_cases` for volumes without labels: read, resample, pad to the patch."""
    plan = read_plan(plan)
    return Compose([LoadCased("image", plan), ToPlanGridd("image", plan), SpatialPadd("image", plan["patch_vox"])])


def light_augmentation(plan: Plan) -> Compose:
    """Returns the random transforms of a pretraining: crop a patch anywhere, rotate, scale and mirror it."""
    keys = ("image",)
    return Compose(
        [
            RandSpatialCropd(keys, tuple(plan["patch_vox"]), random_size=False),
            RandAffined(
                keys,
                prob=0.3,
                rotate_range=_rotations(plan, 15.0),
                scale_range=(0.15,) * 3,
                mode="bilinear",
                padding_mode="zeros",
            ),
            *(RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in mirror_axes(plan)),
        ]
    )


def _rotations(plan: Plan, degrees: float) -> tuple[float, float, float]:
    """Returns the largest angle about each axis, rad; thick or few slices are rotated only within them."""
    angles = [np.deg2rad(degrees)] * 3
    spacing_mm, patch_vox = plan["spacing_mm"], plan["patch_vox"]
    few = max(patch_vox) > FEW_SLICES * min(patch_vox)
    if few or max(spacing_mm) >= 2 * min(spacing_mm):
        across = int(np.argmin(patch_vox) if few else np.argmax(spacing_mm))
        angles = [angles[axis] if axis == across else 0.0 for axis in range(3)]
    return angles[0], angles[1], angles[2]


def sample_patch(augment: Compose, case: Mapping[str, Any], seed: int, epoch: int, index: int) -> dict[str, Tensor]:
    """Returns a patch with plain tensors `image` float32 and `label` int64; it depends only on case and numbers.

    The random state of MONAI's transforms is set for each patch, as worker processes copy it.
    """
    patch = _draw(augment, case, seed, epoch, index)
    return dict(image=plain(patch["image"]).float(), label=plain(patch["label"]).long())


def sample_image(augment: Compose, case: Mapping[str, Any], seed: int, epoch: int, index: int) -> Tensor:
    """Returns the image of a patch without a label, float32; like `sample_patch` it depends on case and numbers."""
    return plain(_draw(augment, case, seed, epoch, index)["image"]).float()


def _draw(augment: Compose, case: Mapping[str, Any], seed: int, epoch: int, index: int) -> Mapping[str, Any]:
    state = np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0]
    augment.set_random_state(seed=int(state))
    patch = augment(case)
    return patch[0] if isinstance(patch, list) else patch


def plain(x: Tensor) -> Tensor:
    """Returns a MetaTensor as a plain tensor, which torch.compile and collation need."""
    return x.as_tensor() if hasattr(x, "as_tensor") else x
