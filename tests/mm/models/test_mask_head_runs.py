"""Tests the mask-classification head through the commands: a resumed run, a published model, a prediction."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from run_command import ROOT, run_command

from vil_dense.mm import Segmentor
from vil_dense.mm.utils.safe_load import load_safely
from vil_dense.synthetic.scenes import write_sample

CONFIG = """
_base_ = ["{root}/configs/vil_maskformer_sample.py"]
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(dim=32, depth=2, out_indices=(0, 0, 1, 1), grid=(8, 8)),
    neck=dict(embed_dim=32),
    decode_head=dict(in_channels=[32] * 4, channels=16, num_points=128),
)
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root="{data}"))
train_dataloader = dict(batch_size=2, **loader)
val_dataloader = test_dataloader = loader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1))
"""


def test_a_run_resumes_bit_for_bit_is_published_and_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(tmp_path / "sample", train=4, val=1)
    (tmp_path / "config.py").write_text(CONFIG.format(root=ROOT, data=tmp_path / "sample"))
    crop = "--cfg-options train_dataloader.dataset.pipeline.3.crop_size=(64,64)"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_command(f"train {tmp_path}/config.py --work-dir {whole} {crop}", monkeypatch) == 0
    cut.mkdir()
    shutil.copy(whole / "iter_1.pth", cut)
    assert run_command(f"train {tmp_path}/config.py --work-dir {cut} --resume {crop}", monkeypatch) == 0
    ends = [load_safely(str(folder / "iter_2.pth")) for folder in (whole, cut)]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)
    assert run_command(f"publish_model {whole} --out {tmp_path}/model.safetensors", monkeypatch) == 0
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    run, published = (
        Segmentor.load(source, device="cpu").predict(image, probabilities=True)
        for source in (whole, tmp_path / "model.safetensors")
    )
    assert run.mask.shape == (70, 90)
    np.testing.assert_allclose(run.probabilities.sum(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(run.probabilities, published.probabilities)
