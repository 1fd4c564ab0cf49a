"""Tests several processes: the same losses as one, on CPUs with gloo; statistics of SyncBN."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_torchrun import NEEDS_GLOO, ROOT, TORCHRUN, lines_of_processes, run_torchrun

from vil_dense.mm.utils.safe_load import load_safely
from vil_dense.synthetic.scenes import write_sample

pytestmark = NEEDS_GLOO
SEGMENTOR = """
_base_ = "{root}/configs/vil_upernet_sample.py"
norm_cfg = dict(type="GN", num_groups=4)
loss = dict(avg_non_ignore=False)
feature_maps = [32, 32, 32, 32]
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(variant="vil-large", dim=32, depth=2, patch_size=16, grid=(4, 4), out_indices=(0, 0, 1, 1)),
    neck=dict(embed_dim=32, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(in_channels=feature_maps, channels=16, norm_cfg=norm_cfg, loss_decode=loss),
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
# With Adam's usual eps, gradients that are nearly zero move weights by the sign of their rounding.
optim_wrapper = dict(optimizer=dict(eps=1e-4))
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
    start = [*TORCHRUN, str(processes)] if processes > 1 else [sys.executable]
    command = [*start, "tools/train.py", str(config)]
    command += ["--work-dir", str(folder / "run"), *(["--launcher", "pytorch"] if processes > 1 else []), *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def losses(folder: Path) -> torch.Tensor:
    """Returns the loss of every step that a run logged."""
    rows = [
        json.loads(row)
        for file in sorted((folder / "run").glob("*/vis_data/scalars.json"))
        for row in file.read_text().splitlines()
    ]
    by_step = {row["step"]: row["loss"] for row in rows if "loss" in row}
    return torch.tensor([by_step[step] for step in sorted(by_step)], dtype=torch.float64)


def checkpoint(folder: Path) -> dict:
    return load_safely((folder / "run/last_checkpoint").read_text())


@pytest.fixture(scope="module")
def alone(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a run of one process with four pictures a step."""
    folder = tmp_path_factory.mktemp("alone")
    train(folder, SEGMENTOR.format(root=ROOT, data=sample, batch=4), 1)
    return folder


def assert_same_run(folder: Path, other: Path, steps: int = 6) -> None:
    expected = losses(other)
    assert len(expected) == steps and expected[0] - expected[-1] > 0.01, "the run must move"
    torch.testing.assert_close(losses(folder), expected, rtol=0, atol=1e-5)
    own, theirs = checkpoint(folder)["state_dict"], checkpoint(other)["state_dict"]
    assert list(own) == list(theirs)
    for name, value in own.items():
        torch.testing.assert_close(
            value, theirs[name], rtol=0, atol=5e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
def test_two_processes_are_one_for_upernet(alone: Path, sample: Path, tmp_path: Path):
    printed = train(tmp_path, SEGMENTOR.format(root=ROOT, data=sample, batch=2), 2)
    assert "processes: 2 x 2 a step, by gloo; losses are their mean" in printed
    assert_same_run(tmp_path, alone)


CLASSIFIER = """
_base_ = "{root}/configs/camvid/vil2-6x64_8e_camvid-crops-96.py"
model = dict(dim=32, depth=2, num_classes=3, grid=(3, 3))
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root="{data}"))
train_dataloader = dict(loader, batch_size={batch})
val_dataloader = loader
test_dataloader = loader
param_scheduler = []
optim_wrapper = dict(optimizer=dict(lr=5e-3))
train_cfg = dict(max_epochs=2, val_interval=2)
log_processor = dict(window_size=1)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.mark.slow
def test_two_processes_are_one_for_a_classifier(tmp_path: Path):
    """Trains with augmentation, which is keyed by sample."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for shade, name in enumerate(("dark", "light", "loud")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(70 * shade, 70 * shade + 80, (60, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{index}.png")
    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
        text = CLASSIFIER.format(root=ROOT, data=tmp_path / "data", batch=4 // processes)
        train(tmp_path / str(processes), text, processes)
    assert_same_run(tmp_path / "2", tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize(("picture", "end"), [(3, "step 4, iter_4.pth"), (15, "step 4, iter_5.pth")])
def test_both_end_in_a_validation_when_one_is_told_to(picture: int, end: str, tmp_path: Path):
    """Tests that, where only one has pictures left, both end after the next step."""
    done = run_torchrun("tests/mm/engine/stop_in_validation.py", tmp_path, picture)
    assert lines_of_processes(done) == [f"process {rank}: code 75, {end}" for rank in range(2)], (
        done.stdout + done.stderr
    )


LEAVING = """
import atexit, os, sys
from vil_dense.mm.engine.distributed import clean_exit

class Late:
    def __del__(self):
        os.write(1, b"ended\\n")

late, os.environ["WORLD_SIZE"] = Late(), sys.argv[1]
atexit.register(print, "at exit")
with clean_exit():
    print("said")
    sys.exit(75)
"""


@pytest.mark.parametrize(
    ("processes", "said"),
    [("2", ["said", "at exit"]), pytest.param("1", ["said", "at exit", "ended"], marks=pytest.mark.slow)],
)
def test_of_several_processes_none_ends_the_interpreter(processes: str, said: list[str]):
    command = [sys.executable, "-u", "-c", LEAVING, processes]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-len(said) :]) == (75, said), done.stdout + done.stderr
