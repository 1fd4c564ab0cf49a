"""Tests the tools through their command lines: train, resume, test, predict; mistakes told in one sentence."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from page_checks import check_page
from PIL import Image
from refusals import assert_error_line
from run_command import run_tool as run
from small_runs import NETWORK, as_words, data_options

from vil_dense.mm.utils.safe_load import load_safely, weights_of
from vil_dense.synthetic.scenes import PALETTE, write_sample

ROOT = Path(__file__).parents[2]
CONFIG = "configs/vil_upernet_sample.py"
TINY = as_words(NETWORK)
SHORT = (
    "train_cfg.max_iters=4",
    "train_cfg.val_interval=4",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
    "train_dataloader.batch_size=2",
)


def data(root: Path | str) -> list[str]:
    return as_words(data_options(root))


def run_process(tool: str, *args: object) -> subprocess.CompletedProcess:
    """Runs a tool as a user does, in a process of its own."""
    command = [sys.executable, f"tools/{tool}.py", *map(str, args)]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def lines(done: subprocess.CompletedProcess, key: str) -> list[str]:
    """Returns what the log says after `key: `."""
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split(f"INFO - {key}: ")[1] for line in done.stdout.splitlines() if f"INFO - {key}: " in line]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"), train=4, val=2)


@pytest.fixture(scope="module")
def trained(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """Returns a work folder after four steps, and what the command printed."""
    work_dir = tmp_path_factory.mktemp("work")
    return work_dir, run_process(
        "train", CONFIG, "--work-dir", work_dir, "--amp", "--cfg-options", *TINY, *SHORT, *data(sample)
    )


@pytest.fixture(scope="module")
def checkpoint(trained: tuple[Path, subprocess.CompletedProcess]) -> Path:
    return trained[0] / "iter_4.pth"


def test_training_ends_with_metric_checkpoint_and_pictures(trained: tuple[Path, subprocess.CompletedProcess]):
    work_dir, done = trained
    (result,) = lines(done, "result")
    assert result.startswith("mIoU ") and result.endswith("(own size, whole picture)")
    assert lines(done, "checkpoint") == [str(work_dir / "iter_4.pth")]
    assert lines(done, "pictures") == [str(work_dir / "pictures")]
    assert lines(done, "norm of neck and heads") == ["GN (1 x 2 pictures a step)"]
    assert lines(done, "precision") == ["bfloat16 on the CPU, weights and mLSTM in float32"]
    assert lines(done, "start") == ["random weights, none pretrained"]
    assert "eta: " in done.stdout


def test_the_screen_shows_the_facts_of_a_run_first(trained: tuple[Path, subprocess.CompletedProcess]):
    """Tests that what MMEngine dumps goes to the log file only, and that imports say nothing."""
    _, done = trained
    said = done.stdout.splitlines()
    first_step = next(number for number, line in enumerate(said) if "Iter(train)" in line)
    assert first_step < 50
    (log,) = lines(done, "log")
    written = Path(log).read_text()
    for dump in ("System environment:", "Config:", "Hooks will be executed", "will be deprecated in future"):
        assert dump not in done.stdout and dump in written
    facts = ("start", "norm of neck and heads", "neck", "precision", "memory")
    assert all(any(f" - INFO - {fact}: " in line for line in said[:first_step]) for fact in facts)
    assert "OneDL" not in done.stdout and "MultiScaleDeformableAttention" not in done.stderr


def test_pictures_of_a_training(trained: tuple[Path, subprocess.CompletedProcess]):
    work_dir, done = trained
    assert sorted(path.name for path in (work_dir / "pictures").iterdir()) == [
        "confusion.csv",
        "curves.png",
        "label_maps.zip",
        "panels.png",
        "per_class.csv",
        "per_image.csv",
        "result.json",
    ]
    panels = np.asarray(Image.open(work_dir / "pictures/panels.png"))
    assert panels.shape[1] > 3 * 64 and panels.std() > 0
    with (work_dir / "pictures/per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    mean = np.nanmean([float(row["IoU"]) for row in rows])
    assert len(rows) == 12 and abs(float(lines(done, "result")[0].split()[1].strip(",")) - mean) < 0.02


def test_report_of_a_training(trained: tuple[Path, subprocess.CompletedProcess]):
    """Tests that the page has the result, the command, a chart with the loss, the classes and the pictures."""
    work_dir, done = trained
    assert lines(done, "report") == [str(work_dir / "report.html")]
    page = check_page(work_dir / "report.html")
    shown = lines(done, "result")[0].split()[1].strip(",")
    assert f"{shown} mIoU, %" in page.text and "trained for 4 steps of 2 crops on SampleDataset (4 samples" in page.text
    assert f"python tools/train.py {CONFIG} --work-dir {work_dir}" in page.text
    assert f"python tools/test.py {work_dir / 'vil_upernet_sample.py'} {work_dir / 'iter_4.pth'}" in page.text
    charts = [svg["aria-label"] for svg in page.all("svg")]
    assert "Loss against step: training, all heads, training, decode head, validation, cross-entropy" in charts
    assert len(charts) == 4 and len(page.all("img")) == 2 * 4  # picture, truth, prediction and errors
    for section in ("Classes", "Confusion matrix", "Pictures", "Run", "Files", "Environment"):
        assert section in page.text
    with (work_dir / "pictures/per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["validation_00000.jpg", "validation_00001.jpg"]
    with (work_dir / "pictures/confusion.csv").open() as file:
        confusion = [[int(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
    assert np.shape(confusion) == (12, 12)
    right = 100 * np.trace(confusion) / np.sum(confusion)
    assert f"aAcc {right:.2f}" in lines(done, "result")[0]


def test_resume(trained: tuple[Path, subprocess.CompletedProcess], sample: Path):
    work_dir, _ = trained
    longer = [option for option in SHORT if "max_iters" not in option] + ["train_cfg.max_iters=6"]
    done = run("train", CONFIG, "--work-dir", work_dir, "--resume", "--cfg-options", *TINY, *longer, *data(sample))
    assert lines(done, "start") == [f"resumed from {work_dir / 'iter_4.pth'}"]
    assert lines(done, "norm of neck and heads") == ["GN (as in the checkpoint)"]
    assert lines(done, "checkpoint") == [str(work_dir / "iter_6.pth")]
    steps = [
        json.loads(row)["step"]
        for file in work_dir.glob("*/vis_data/scalars.json")
        for row in file.read_text().splitlines()
    ]
    assert {1, 4, 5, 6} <= set(steps)


@pytest.mark.parametrize("protocol", ["own", "multiscale"])
def test_test(protocol: str, checkpoint: Path, sample: Path, tmp_path: Path):
    choice = [] if protocol == "own" else ["--tta"]
    folders = ["--work-dir", tmp_path, "--out", tmp_path / "labels", "--show-dir", tmp_path / "seen"]
    done = run("test", CONFIG, checkpoint, *choice, *folders, "--cfg-options", *TINY, *data(sample))
    page = check_page(tmp_path / "report.html")
    assert "tested on SampleDataset (2 samples, 12 classes)" in page.text and f"tools/test.py {CONFIG}" in page.text
    assert ("cross-entropy" in page.text.partition("Curves")[0]) == (protocol == "own")  # no logits with augmentation
    words = dict(own="own size, whole picture", multiscale="0.75 to 1.75 times the own size with flips, whole picture")
    assert lines(done, "result")[0].endswith(f"({words[protocol]})")
    names = [path.stem for path in sorted((sample / "images/validation").iterdir())]
    for folder in ("labels", "seen"):
        assert [path.stem for path in sorted((tmp_path / folder).iterdir())] == names
    label = np.asarray(Image.open(tmp_path / f"labels/{names[0]}.png"))
    picture = np.asarray(Image.open(sample / f"images/validation/{names[0]}.jpg"))
    assert label.shape == picture.shape[:2] and label.min() >= 1 and label.max() <= 12
    assert (tmp_path / "per_class.csv").exists()


def test_predict(checkpoint: Path, sample: Path, tmp_path: Path):
    folder = sample / "images/validation"
    (tmp_path / "broken.jpg").write_bytes(next(folder.iterdir()).read_bytes()[:2000])
    out = tmp_path / "out"
    inputs = (folder, tmp_path / "broken.jpg")
    done = run("predict", CONFIG, checkpoint, *inputs, "--out", out, "--cfg-options", *TINY)
    assert done.returncode == 1, done.stdout + done.stderr
    assert_error_line(done.stderr, "1 of 3", tmp_path / "broken.jpg")
    assert done.stdout.splitlines()[-1] == f"2 pictures labelled in {out}" and "ETA" in done.stderr
    names = [f"{path.stem}.png" for path in sorted(folder.iterdir())]
    assert sorted(path.name for path in (out / "labels").iterdir()) == names
    assert sorted(path.name for path in (out / "overlays").iterdir()) == names
    picture, label, overlay = (
        np.asarray(Image.open(path)).astype(int)
        for path in (folder / names[0].replace("png", "jpg"), out / "labels" / names[0], out / "overlays" / names[0])
    )
    blended = (picture + np.array([(0, 0, 0), *PALETTE])[label]) // 2
    assert (overlay[:, : picture.shape[1]] == blended).all() and overlay.shape[1] > picture.shape[1]
    with Image.open(out / "labels" / names[0]) as shown:
        assert (np.asarray(shown.convert("RGB")) == np.array([(128, 128, 128), *PALETTE])[label]).all()


def test_predict_in_windows(checkpoint: Path, sample: Path, tmp_path: Path):
    picture = next((sample / "images/validation").iterdir())
    choice = ["--own-size", "--window", "48", "--stride", "32", "40", "--window-batch", "2"]
    done = run("predict", CONFIG, checkpoint, picture, "--out", tmp_path, *choice, "--cfg-options", *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "windows of 48 x 48 px\n" in done.stdout and "memory: about " in done.stdout and "ETA 0:00:00" in done.stderr
    label = np.asarray(Image.open(tmp_path / f"labels/{picture.stem}.png"))
    assert label.shape == np.asarray(Image.open(picture)).shape[:2]


def test_labels_are_the_same_from_weights_alone(checkpoint: Path, sample: Path, tmp_path: Path):
    """Tests that a checkpoint stripped of its data set's description still gives the data set's ids."""
    bare = tmp_path / "bare.pth"
    torch.save(dict(state_dict=weights_of(load_safely(str(checkpoint)))), bare)
    picture = next((sample / "images/validation").iterdir())
    for weights in (checkpoint, bare):
        done = run("predict", CONFIG, weights, picture, "--out", tmp_path / weights.stem, "--cfg-options", *TINY)
        assert done.returncode == 0, done.stdout + done.stderr
    labels = [next((tmp_path / weights.stem / "labels").iterdir()).read_bytes() for weights in (checkpoint, bare)]
    assert labels[0] == labels[1]


def test_a_checkpoint_that_would_run_code(sample: Path, tmp_path: Path):
    """Loads it in a process of its own, as a user would: refused in one line, and nothing ran."""
    source = f"import os; os.mkdir({str(tmp_path / 'sprung')!r})"
    trap = type("Trap", (), {"__reduce__": lambda self: (exec, (source,))})()
    path = tmp_path / "trap.pth"
    torch.save(dict(state_dict=trap), path)
    done = run_process("predict", CONFIG, path, sample / "images/validation", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert_error_line(done.stderr, path, "exec")
    assert not (tmp_path / "sprung").exists()
