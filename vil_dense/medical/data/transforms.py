"""Dictionary transforms of MONAI's kind: a case's files to a case on the plan's grid, and to patches for training."""

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
    SelectItemsd,
    SpatialPadd,
)
from torch import Tensor

from vil_dense.medical.data.datalist import Case
from vil_dense.medical.data.plan_schema import Plan, read_plan
from vil_dense.medical.data.preprocess import PlanGrid, network_input
from vil_dense.medical.data.reader import read_case

KEYS = ("image", "label")


class LoadCased(MapTransform):
    """Reads the files of a case by `reader.read_case`, as MONAI's `LoadImaged` would with no check of what it reads.

    `image`, a path or one for each channel, becomes (C, I, J, K) float32, `label` (1, I, J, K) uint8: MetaTensors on
    the file's own grid. A `label` that is not among the `keys` is not read.
    """

    def __init__(self, keys: KeysCollection, plan: Plan) -> None:
        super().__init__(keys)
        self.channels, self.labels = len(plan["channels"]), sorted(plan["labels"].values())

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        case = Case.from_dict(data)
        image, label, grid = read_case(case, self.channels, self.labels if "label" in self.keys else None)
        meta = dict(filename_or_obj=str(case.images[0]), spatial_shape=np.array(grid.shape))
        volumes = dict(image=image) if label is None else dict(image=image, label=label[None])
        affine = torch.from_numpy(grid.affine)
        placed = {key: MetaTensor(torch.from_numpy(x), affine, dict(meta)) for key, x in volumes.items()}
        return {**data, **placed}


class ToPlanGridd(MapTransform):
    """Brings a case of `LoadCased` to the plan's grid by `preprocess.PlanGrid` and normalises the image's intensities.

    `image` becomes (C, I', J', K') float32, `label` (1, I', J', K') uint8, plain tensors.
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
    """Makes of a case's files what can be cached: on the plan's grid, padded to the patch, with voxels of each class.

    Dictionaries with paths in, as `Case.as_dict` gives them.
    """
    plan = read_plan(plan)
    # As many places of each class as any training draws from; all of them would outweigh the volume.
    places = ClassesToIndicesd("label", num_classes=len(plan["labels"]), max_samples_per_class=20000)
    return Compose([LoadCased(KEYS, plan), ToPlanGridd(KEYS, plan), SpatialPadd(KEYS, plan["patch_vox"]), places])


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
    """Takes a random patch of a case of `training_cases`; rotates, scales and mirrors it and changes its intensities.

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


def training_patches(plan: Plan | str | Path, **options: Any) -> Compose:
    """Makes patches of a case's files, `image` and `label` float32: `training_cases`, then `augmentation(**options)`.

    For MONAI's data sets, which cache what comes before the first random transform.
    """
    after = [SelectItemsd(KEYS), CastToTyped("label", dtype=torch.float32)]
    # Flat, as MONAI takes a Compose within a Compose for a random transform.
    return Compose([training_cases(plan), augmentation(read_plan(plan), **options), *after]).flatten()


def _rotations(spacing_mm: Sequence[float], degrees: float) -> tuple[float, float, float]:
    """Reangles the largest angle about each axis, rad; a volume of thick slices is rotated within them alone."""
    angles = [np.deg2rad(degrees)] * 3
    thick = int(np.argmax(spacing_mm))
    if max(spacing_mm) >= 2 * min(spacing_mm):
        angles = [angles[axis] if axis == thick else 0.0 for axis in range(3)]
    return angles[0], angles[1], angles[2]


def sample_patch(augment: Compose, case: Mapping[str, Any], seed: int, epoch: int, index: int) -> dict[str, Tensor]:
    """Returns a patch of a case, `image` float32 and `label` int64 plain tensors, that depends on these numbers alone.

    MONAI's random transforms hold their state, which worker processes copy; so it is set anew for each patch.
    """
    state = np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0]
    augment.set_random_state(seed=int(state))
    patch = augment(case)
    patch = patch[0] if isinstance(patch, list) else patch
    return dict(image=plain(patch["image"]).float(), label=plain(patch["label"]).long())


def plain(x: Tensor) -> Tensor:
    """Returns a MetaTensor as a tensor; torch.compile and collation take no other."""
    return x.as_tensor() if hasattr(x, "as_tensor") else x
