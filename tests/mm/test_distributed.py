"""Several processes: the same losses as one, on CPUs with gloo; sharded weights; statistics of SyncBN."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vil_dense.mm.safe_load import load_safely
from vil_dense.mm.scenes import write_sample

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")

SEGMENTOR = """
_base_ = "{root}/configs/vil_upernet_sample.py"
norm_cfg = dict(type="GN", num_groups=4)
loss = dict(avg_non_ignore=False)
taps = [32, 32, 32, 32]
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(variant="vil-large", dim=32, depth=2, patch_size=16, grid=(4, 4), out_indices=(0, 0, 1, 1)),
    decode_head=dict(in_channels=taps, channels=16, norm_cfg=norm_cfg, loss_decode=loss),
    auxiliary_head=dict(in_channels=32, channels=16, norm_cfg=norm_cfg, loss_decode=loss),
)
train_dataloader = dict(
    batch_size={batch},
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root="{data}",
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="Resize", scale=(64, 64), keep_ratio=False),
            dict(type="PackSegInputs"),
        ],
    ),
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root="{data}"))
test_dataloader = val_dataloader
param_scheduler = []
train_cfg = dict(max_iters=6, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=6), logger=dict(interval=1))
log_processor = dict(window_size=1)
randomness = dict(seed=0, diff_rank_seed=False)
custom_hooks = []
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"), train=8, val=1)


def environment() -> dict[str, str]:
    return dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))


def train(folder: Path, text: str, processes: int, *options: str) -> str:
    """Trains a config of `text` in `folder`; what was printed."""
    config = folder / "config.py"
    config.write_text(text)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), "tools/train.py", str(config)]
    command += ["--work-dir", str(folder / "run"), *(["--launcher", "pytorch"] if processes > 1 else []), *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def losses(folder: Path) -> torch.Tensor:
    """The loss of every step that a run logged."""
    rows = [
        json.loads(row)
        for file in sorted((folder / "run").glob("*/vis_data/scalars.json"))
        for row in file.read_text().splitlines()
    ]
    by_step = {row["step"]: row["loss"] for row in rows if "loss" in row}
    return torch.tensor([by_step[step] for step in sorted(by_step)], dtype=torch.float64)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_safely(str(folder / "run/iter_6.pth"))["state_dict"]


@pytest.fixture(scope="module")
def alone(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process with four pictures a step."""
    folder = tmp_path_factory.mktemp("alone")
    train(folder, SEGMENTOR.format(root=ROOT, data=sample, batch=4), 1)
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    expected = losses(other)
    assert len(expected) == 6 and expected[0] - expected[-1] > 0.01, "the run must move"
    torch.testing.assert_close(losses(folder), expected, rtol=0, atol=1e-5)
    own, theirs = weights(folder), weights(other)
    assert list(own) == list(theirs)
    for name, value in own.items():
        torch.testing.assert_close(
            value, theirs[name], rtol=0, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_processes_are_one_for_upernet(alone: Path, sample: Path, tmp_path: Path):
    printed = train(tmp_path, SEGMENTOR.format(root=ROOT, data=sample, batch=2), 2)
    assert "processes: 2 x 2 a step, by gloo; losses are their mean" in printed
    assert_same_run(tmp_path, alone)


def test_sharded_processes_are_one_and_leave_a_whole_checkpoint(alone: Path, sample: Path, tmp_path: Path):
    text = SEGMENTOR.format(root=ROOT, data=sample, batch=2) + 'runner_type = "ShardedRunner"\n'
    printed = train(tmp_path, text, 2)
    here, whole = (
        int(number.replace(",", "")) for number in re.search(r"sharded: (\S+) of (\S+) par", printed).groups()
    )
    assert whole == sum(p.numel() for n, p in weights(alone).items()) and here < 0.6 * whole
    assert_same_run(tmp_path, alone)
    own, theirs = (load_safely(str(folder / "run/iter_6.pth"))["optimizer"] for folder in (tmp_path, alone))
    assert list(own["state"]) == list(theirs["state"])
    for index, state in own["state"].items():
        for name, value in state.items():
            torch.testing.assert_close(value, theirs["state"][index][name], rtol=1e-3, atol=1e-4)
