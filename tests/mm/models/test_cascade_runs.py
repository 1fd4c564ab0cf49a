"""Tests a segmentor of several decode heads through the commands: it trains, is published and exported."""

from pathlib import Path

import numpy as np
import pytest
from run_command import run_command
from small_runs import CROP, write_config

from vil_dense.mm import Segmentor

CASCADE = """
head = dict(in_channels=32, channels=16, num_classes=12, norm_cfg=dict(type="BN"), align_corners=False)
model.update(
    type="CascadeEncoderDecoder",
    num_stages=2,
    auxiliary_head=None,
    decode_head=[
        dict(head, type="FCNHead", in_index=0, num_convs=1),
        dict(head, type="OCRHead", in_index=0, ocr_channels=16),
    ],
)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cascade")
    config = write_config(folder)
    with config.open("a") as file:
        file.write(CASCADE)
    with pytest.MonkeyPatch.context() as patch:
        assert run_command(f"train {config} --work-dir {folder}/run --cfg-options {CROP}", patch) == 0
    return folder / "run"


def mask_of(source: Path) -> np.ndarray:
    """Returns the mask of a picture of noise."""
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    return Segmentor.load(source, device="cpu", whole=True).predict(image).mask


def test_a_cascade_is_trained_and_published(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ViL and OCRHead" in (run / "report.html").read_text()
    assert run_command(f"publish_model {run} --out {tmp_path}", monkeypatch) == 0
    assert "OCRHead" in (tmp_path / "README.md").read_text()
    np.testing.assert_array_equal(mask_of(tmp_path), mask_of(run))


@pytest.mark.slow
def test_a_cascade_is_exported(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(f"export_onnx {run} --out {tmp_path}/model.onnx", monkeypatch) == 0
    assert (mask_of(tmp_path / "model.onnx") == mask_of(run)).mean() > 0.99
