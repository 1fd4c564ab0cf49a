"""Tests the tools with classifier configs, through their command lines."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from page_checks import check_page
from PIL import Image
from refusals import assert_error_line
from run_command import run_tool
from safetensors.torch import save_file

from vil_dense.mm.datasets.seeding import StepSeedHook
from vil_dense.mm.utils.safe_load import read_weights
from vil_dense.mm.visualization.browse import SIDE

ROOT = Path(__file__).parents[2]
CONFIG = "configs/vil_imagenet.py"
COLOURS = dict(red=(200, 40, 40), green=(40, 200, 40), blue=(40, 40, 200))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes noisy pictures of three colours, eight and two of each."""
    root, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                noise = rng.integers(-30, 30, (40, 48, 3))
                Image.fromarray((noise + colour).astype(np.uint8)).save(root / split / name / f"{n}.png")
    return root


def options(data: Path | str, *more: str) -> list[str]:
    """Returns options of a classifier of two blocks on 64 px of `data`, three epochs of six steps, no workers."""
    return [
        "--cfg-options",
        "model.num_classes=3",
        "model.dim=32",
        "model.depth=2",
        "model.drop_path=0.3",
        "model.grid=(4,4)",
        "train_dataloader.dataset.pipeline.2.size=64",
        "val_dataloader.dataset.pipeline.1.size=64",
        "test_dataloader.dataset.pipeline.1.size=64",
        "train_dataloader.batch_size=4",
        "auto_scale_lr.base_batch_size=4",
        "train_cfg.max_epochs=3",
        "compile_blocks=False",
        "train_cfg.val_interval=1",
        "param_scheduler.0.warmup=1",
        "default_hooks.checkpoint.interval=1",
        "default_hooks.logger.interval=1",
        *(f"{split}_dataloader.dataset.data_root={data}" for split in ("train", "val", "test")),
        *(f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")),
        *(f"{split}_dataloader.persistent_workers=False" for split in ("train", "val", "test")),
        *more,
    ]


def run(tool: str, *args: object, code: int = 0) -> str:
    """Runs a command line that ends with the exit code `code`, and returns its stderr."""
    done = run_tool(tool, *args)
    assert done.returncode == code, done.stderr
    return done.stderr


def log(work_dir: Path) -> str:
    """Returns the log of the latest run."""
    return max(work_dir.glob("*/*.log")).read_text()


def said(out: str, key: str) -> list[str]:
    """Returns what a log says after `key: `."""
    return [line.split(f"INFO - {key}: ")[1] for line in out.splitlines() if f"INFO - {key}: " in line]


def losses(work_dir: Path) -> dict[int, float]:
    rows = [
        json.loads(line)
        for file in sorted(work_dir.glob("*/vis_data/scalars.json"))
        for line in file.read_text().splitlines()
    ]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("work")
    run("train", CONFIG, "--work-dir", work_dir, *options(data))
    return work_dir


def test_training_says_and_leaves_what_it_should(trained: Path):
    out = log(trained)
    assert "Scaling the original LR by 1.0" in out
    assert said(out, "precision") == [
        "float32, mixed precision was asked for but needs a GPU (--amp: bfloat16 on the CPU)"
    ]
    assert said(out, "start") == ["random weights, none pretrained"]
    assert said(out, "checkpoint") == [str(trained / "epoch_3.pth")]
    (result,) = said(out, "result")
    with (trained / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["blue", "green", "red"] and {row["pictures"] for row in rows} == {"2"}
    assert float(result.removeprefix("top1 ")) == pytest.approx(np.mean([float(row["top1"]) for row in rows]), abs=0.01)
    assert (trained / "pictures/curves.png").stat().st_size > 0 and "eta: " in out
    assert len(losses(trained)) == 18
    page = check_page(trained / "report.html")
    assert f"{result.removeprefix('top1 ')} top-1, %" in page.text and "3 classes" in page.text
    assert len(page.all("svg")) == 3 and "Confusion matrix" in page.text


def test_test(trained: Path, data: Path, tmp_path: Path):
    """Expects the same accuracy from the run's checkpoint and from its network alone, as safetensors."""
    net = {key.removeprefix("net."): value for key, value in read_weights(str(trained / "epoch_3.pth")).items()}
    save_file(net, tmp_path / "net.safetensors")
    for weights in (trained / "epoch_3.pth", tmp_path / "net.safetensors"):
        run("test", CONFIG, weights, "--work-dir", tmp_path / weights.stem, *options(data))
        assert said(log(tmp_path / weights.stem), "result") == said(log(trained), "result")
    run("test", trained, "--work-dir", tmp_path / "of_the_run", *options(data))
    assert said(log(tmp_path / "of_the_run"), "result") == said(log(trained), "result")
    assert_error_line(run("test", tmp_path / "none", code=2), tmp_path / "none", "no run")


@pytest.fixture
def interruptible():
    """Makes SIGINT interrupt, which a shell's background jobs begin with ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("number", "code", "start"), [(signal.SIGINT, 130, "epoch_1.pth"), (signal.SIGTERM, 75, "epoch_1_step_3.pth")]
)
def test_stopped_and_resumed_is_the_same_curve(
    number: int, code: int, start: str, trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Preempts in the second epoch: augmentation, mixing, stochastic depth, order go on as if nothing had happened."""
    seed_step = StepSeedHook.before_train_iter

    def stop(self: StepSeedHook, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter == 8:
            os.kill(os.getpid(), number)
        seed_step(self, runner, batch_idx, data_batch)

    with monkeypatch.context() as patch:
        patch.setattr(StepSeedHook, "before_train_iter", stop)
        run("train", CONFIG, "--work-dir", tmp_path, *options(data), code=code)
    time.sleep(1)  # MMEngine names the folder of a log by the second
    run("train", CONFIG, "--work-dir", tmp_path, "--resume", *options(data))
    assert said(log(tmp_path), "start") == [f"resumed from {tmp_path}/{start}"]
    whole, resumed = losses(trained), losses(tmp_path)
    assert list(resumed) == list(whole) and resumed == pytest.approx(whole, rel=1e-5)


def test_a_chosen_checkpoint_is_resumed(trained: Path, data: Path, tmp_path: Path):
    """Resumes, as MMEngine does, in another work folder."""
    start = trained / "epoch_2.pth"
    run("train", CONFIG, "--work-dir", tmp_path, *options(data), f"load_from={start}", "resume=True")
    assert said(log(tmp_path), "start") == [f"resumed from {start}"]
    assert losses(tmp_path) == {step: loss for step, loss in losses(trained).items() if step > 12}


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_curve(trained: Path, data: Path, tmp_path: Path):
    """Kills a process by SIGKILL; the rest is the same."""
    command = [sys.executable, "tools/train.py", CONFIG, "--work-dir", str(tmp_path), *options(data)]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and max(losses(tmp_path), default=0) < 8:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "ended before it could be killed"
    run("train", CONFIG, "--work-dir", tmp_path, "--resume", *options(data))
    whole, resumed = losses(trained), losses(tmp_path)
    assert list(resumed) == list(whole) and resumed == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        (["model.num_classes=4"], ("{data}/train", "3 classes", "num_classes=4")),
        (["train_dataloader.dataset.split=gone"], ("LabelledPictures", "{data}/gone")),
        (["load_from={other}"], ("{other}", "0 of ")),
        (["model.init_cfg.type=Pretrained", "model.init_cfg.checkpoint=none.th"], ("none.th",)),
    ],
    ids=["classes", "folder", "load_from", "init_cfg"],
)
def test_train_refuses(more: list[str], names: tuple[str, ...], data: Path, tmp_path: Path):
    other = tmp_path / "other.pth"
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), other)
    more = [option.format(other=other) for option in more]
    err = run("train", CONFIG, "--work-dir", tmp_path, *options(data, *more), code=2)
    assert_error_line(err, *(name.format(data=data, other=other) for name in names))


def test_a_broken_picture_is_named(data: Path, tmp_path: Path):
    copytree(data, tmp_path / "data")
    broken = tmp_path / "data/train/red/broken.png"
    broken.write_bytes((data / "train/red/0.png").read_bytes()[:500])
    err = run("train", CONFIG, "--work-dir", tmp_path / "work", *options(tmp_path / "data"), code=1)
    assert_error_line(err, broken)


def test_a_batch_is_shown(data: Path, tmp_path: Path):
    run("browse_dataset", CONFIG, "--out", tmp_path / "sheets", "--number", "4", *options(data))
    seen = np.asarray(Image.open(tmp_path / "sheets/sheet_000.png"))
    columns = [seen[8 : 8 + SIDE, 8 + stage * (SIDE + 8) :][:, :SIDE] for stage in range(3)]
    assert all(picture.std() > 10 for picture in columns)  # as tested, augmented, mixed
    assert (columns[0] != columns[1]).any() and (columns[1] != columns[2]).any()


def test_work_that_fails_ends_in_one_line(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object, **options: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("vil_dense.mm.evaluation.probe.knn_scores", fail)
    err = run("studies/probe", CONFIG, "none", "--knn", "--work-dir", tmp_path, *options(data), code=1)
    assert_error_line(err, "Cannot allocate memory")
