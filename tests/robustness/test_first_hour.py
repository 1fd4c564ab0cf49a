"""Spends a first hour with one's own pictures, by the commands of README: each way to predict gives the same masks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from picture_folders import CODINGS, LAYOUTS, write_folder
from PIL import Image
from run_command import run_command
from small_runs import NETWORK, as_words

from vil_dense.mm import Segmentor

CONFIG = "configs/vil_upernet_images.py"
SMALL = " ".join(as_words(NETWORK)) + (
    " train_cfg.max_iters=30 train_cfg.val_interval=15 train_dataloader.batch_size=4 "
    "default_hooks.checkpoint.interval=15 train_dataloader.num_workers=0 val_dataloader.num_workers=0"
)
ALONE = """
import sys, numpy as np
from PIL import Image
from vil_dense.mm import Segmentor
image = np.asarray(Image.open(sys.argv[2]).convert("RGB"))
np.save(sys.argv[3], Segmentor.load(sys.argv[1]).predict(image).mask)
"""
"""Predicts an array in a process that has no config and no checkout beside it."""

FIRST_HOURS = list(zip(("splits below", "splits above", "lists", "voc", "flat"), CODINGS, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "coding"), FIRST_HOURS)
def test_each_way_to_predict_gives_the_same_mask(
    layout: str, coding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trains, reports, publishes, predicts from Python in another folder, exports, and predicts by ONNX Runtime."""
    assert layout in LAYOUTS
    data, run = write_folder(tmp_path / "data", layout, coding), tmp_path / "run"
    broken = next(path for path in data.rglob("*") if path.stem.startswith("p4"))
    picture = next(path for path in data.rglob("*.png") if path.stem.startswith("q") or path.stem.startswith("p3"))
    if layout not in ("lists", "voc"):  # pairs that a list names must be sound
        broken.write_bytes(b"no picture")
    assert run_command(f"train {CONFIG} --work-dir {run} --cfg-options data_root={data} {SMALL}", monkeypatch) == 0
    assert list(run.rglob("report.html"))
    published, onnx, picture = tmp_path / "model.safetensors", tmp_path / "model.onnx", tmp_path / "new.png"
    noise = np.random.default_rng(1).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture)
    assert run_command(f"publish_model {run} --out {published}", monkeypatch) == 0
    assert run_command(f"export_onnx {published} --out {onnx}", monkeypatch) == 0
    expected = Segmentor.load(run).predict(picture).mask
    for number, model in enumerate((run, published, onnx)):
        out = tmp_path / f"out{number}"
        assert run_command(f"predict {model} {picture} --out {out}", monkeypatch) == 0
        written = np.asarray(Image.open(out / "labels/new.png"))
        np.testing.assert_array_equal(written, expected)
    command = [sys.executable, "-c", ALONE, str(published), str(picture), str(tmp_path / "alone.npy")]
    subprocess.run(command, cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "alone.npy"), expected)
