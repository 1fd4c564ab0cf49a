"""Tests that training, prediction and evaluation see the same voxels, whatever header, labels and layout."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nifti_files import affine
from volume_plans import small_plan

from vil_dense.medical.data.cases import read_case
from vil_dense.medical.data.preprocess import PlanGrid, network_input
from vil_dense.medical.data.transforms import KEYS, LoadCased, ToPlanGridd
from vil_dense.medical.datalists.datalist import read_datalist
from vil_dense.medical.datalists.inputs import find_cases
from vil_dense.medical.io.volumes import read_label, write_mask

SHAPE = (9, 11, 7)
SPACING = (1.0, 0.8, 2.5)
PLAN = small_plan("a", "b", "c", channels=["T1"], spacing_mm=(1.1, 1.1, 2.0))


def header(
    orientation: str = "RAS",
    codes: tuple[int, int] = (1, 1),
    other: str | None = None,
    endian: str = "<",
    kind: type = nibabel.Nifti1Image,
    slope: tuple[float, float] | None = None,
    four: bool = False,
) -> Callable[[Path, np.ndarray], None]:
    """Returns a writer of voxels: sform and qform codes, a qform of `other` orientation, byte order, scaling, 4D."""

    def write(path: Path, voxels: np.ndarray) -> None:
        place = affine(orientation, SPACING)
        image = kind(voxels[..., None] if four else voxels, place, kind.header_class(endianness=endian))
        image.set_sform(place, codes[0])
        image.set_qform(affine(other or orientation, SPACING), codes[1])
        if slope and voxels.dtype != np.uint8:
            image.header.set_slope_inter(*slope)
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, path)

    return write


HEADERS = {
    "RAS": header(),
    "LPS": header("LPS"),
    "PSR": header("PSR"),
    "SAL": header("SAL"),
    "oblique": header("oblique"),
    "qform only": header("LAS", codes=(0, 1)),
    "sform only": header("oblique", codes=(2, 0)),
    "no codes": header(codes=(0, 0)),
    "contradiction": header("LPS", codes=(4, 1), other="RAS"),
    "big-endian": header("PIR", endian=">"),
    "NIfTI-2": header("RSA", kind=nibabel.Nifti2Image),
    "scaled 4D": header("ARS", slope=(0.5, -100.0), four=True),
}
DTYPES = (np.uint8, np.int16, np.uint16, np.float32)


def decathlon(root: Path) -> tuple[Path, Path]:
    (root / "dataset.json").write_text(json.dumps(dict(training=[dict(image="i/a.nii.gz", label="l/a.nii.gz")])))
    return root / "i/a.nii.gz", root / "l/a.nii.gz"


def two_folders(root: Path) -> tuple[Path, Path]:
    return root / "images/a.nii.gz", root / "labels/a.nii.gz"


def nnunet(root: Path) -> tuple[Path, Path]:
    meta = dict(channel_names={"0": "T1"}, labels=dict(background=0, a=1, b=2, c=3), file_ending=".nii.gz")
    (root / "dataset.json").write_text(json.dumps(meta))
    return root / "imagesTr/a_0000.nii.gz", root / "labelsTr/a.nii.gz"


LAYOUTS = (decathlon, two_folders, nnunet)


@pytest.mark.parametrize("name", HEADERS)
def test_one_view(name: str, tmp_path: Path) -> None:
    number = list(HEADERS).index(name)
    rng, dtype, layout = np.random.default_rng(number), DTYPES[number % 4], LAYOUTS[number % 3]
    truth = rng.integers(0, 4, SHAPE).astype(dtype)
    image_path, label_path = layout(tmp_path)
    HEADERS[name](image_path, rng.integers(-99, 999, SHAPE).astype(np.int16))
    label_header = header("ARS") if name == "scaled 4D" else HEADERS[name]
    label_header(label_path, truth)
    (case,) = read_datalist(tmp_path).cases

    trained = ToPlanGridd(KEYS, PLAN)(LoadCased(KEYS, PLAN)(case.as_dict()))
    image, label, grid = read_case(case, 1, PLAN["labels"].values())
    plan_grid = PlanGrid.over(grid.shape, grid.affine, PLAN)
    assert torch.equal(torch.as_tensor(trained["image"]), network_input(image, plan_grid, PLAN)), "prediction"
    assert torch.equal(torch.as_tensor(trained["label"])[0], plan_grid.label(label))

    scored, label_grid = read_label(label_path, PLAN["labels"].values())
    np.testing.assert_array_equal(scored, truth)
    np.testing.assert_array_equal(label_grid.affine, grid.affine)

    write_mask(tmp_path / "mask.nii.gz", label, grid)
    written, mask_grid = read_label(tmp_path / "mask.nii.gz", PLAN["labels"].values())
    np.testing.assert_array_equal(written, truth)
    np.testing.assert_array_equal(mask_grid.affine, grid.affine)
    assert mask_grid.warning == grid.warning and bool(grid.warning) == (name == "contradiction")

    (found,) = find_cases(image_path.parent)
    assert found.images == case.images, "the folder of images gives prediction the same case"
