"""Tests reports of a real run in a real browser: a phone and a desktop, light and dark, nothing in the console."""

from pathlib import Path

import numpy as np
import pytest
from browser import chromium, measure, screenshot
from page_checks import check_page
from run_command import run_command
from small_runs import NETWORK, as_words

from vil_dense.synthetic.scenes import write_sample

pytestmark = pytest.mark.slow
STEPS = {"train_cfg.max_iters": 6, "train_cfg.val_interval": 2, "default_hooks.logger.interval": 1}
TINY = " ".join(as_words({**NETWORK, **STEPS, "train_dataloader.batch_size": 2}))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns pages of a training, a test and a comparison, by kind."""
    chromium()
    folder = tmp_path_factory.mktemp("reports")
    sample = write_sample(folder / "sample", train=4, val=14)
    loaders = [f"{split}_dataloader" for split in ("train", "val", "test")]
    data = " ".join(
        f"{loader}.dataset.data_root={sample} {loader}.num_workers=0 {loader}.persistent_workers=False"
        for loader in loaders
    )
    config = "configs/vil_upernet_sample.py"
    lines = [
        *(
            f"train {config} --work-dir {folder / name} --cfg-options {TINY} {data} randomness.seed={seed}"
            for seed, name in enumerate(("training", "other"))
        ),
        f"test {config} {folder / 'training/iter_6.pth'} --work-dir {folder / 'test'} --cfg-options {TINY} {data}",
        f"compare_runs {folder / 'training'} {folder / 'other'} --out {folder / 'comparison'}",
    ]
    with pytest.MonkeyPatch.context() as patch:
        for line in lines:
            assert run_command(line, patch) == 0
    return {name: folder / name / "report.html" for name in ("training", "test", "comparison")}


@pytest.mark.parametrize("kind", ["training", "test", "comparison"])
@pytest.mark.parametrize("width", [360, 1280])
def test_page_fits_the_screen(kind: str, width: int, reports: dict[str, Path], tmp_path: Path) -> None:
    page = check_page(reports[kind])
    found = measure(reports[kind], tmp_path, width)
    assert found["wide"] == [] and found["width"] <= width and found["requests"] == []
    assert found["images"] == len(page.all("img")) >= dict(training=48, test=48, comparison=16)[kind]
    assert found["curves"] == dict(training=9, test=0, comparison=10)[kind]


@pytest.mark.parametrize("kind", ["training", "test", "comparison"])
def test_light_and_dark(kind: str, reports: dict[str, Path], tmp_path: Path) -> None:
    """Tests that the page takes the reader's scheme, and that its text stands out from the ground in both."""
    for dark in (False, True):
        seen = screenshot(reports[kind], tmp_path, 1280, 800, dark).astype(int).sum(-1)
        ground = np.bincount(seen.ravel()).argmax()
        assert (ground < 200) == dark
        contrast = np.abs(seen - ground)
        assert contrast.max() > 500 and (contrast > 300).mean() > 0.002
