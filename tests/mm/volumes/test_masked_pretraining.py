"""Tests masked pretraining of volumes: mask, loss, a plan and a run without labels, and weights that move on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from config_files import VOLUME_PRETRAINING
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from nifti_files import affine, write_nifti
from PIL import Image
from refusals import raises_one_line
from run_command import run_command
from volume_plans import small_plan

from vil_dense.medical.datalists.inputs import read_unlabelled
from vil_dense.mm.utils.safe_load import load_safely
from vil_dense.mm.volumes import MaskedVolumeModel, VolumeSegmentor

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")
PLAN = small_plan("organ", "other", patch_vox=(16, 16, 8))
SMALL = dict(type="ViLUNet3D", channels=(4, 8), depths=(0, 1), deep_supervision=1)
UNETR = dict(type="ViLUNETR3D", channels=(4,), dim=8, depth=4)


def build(network: dict = SMALL, **options) -> MaskedVolumeModel:
    torch.manual_seed(0)
    return MaskedVolumeModel(PLAN, dict(network), **{"cube_vox": 4, **options})


@pytest.mark.parametrize("network", [SMALL, UNETR], ids=lambda network: network["type"])
def test_the_loss_is_that_of_masked_voxels(network: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = build(network), torch.randn(2, 1, 16, 16, 8)
    torch.manual_seed(1)
    mask = model.draw_voxels(image)
    torch.manual_seed(1)
    loss = model(image, mode="loss")["loss"]
    assert mask.float().mean() == 0.75
    assert (mask.unfold(1, 4, 4).unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).float().var(-1) == 0).all()  # whole cubes
    prediction = model.network(image.masked_fill(mask[:, None], 0.0))
    torch.testing.assert_close(loss, (prediction - image)[mask[:, None]].square().mean())
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_cubes_at_the_end_are_cut() -> None:
    mask = build(cube_vox=(16, 8, 5)).draw_voxels(torch.zeros(1, 1, 20, 8, 8))
    assert mask.shape == (1, 20, 8, 8)


def test_refusals() -> None:
    with raises_one_line(ValueError, "'DynUNet'", "ViLUNet3D"):
        build(dict(type="DynUNet"))
    with raises_one_line(ValueError, "no classes"):
        VolumeSegmentor({**PLAN, "labels": dict(background=0)}, SMALL)


@pytest.mark.parametrize("path", VOLUME_PRETRAINING, ids=lambda path: path.stem)
def test_configs_build(path: Path) -> None:
    init_default_scope("mmengine")
    cfg = Config.fromfile(path)
    cfg.model.plan = {**PLAN, "patch_vox": (32, 32, 32)}
    with torch.device("meta"):
        assert isinstance(MODELS.build(cfg.model), MaskedVolumeModel)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes three volumes without labels, their plan, and the work folder of a pretraining of two steps."""
    folder = tmp_path_factory.mktemp("unlabelled")
    (folder / "volumes").mkdir()
    for n in range(3):
        noise = np.random.default_rng(n).normal(100, 20, (24, 20, 16)).astype(np.float32)
        write_nifti(folder / f"volumes/v{n}.nii.gz", noise, affine())
    (folder / "config.py").write_text(
        f'_base_ = ["{ROOT}/configs/pretrain/vil-unet3d_mae.py"]\n'
        "model = dict(cube_vox=4, network=dict(channels=(4, 8), depths=(0, 1)))\n"
        "train_cfg = dict(max_iters=2)\n"
        "default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))\n"
        "param_scheduler = []\n"
        f'data_root, plan = "{folder}/volumes", "{folder}/plan.json"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        plan = f"volumes/plan {folder}/volumes --unlabelled --out {folder}/plan.json --patch-budget 2048"
        assert run_command(plan, patch) == 0
        assert run_command(f"train {folder}/config.py --work-dir {folder}/whole", patch) == 0
    return folder


def test_the_plan_has_the_background_alone(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())["plan"]
    assert plan["labels"] == dict(background=0) and plan["channels"] == ["channel 0"]
    assert [case.label for case in read_unlabelled(folder / "volumes").cases] == [None] * 3


def test_the_run_draws_panels_and_resumes_equally(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = np.asarray(Image.open(folder / "whole/pictures/reconstructions_2.png"))
    assert panel.ndim == 3 and panel.max() == 255
    assert "<figcaption>reconstruction</figcaption>" in (folder / "whole/report.html").read_text()
    (folder / "cut").mkdir()
    shutil.copy(folder / "whole/iter_1.pth", folder / "cut")
    assert run_command(f"train {folder}/config.py --work-dir {folder}/cut --resume", monkeypatch) == 0
    ends = [load_safely(str(folder / name / "iter_2.pth")) for name in ("whole", "cut")]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)


def test_the_network_moves_on_and_another_one_is_refused(tmp_path: Path) -> None:
    trained, path = build(), tmp_path / "run.pth"
    torch.save(dict(state_dict=trained.state_dict()), path)
    start = dict(type="Pretrained", checkpoint=str(path))
    segmentor = VolumeSegmentor(PLAN, SMALL, init_cfg=start)
    heads = {key: value.clone() for key, value in segmentor.state_dict().items() if "decoder.heads" in key}
    segmentor.init_weights()
    for key, value in segmentor.state_dict().items():
        expected = heads[key] if key in heads else trained.state_dict()[key]
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
    for network, names in (
        (dict(SMALL, channels=(4, 16)), ["widths 4, 8 instead of 4, 16"]),
        (dict(SMALL, depths=(0, 2)), ["missing", "stages.1.blocks.1"]),
        (UNETR, ["without a place"]),
    ):
        other = VolumeSegmentor(PLAN, network, init_cfg=start)
        with raises_one_line(ValueError, path, *names):
            other.init_weights()
