"""Tests the configs of a bundle by MONAI's `ConfigWorkflow` and by the checks of its model zoo."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bundle_cases import WARNINGS, small_bundle, write_boxes
from monai.bundle import ConfigWorkflow

pytestmark = [*WARNINGS, pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")]
ZOO = "MONAI_MODEL_ZOO"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written") / "bundle"
    small_bundle(out)
    return out


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (("train",), "train"),
        (("train", "evaluate"), "train"),
        (("train", "evaluate"), "eval"),
        (("inference",), "infer"),
    ],
)
def test_the_properties_that_monai_asks_for(files: tuple[str, ...], kind: str, bundle: Path, tmp_path: Path) -> None:
    data = write_boxes(tmp_path, 6)
    workflow = ConfigWorkflow(
        config_file=[str(bundle / f"configs/{name}.json") for name in files],
        workflow_type=kind,
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(data / "imagesTr" if kind == "infer" else data),
        cache_rate=0.0,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.version == "0.1.0"


@pytest.mark.slow
def test_the_check_of_monais_model_zoo(bundle: Path, tmp_path: Path) -> None:
    """Runs `ci/verify_bundle.py` of a clone of github.com/Project-MONAI/model-zoo, in all modes."""
    zoo = os.environ.get(ZOO)
    if not zoo or not Path(zoo, "ci/verify_bundle.py").is_file():
        pytest.skip(f"set {ZOO} to the folder of a clone of Project-MONAI/model-zoo for its checks")
    models = tmp_path / "models"
    shutil.copytree(bundle, models / "small")
    (models / "model_info.json").write_text("{}")
    (models / "small/eval").mkdir()
    shutil.copy(bundle / "configs/schema.json", models / "small/eval/schema.json")  # or it would be downloaded
    command = [sys.executable, "ci/verify_bundle.py", "-b", "small", "-p", str(models), "-m", "full"]
    done = subprocess.run(command, cwd=zoo, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "Provided TorchScript module is verified correctly." in done.stdout
