"""Tests the way from an image on its own grid to classes on the same grid."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from live_memory import LiveMemory
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import Compose, Invertd, LoadImaged, Orientationd, Spacingd
from nifti_files import affine, write_nifti
from torch import Tensor, nn
from volume_plans import small_plan

from vil_dense.medical.data import preprocess
from vil_dense.medical.data.intensity import normalise
from vil_dense.medical.inference.volume_predictor import PROBABILITY_STEPS, predict
from vil_dense.medical.io.geometry import AXIS_NAMES
from vil_dense.medical.io.volumes import read_image
from vil_dense.medical.metrics import score_case

LABELS = dict(background=0, one=1, two=2)


def plan(**changes: object) -> dict:
    return small_plan(**(dict(labels=LABELS) | changes))


class Nearest(nn.Module):
    """Returns logits of the class whose number is nearest to the voxel's value, of `classes` in [0, 1]."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.register_buffer("values", torch.arange(classes).float().view(1, -1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return -(((self.values.shape[1] - 1) * x - self.values) ** 2)


def network(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 3, 3, padding=1)).eval()


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 500, shape).astype(np.int16)


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "PSR", "LPS"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.6, 1.7, 2.5)], ids=str)
def test_what_monais_transforms_and_their_inverse_give(orientation: str, spacing: tuple, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", noise((13, 10, 11)), affine(orientation, spacing))
    given = plan(orientation="LPS", patch_vox=(8, 9, 10))
    image, grid = read_image([path])
    shares = np.zeros((*grid.shape, 3), dtype=np.uint16)
    with patch.object(preprocess, "SLAB_BYTES", 4000):
        found = predict([network()], image, grid.affine, given, probabilities=shares)

    prepare = Compose(
        [
            LoadImaged("image", reader="NibabelReader", ensure_channel_first=True),
            Orientationd("image", axcodes="LPS", labels=AXIS_NAMES),
            Spacingd("image", pixdim=given["spacing_mm"], mode="bilinear", padding_mode="border"),
        ]
    )
    data = prepare(dict(image=str(path)))
    seen = normalise(data["image"].as_tensor(), given["intensity"])
    with torch.no_grad():
        logits = sliding_window_inference(seen[None], given["patch_vox"], 1, network(), overlap=0.5, mode="gaussian")
    data["logits"] = MetaTensor(logits[0], meta=data["image"].meta)
    back = Invertd("logits", prepare, orig_keys="image", nearest_interp=False, to_tensor=True)(data)[
        "logits"
    ].as_tensor()
    assert found.shape == back.shape[1:] == (13, 10, 11)
    expected = back.softmax(0).movedim(0, -1)
    torch.testing.assert_close(torch.from_numpy(shares / PROBABILITY_STEPS).float(), expected, rtol=0, atol=1e-4)
    ordered = back.sort(0).values
    sure = (ordered[-1] - ordered[-2]).numpy() > 1e-3
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(found[sure], back.argmax(0).numpy()[sure])


def test_an_oblique_volume_is_seen_along_its_own_axes(tmp_path: Path) -> None:
    """Tests that it is seen as if it were straight (MONAI's `Spacing` shifts it by part of a voxel)."""
    results = []
    for orientation in ("oblique", "RAS"):
        path = write_nifti(tmp_path / f"{orientation}.nii", noise((13, 10, 11)), affine(orientation, (0.6, 1.7, 2.5)))
        image, grid = read_image([path])
        results.append(predict([network()], image, grid.affine, plan()))
    np.testing.assert_array_equal(*results)
    assert len(np.unique(results[0])) > 1


def test_classes_survive_another_spacing() -> None:
    """Tests that a ball of 9 mm keeps its volume when the plan's voxels are twice as large."""
    distance = np.linalg.norm(np.indices((40, 40, 20)) * np.array([1, 1, 2])[:, None, None, None] - 19.5, axis=0)
    ball = (distance < 9).astype(np.float32)[None]
    spacing = (1.0, 1.0, 2.0)
    given = plan(spacing_mm=(2.0, 2.0, 2.0), labels=dict(background=0, ball=1), patch_vox=(16, 16, 16))
    found = predict(
        [Nearest(2)], ball, affine("RAS", spacing), given | dict(intensity=[dict(rule="range", low=0, high=1)])
    )
    (score,) = score_case("a", found, ball[0] > 0, classes=dict(ball=1), spacing_mm=spacing)
    assert score.dice > 0.93 and score.hd95_mm <= 2


def test_two_channels_keep_their_order(tmp_path: Path) -> None:
    volume = noise((9, 8, 10))
    files = [write_nifti(tmp_path / f"a_000{c}.nii", volume * (1 - c), affine("LAS")) for c in (0, 1)]
    image, grid = read_image(files, channels=2)

    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([-x[:, :1], x[:, :1]], dim=1)

    given = plan(channels=["a", "b"], labels=dict(background=0, bright=1), intensity=[dict(rule="zscore")] * 2)
    np.testing.assert_array_equal(predict([First()], image, grid.affine, given), volume > volume.mean())


def test_scores_of_the_whole_volume_are_never_held() -> None:
    shape, classes = (24, 24, 240), 14
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    labels = {f"organ {c}": c for c in range(classes)}
    given = plan(labels=labels, spacing_mm=(1.0, 1.0, 0.8), patch_vox=(12, 12, 12))
    with patch.object(preprocess, "SLAB_BYTES", 50_000), LiveMemory() as memory:
        found = predict([Nearest(classes)], image, affine(), given)
    assert len(np.unique(found)) > 1
    assert memory.peak < 0.6 * 4 * classes * np.prod(shape)
