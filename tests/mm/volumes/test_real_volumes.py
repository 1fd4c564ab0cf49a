"""Tests real CT and MR, anisotropic and turned: plan, checks, a training step and whole-volume prediction."""

import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper

from vil_dense.medical.data.plan import make_plan
from vil_dense.medical.data.plan_sizes import Target
from vil_dense.medical.datalists.datalist import read_datalist
from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.volumes import VolumeDataset, VolumeSegmentor

DATA = Path(os.environ.get("VIL_DENSE_DATA", Path(__file__).parents[4] / "shared/data")) / "volumes"
CASES = {
    "spleen": ("sub-spleen2_ct.nii.gz", "sub-spleen2_ct_seg-manual.nii.gz", "ct", (0.795, 0.795, 5.0), (1, 1, 0)),
    "cord": ("sct_t1/t1w.nii.gz", "sct_t1/t1w_seg-manual.nii.gz", "zscore", (1.0, 1.0, 1.0), (1, 1, 1)),
    "grey": ("sct_t2s/t2s.nii.gz", "sct_t2s/t2s_gmseg_manual.nii.gz", "zscore", (0.5, 0.5, 7.5), (1, 1, 0)),
}
NETWORK = dict(channels=(4, 8), depths=(0, 1))


@pytest.mark.parametrize("name", CASES)
def test_plan_train_and_predict(name: str, tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip(f"no real volumes at {DATA}; VIL_DENSE_DATA names their folder")
    image, label, rule, spacing, halved = CASES[name]
    (tmp_path / "list.json").write_text(
        json.dumps(dict(training=[dict(image=str(DATA / image), label=str(DATA / label))]))
    )
    made = make_plan(
        read_datalist(tmp_path, "list.json"), set_values=dict(network=NETWORK), target=Target(patch_vox=16**3)
    )
    plan = json.loads(json.dumps(made))["plan"]
    assert plan["intensity"][0]["rule"] == rule and plan["spacing_mm"] == pytest.approx(spacing, abs=1e-3)
    options = dict(data_root=str(tmp_path), plan=plan, datalist="list.json", fold=None)
    data, whole = VolumeDataset(**options), VolumeDataset(**options, train=False, check_s=None)
    torch.manual_seed(0)
    model = VolumeSegmentor(plan, dict(type="ViLUNet3D"), overlap=0.0, window_batch=8)
    assert model.network.strides[1] == tuple(1 + half for half in halved)
    batch = {key: value[None] for key, value in data[SampleKey(0)].items() if key != "name"}
    loss = model.train().train_step(batch, build_optim_wrapper(model, dict(optimizer=dict(type="AdamW"))))
    assert torch.isfinite(loss["loss"])
    item = whole[0]
    with torch.no_grad():
        (found,) = model.eval().val_step(pseudo_collate([item]))
    assert found["prediction"].shape == item["label"].shape == item["image"].shape[1:] and item["label"].any()
