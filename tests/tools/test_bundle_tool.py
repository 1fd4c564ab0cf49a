"""Tests the tool that makes a MONAI bundle of a run: what the bundle holds, and runs that are refused."""

import json
import math
import runpy
from pathlib import Path

import pytest
import torch
from fold_runs import write_cases
from mmengine.config import Config
from refusals import assert_error_line
from run_command import run_tool as run
from volume_segmentors import write_segmentor, write_weights

from vil_dense.mm.engine.resolve.volumes import resolve_plan
from vil_dense.mm.volumes.segmentor import VolumeSegmentor

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trained_run(tmp_path: Path) -> Path:
    """Writes a work folder as a training leaves it."""
    folder = tmp_path / "work"
    folder.mkdir()
    cfg = Config.fromfile(ROOT / "configs/volumes/vil-unet3d_2500_hippocampus.py")
    cfg.plan.patch_vox = (16, 16, 16)
    cfg.plan.network = dict(channels=(8, 8), depths=(0, 1), deep_supervision=1)  # as the plan step leaves it
    cfg.model.network = dict(type="ViLUNet3D")
    cfg.model.update(overlap=0.25, window_batch=4)
    cfg.dump(folder / "vil-unet3d_2500_hippocampus.py")
    write_weights(folder / "vil-unet3d_2500_hippocampus.py").rename(folder / "iter_4.pth")
    (folder / "last_checkpoint").write_text("/elsewhere/work/iter_4.pth")
    rows = [dict(Dice=0.25 * step, HD95=2.5, NSD=math.nan, step=step) for step in (2, 3, 4)]
    (folder / "20200101/vis_data").mkdir(parents=True)
    (folder / "20200101/vis_data/scalars.json").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning:monai")
def test_a_bundle_splits_as_its_run(trained_run: Path, tmp_path: Path) -> None:
    """Tests two cases of each patient, and a run that held out none."""
    import monai.bundle

    from vil_dense.medical.datalists.datalist import read_datalist

    (config,) = trained_run.glob("*.py")
    cfg = Config.fromfile(config)
    cfg.patient, cfg.fold = r"p\d", "all"
    cfg.dump(config)
    code, _, error = run("volumes/export_bundle", trained_run, "--out", tmp_path / "bundle")
    assert code == 0 and "held out no fold" in error
    data = write_cases(tmp_path / "data", 20)
    parser = monai.bundle.ConfigParser()
    parser.read_config(tmp_path / "bundle/configs/train.json")
    parser["dataset_dir"] = str(data)
    assert parser.get_parsed_content("cases") == read_datalist(data, patient=r"p\d").split(0)


@pytest.mark.filterwarnings("ignore::UserWarning:monai")
@pytest.mark.parametrize("labels", ["classes", "ignored voxels"])
def test_a_bundle_trains_with_the_loss_of_its_run(labels: str, trained_run: Path, tmp_path: Path) -> None:
    """Tests the weights of Dice and boundaries, with plain classes and with voxels that nobody annotated."""
    import monai.bundle

    (config,) = trained_run.glob("*.py")
    cfg = Config.fromfile(config)
    cfg.model.update(dice_weight=3.0, boundary_weight=0.5)
    if labels != "classes":
        cfg.model.plan = cfg.plan = dict(cfg.plan, ignore_label=7)
    cfg.dump(config)
    assert run("volumes/export_bundle", trained_run, "--out", tmp_path / "bundle")[0] == 0
    parser = monai.bundle.ConfigParser()
    parser.read_config(tmp_path / "bundle/configs/train.json")
    model = VolumeSegmentor(plan=cfg.plan, network=cfg.model.network, dice_weight=3.0, boundary_weight=0.5)
    image, label = torch.randn(2, 1, 16, 16, 16), torch.randint(0, 3, (2, 1, 16, 16, 16))
    wanted = model.forward(image, label, mode="loss")
    logits = model.network(image)
    found = parser.get_parsed_content("loss")(logits, label.float())
    assert wanted["loss_boundary"].abs() > 1e-3
    torch.testing.assert_close(found, wanted["loss_regions"] + wanted["loss_boundary"])


@pytest.mark.filterwarnings("ignore::UserWarning:monai")
def test_a_run_becomes_a_bundle(trained_run: Path, tmp_path: Path) -> None:
    import monai.bundle

    out = tmp_path / "bundle"
    code, said, error = run("volumes/export_bundle", trained_run, "--out", out)
    assert code == 0, error
    assert said.splitlines()[-1] == f"bundle written to {out}" and "TorchScript for any batch and size" in said
    parser = monai.bundle.ConfigParser()
    parser.read_config(out / "configs/inference.json")
    network = parser.get_parsed_content("network_def")
    assert (parser["inferer"]["overlap"], parser["inferer"]["window_batch"]) == (0.25, 4), "the run's windows"
    own = torch.load(trained_run / "iter_4.pth", weights_only=True)["state_dict"]
    state = torch.load(out / "models/model.pt", weights_only=True)
    network.load_state_dict(state)
    assert all(torch.equal(value, own[f"network.{name}"]) for name, value in state.items())
    card = (out / "docs/README.md").read_text()
    assert "Segments Anterior, Posterior in MRI." in card and "iter_4.pth" in card and "- dice: 1.0" in card
    metrics = json.loads((out / "configs/metadata.json").read_text())["eval_metrics"]
    assert metrics == dict(dice=1.0, hd95_mm=2.5, nsd=None)
    assert (out / "LICENSE").read_text().strip().startswith("Apache License")
    parser.read_config(out / "configs/train.json")
    assert parser["fold"] == 0 and parser["train"]["preprocessing"]["flip_axes"] == [0, 2]
    assert parser["validate"]["inferer"]["overlap"] == 0.25
    code, _, error = run("volumes/export_bundle", trained_run, "--out", out)
    assert code == 2
    assert_error_line(error, out)


@pytest.mark.parametrize("fold", ["all", None, 3])
def test_a_card_shows_the_score_of_its_checkpoint_on_held_out_cases(fold: object, trained_run: Path) -> None:
    cfg = Config.fromfile(trained_run / "vil-unet3d_2500_hippocampus.py")
    cfg.fold, cfg.data_root = fold, "/home/someone/Task04"
    resolve_plan(cfg)
    tool = runpy.run_path(str(ROOT / "tools/volumes/export_bundle.py"))
    for step, dice in ((3, "0.75"), (4, "1.0"), (5, ""), (None, "")):
        measured = tool["scores"](cfg, trained_run / "iter_4.pth", step)
        card = tool["card"](cfg, trained_run / "iter_4.pth", measured)
        shown = bool(dice) and fold == 3
        assert (f"- dice: {dice}" in card) is shown is (measured != {}) is ("- none: no validation" not in card)
    assert ("all cases were trained on" in card) is (fold != 3)
    assert "/home" not in card and "Task04" in card, "no local path"


def test_runs_that_are_refused(trained_run: Path, tmp_path: Path) -> None:
    def refuse(*args: object, names: tuple[object, ...]) -> None:
        code, _, error = run("volumes/export_bundle", *args, "--out", tmp_path / "bundle")
        assert code == 2 and not (tmp_path / "bundle").exists()
        assert_error_line(error, *names)

    (trained_run / "last_checkpoint").unlink()
    refuse(trained_run, names=("last_checkpoint", "--checkpoint"))
    cut = trained_run / "cut.pth"
    cut.write_bytes((trained_run / "iter_4.pth").read_bytes()[:4000])
    refuse(trained_run, "--checkpoint", cut, names=(cut,))
    other = write_weights(write_segmentor(trained_run.parent))
    refuse(trained_run, "--checkpoint", other, names=(other, "another model"))
