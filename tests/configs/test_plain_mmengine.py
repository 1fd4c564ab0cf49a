"""Tests that every file of configs/ builds model, evaluators and data sets with MMEngine and `custom_imports` alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from config_files import EXPERIMENTS, PICTURES, VOLUME_PRETRAINING, VOLUMES
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS, init_default_scope

from vil_dense.medical.data.plan import make_plan
from vil_dense.medical.data.plan_sizes import Target
from vil_dense.medical.datalists.datalist import read_datalist
from vil_dense.synthetic import scenes, volumes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the synthetic samples, and with a user's volumes and their plan."""
    folder = tmp_path_factory.mktemp("plain")
    scenes.write_sample(folder / "data/sample", train=2, val=1)
    phantom = volumes.write_sample(folder / "data/phantom", train=3, val=1)
    (folder / "data/volumes").symlink_to(phantom)
    (folder / "plan.json").write_text(json.dumps(make_plan(read_datalist(phantom), target=Target(patch_vox=16**3))))
    return folder


@pytest.fixture(scope="module")
def built(folder: Path) -> dict[str, dict]:
    """Returns the report on all configs: those of volumes are last, as their `custom_imports` import more."""
    file = folder / "report.json"
    paths = PICTURES + VOLUMES + VOLUME_PRETRAINING
    command = [sys.executable, Path(__file__).with_name("build_plainly.py"), file, *paths]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(file.read_text())


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_builds(path: Path, built: dict[str, dict]) -> None:
    assert "error" not in built[str(path)], built[str(path)]["error"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("vil_upernet_sample", ["EncoderDecoder", "SampleDataset", *["ClassIoUMetric", "SampleDataset"] * 2]),
        ("vil_unet3d_sample", ["VolumeSegmentor", "VolumeDataset", *["VolumeMetric", "VolumeDataset"] * 2]),
        ("vil_unet3d_volumes", ["VolumeSegmentor", "VolumeDataset", *["VolumeMetric", "VolumeDataset"] * 2]),
        ("vil-unet3d_40k_btcv", ["VolumeSegmentor", *["VolumeMetric"] * 2]),  # whose data are not here
    ],
)
def test_what_is_built(name: str, parts: list[str], built: dict[str, dict]) -> None:
    (report,) = (report for path, report in built.items() if Path(path).stem == name)
    assert report["parts"] == parts


def test_a_plan_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that the error of each part names the command that makes the plan."""
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(ROOT / "configs/vil_unet3d_volumes.py")
    init_default_scope(cfg.default_scope)
    sentence = r"no plan at plan\.json; make one: python tools/volumes/plan\.py DATA --out plan\.json"
    for registry, part in (
        (MODELS, cfg.model),
        (DATASETS, cfg.train_dataloader.dataset),
        (METRICS, cfg.val_evaluator),
    ):
        with pytest.raises(FileNotFoundError, match=sentence):
            registry.build(part)
