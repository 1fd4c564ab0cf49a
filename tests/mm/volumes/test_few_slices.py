"""Tests volumes of one, two and five slices, the thin axis in each place: plan, two training steps, prediction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from nifti_files import affine, write_nifti

from vil_dense.medical.data.plan import make_plan
from vil_dense.medical.datalists.datalist import read_datalist
from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.volumes import VolumeDataset, VolumeSegmentor

NETWORK = dict(channels=(8, 8, 8), depths=(0, 0, 1), deep_supervision=2)


@pytest.mark.parametrize(("slices", "axis"), [(1, 2), (1, 0), (2, 2), (5, 1)])
def test_plan_train_and_predict(slices: int, axis: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shape = [slices if n == axis else 40 for n in range(3)]
    for name in ("a", "b"):
        label = np.zeros(shape, np.uint8)
        label[tuple(slice(None) if n == axis else slice(12, 28) for n in range(3))] = 1
        write_nifti(
            tmp_path / f"images/{name}.nii.gz", (label + rng.normal(0, 0.3, shape)).astype(np.float32), affine()
        )
        write_nifti(tmp_path / f"labels/{name}.nii.gz", label, affine())
    plan = make_plan(read_datalist(tmp_path), set_values=dict(network=NETWORK))["plan"]
    assert plan["patch_vox"][axis] == slices and min(np.delete(plan["patch_vox"], axis)) == 40
    model = VolumeSegmentor(plan, dict(type="ViLUNet3D"))
    assert all(stride[axis] == 1 for stride in model.network.strides)
    data = VolumeDataset(str(tmp_path), plan, fold=None, augment=dict(prob=1.0, intensity_prob=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for step in range(2):
        patch = data[SampleKey(0, 0, step)]
        image, target = patch["image"][None], patch["label"][None]
        assert (image == 0).float().mean() < 0.3 and target.any(), "a rotation leaves the slices in the patch"
        loss = model(image, target, mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    item = VolumeDataset(str(tmp_path), plan, fold=None, train=False)[0]
    with torch.no_grad():
        (found,) = model.eval().val_step(pseudo_collate([item]))
    assert found["prediction"].shape == tuple(shape)
