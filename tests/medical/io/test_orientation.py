"""Tests the axes of a file in anatomical order."""

from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImaged, Orientationd
from nifti_files import affine, write_nifti

from vil_dense.medical.io.geometry import AXIS_NAMES, axis_order


@pytest.mark.parametrize("orientation", ["RAS", "PSR", "ILA"])
@pytest.mark.parametrize("own", ["RAS", "LPS", "SAR", "oblique"])
def test_the_order_is_that_of_monais_orientation(orientation: str, own: str, tmp_path: Path) -> None:
    image = np.zeros((3, 4, 5), np.float32)
    path = write_nifti(tmp_path / "i.nii", image, affine(own))
    loaded = LoadImaged("image", ensure_channel_first=True)(dict(image=str(path)))
    turned = Orientationd("image", axcodes=orientation, labels=AXIS_NAMES)(loaded)["image"]
    assert [image.shape[axis] for axis in axis_order(affine(own), orientation)] == list(turned.shape[1:])
