"""Tests that classifiers start at the frequencies of the classes, and only in a training from scratch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from run_command import run_command
from small_runs import write_config

from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.engine.hooks.class_prior import ClassPriorHook
from vil_dense.mm.utils.safe_load import load_safely

HEADS = ("decode_head", "auxiliary_head")


def bias(path: Path, head: str) -> torch.Tensor:
    return load_safely(str(path))["state_dict"][f"{head}.conv_seg.bias"]


def test_biases_are_those_of_the_labels_and_stay_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains with a rate of 0, so that the biases are the initial ones; then resumes, and starts with the weights."""
    config, run = write_config(tmp_path), tmp_path / "run"
    cfg = Config.fromfile(config)
    cfg.train_dataloader.dataset.pipeline[3].crop_size = (64, 64)
    cfg.custom_hooks.append(dict(type="ClassPriorHook"))
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.dump(config)
    assert run_command(f"train {config} --work-dir {run}", monkeypatch) == 0

    init_default_scope("mmseg")
    dataset = DATASETS.build(Config.fromfile(run / "config.py").train_dataloader.dataset)
    labels = [dataset[SampleKey(index, 0)]["data_samples"].gt_sem_seg.data.numpy() for index in range(len(dataset))]
    counts = np.bincount(np.concatenate([label[label != 255] for label in labels]), minlength=12)
    for head in HEADS:
        expected = torch.from_numpy(np.log((counts + 1) / (counts + 1).sum())).float()
        torch.testing.assert_close(bias(run / "iter_2.pth", head), expected)

    changed = load_safely(str(run / "iter_2.pth"))
    for head in HEADS:
        changed["state_dict"][f"{head}.conv_seg.bias"].fill_(0.25)
    torch.save(changed, run / "iter_2.pth")
    torch.save(changed["state_dict"], tmp_path / "weights.pth")
    assert (
        run_command(f"train {config} --work-dir {run} --resume --cfg-options train_cfg.max_iters=3", monkeypatch) == 0
    )
    assert bias(run / "iter_3.pth", HEADS[0]).eq(0.25).all()
    weights = tmp_path / "weights.pth"
    for start in (f"load_from={weights}", f"model.init_cfg.type=Pretrained model.init_cfg.checkpoint={weights}"):
        other = tmp_path / start.partition("=")[0]
        assert run_command(f"train {config} --work-dir {other} --cfg-options {start}", monkeypatch) == 0
        assert bias(other / "iter_2.pth", HEADS[0]).eq(0.25).all()


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples is a whole number from 1 on, got 0"):
        ClassPriorHook(samples=0)
