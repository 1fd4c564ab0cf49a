"""Tests masked pretraining of pictures: mask, loss on masked patches alone, runs that resume, weights that move on."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from PIL import Image
from refusals import assert_error_line, raises_one_line
from run_command import run_command

from vil_dense.mm.engine.hooks.probes import ProbeHook
from vil_dense.mm.engine.hooks.reconstructions import CAPTIONS, SIDE_PX, ReconstructionHook
from vil_dense.mm.engine.hooks.reports import read_scalars
from vil_dense.mm.models.masked_pretraining import MaskedImageModel, draw_mask, masked_square_error
from vil_dense.mm.utils.safe_load import load_safely
from vil_dense.mm.visualization.browse import GAP, SIDE

ROOT = Path(__file__).parents[3]
VIL = dict(type="ViL", dim=16, depth=2, patch_size=8, grid=(4, 4), out_indices=(-1,))
HIERVIL = dict(type="HierViL", dims=(8, 16), depths=(1, 1), sequence_strides=(8,), out_indices=(-1,), out_norm=False)
CONFIG = """
_base_ = ["{root}/configs/pretrain/vil2-8x96_mae_sample.py"]
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadPicture"),
    dict(type="RandomResizedCrop", size=32),
    dict(type="PackPicture"),
]
model = dict(backbone=dict(dim=16, depth=2, grid=(4, 4), drop_path=0.5), decoder_depth=1)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root="{data}", pipeline=train_pipeline)
)
train_cfg = dict(max_iters=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
custom_hooks = [
    dict(type="StepSeedHook"),
    dict(type="ProbeHook", data_root="{labelled}", interval=3, k=3),
    dict(type="ReconstructionHook", interval=2, samples=2),
]
"""


def build(backbone: dict = VIL, **options) -> MaskedImageModel:
    torch.manual_seed(0)
    return MODELS.build(dict(type="MaskedImageModel", backbone=dict(backbone), decoder_depth=1, **options))


def test_the_mask_is_that_of_the_seed_and_within_its_shares():
    torch.manual_seed(3)
    mask = draw_mask(200, (7, 9), (0.3, 0.7))
    torch.manual_seed(3)
    assert torch.equal(mask, draw_mask(200, (7, 9), (0.3, 0.7)))
    shares = mask.flatten(1).float().mean(1)
    assert 0.29 < shares.min() < 0.35 and 0.65 < shares.max() < 0.71
    assert mask.float().mean(0).min() > 0.4 and mask.float().mean(0).max() < 0.65  # every place as often as others
    with raises_one_line(ValueError, "(1, 1)"):
        draw_mask(1, (1, 1), (0.3, 0.7))


def test_the_error_is_that_of_masked_places_alone():
    prediction, target = torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)
    mask = torch.tensor([[[True, False], [False, True]]])
    target[~mask] = 7
    assert masked_square_error(prediction, target, mask) == 0
    target[0, 1, 1] = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(masked_square_error(prediction, target, mask), torch.tensor(14 / 3 / 2))


@pytest.mark.parametrize("backbone", [VIL, HIERVIL], ids=["ViL", "HierViL"])
def test_what_is_masked_is_not_seen_and_what_is_visible_is_no_target(backbone: dict):
    model = build(backbone).eval()
    pictures = torch.randn(1, 3, 32, 24)
    mask = torch.zeros(1, 4, 3, dtype=torch.bool)
    mask[0, 1, 1] = mask[0, 3, 0] = True
    before = model.predict_patches(pictures, mask)
    pictures[..., 8:16, 8:16] += 5  # masked
    torch.testing.assert_close(model.predict_patches(pictures, mask), before, rtol=0, atol=0)
    pictures[..., 0:8, 0:8] += 5  # visible
    assert not torch.equal(model.predict_patches(pictures, mask), before)
    loss = model(pictures, mode="loss")["loss"]
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.mask_patch.grad.abs().sum() > 0


def test_patches_are_put_together_as_they_were_cut():
    model, pictures = build(), torch.randn(2, 3, 16, 24)
    patches = model.to_patches(pictures)
    torch.testing.assert_close(patches[1, 1, 2].view(3, 8, 8), pictures[1, :, 8:16, 16:24], rtol=0, atol=0)
    torch.testing.assert_close(model.to_pictures(patches), pictures, rtol=0, atol=0)


def test_panels_show_the_visible_patches_as_they_are():
    model = build(data_preprocessor=dict(type="PicturePreprocessor", mean=[100.0] * 3, std=[50.0] * 3)).eval()
    pictures = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    for picture, (image, masked, reconstructed) in zip(pictures, model.panels(dict(inputs=pictures)), strict=True):
        np.testing.assert_array_equal(image, picture.permute(1, 2, 0))
        hidden = (masked == 100).all(-1)
        assert 0.3 <= hidden.mean() <= 0.7
        np.testing.assert_array_equal(reconstructed[~hidden], image[~hidden])
        assert (reconstructed[hidden] != image[hidden]).any()


def test_refusals():
    with raises_one_line(ValueError, "mask_ratio", "0.9"):
        build(mask_ratio=(0.9, 0.3))
    with raises_one_line(ValueError, "8 px", "30 x 32"):
        build()(torch.randn(1, 3, 30, 32), mode="loss")
    with raises_one_line(ValueError, "overlap"):
        build(dict(VIL, stride=4))(torch.randn(1, 3, 32, 32), mode="loss")


def test_a_probe_needs_the_size_of_the_crops():
    dataset = SimpleNamespace(pipeline=SimpleNamespace(transforms=[]))
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset))
    with raises_one_line(ValueError, "ProbeHook", "RandomResizedCrop"):
        ProbeHook("labelled").before_train(runner)


@pytest.mark.parametrize(
    ("losses", "result"), [({5: 0.9}, "0.9000 at step 5"), ({5: 0.9, 10: 0.8}, "0.8000 at step 10, 0.9000 at step 5")]
)
def test_a_loss_is_reported_once(losses: dict[int, float], result: str, tmp_path: Path):
    (tmp_path / "vis_data").mkdir()
    lines = [json.dumps(dict(step=step, loss=loss)) for step, loss in losses.items()]
    (tmp_path / "vis_data/scalars.json").write_text("\n".join(lines))
    runner = SimpleNamespace(cfg={}, log_dir=str(tmp_path))
    assert ReconstructionHook().result(runner, {}, "val") == f"loss of the masked places {result}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes pictures of several sizes, one of them in a subfolder, and the config of a small pretraining."""
    folder = tmp_path_factory.mktemp("pretraining")
    (folder / "pictures/more").mkdir(parents=True)
    for n, size in enumerate([(40, 50), (64, 33), (20, 20)]):
        noise = np.random.default_rng(n).integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"pictures/{'more/' * (n == 2)}{n}.png")
    for split, count in (("train", 6), ("val", 2)):
        for shade, name in enumerate(("dark", "light")):
            (folder / "labelled" / split / name).mkdir(parents=True)
            for n in range(count):
                noise = np.random.default_rng(n).integers(150 * shade, 150 * shade + 60, (40, 40, 3), np.uint8)
                Image.fromarray(noise).save(folder / f"labelled/{split}/{name}/{n}.png")
    (folder / "config.py").write_text(CONFIG.format(root=ROOT, data=folder / "pictures", labelled=folder / "labelled"))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """Returns the work folder of a pretraining of four steps."""
    with pytest.MonkeyPatch.context() as patch:
        assert run_command(f"train {folder}/config.py --work-dir {folder}/whole", patch) == 0
    return folder / "whole"


def test_a_run_reports_and_draws(run: Path):
    log = next(run.glob("*/*.log")).read_text()
    assert "3 of 3 read" in log and "20 to 40 px" in log
    assert "loss of the masked places" in log
    for step in (3, 4):
        assert f"labelled at step {step}: knn_top1 100.00 %, linear_top1 100.00 %" in log
    page = (run / "report.html").read_text()
    assert "Top-1 of the probe" in page and "Result: loss of the masked places" in page
    assert "Last validation" not in page and "tools/test.py" not in page
    assert 'id="reconstructions"' in page and "after 4 steps" in page
    for caption in CAPTIONS:
        assert page.count(f"<figcaption>{caption}</figcaption>") == 2, "one for each of the two samples"
    names = ["reconstructions_2.png", "reconstructions_4.png"]
    panels = [np.asarray(Image.open(run / "pictures" / name)) for name in names]
    assert panels[0].shape == panels[1].shape == (2 * (SIDE_PX + 4), 3 * SIDE_PX + 8, 3), "crops of 32 px, enlarged"
    inputs = 2 * (SIDE_PX + 4)
    np.testing.assert_array_equal(panels[0][:, :inputs], panels[1][:, :inputs])  # the same inputs and masks
    assert (panels[0][:, inputs:] != panels[1][:, inputs:]).any()
    np.testing.assert_array_equal(panels[0][:SIDE_PX:6, :SIDE_PX:6], panels[0][5:SIDE_PX:6, 5:SIDE_PX:6])


def test_training_samples_are_drawn(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(f"browse_dataset {folder}/config.py --out {tmp_path}", monkeypatch) == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet_000.png"))
    picture = sheet[GAP : GAP + SIDE, GAP : GAP + SIDE]
    assert (picture.reshape(-1, 3).min(1) < 255).mean() > 0.9, "the first crop fills its place"


def test_a_pretraining_has_no_test(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run_command(f"test {run}/config.py {run}/iter_4.pth", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, f"{run}/config.py", "test_dataloader")


def test_a_run_that_resumes_without_the_probe_ends_as_the_whole_one(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "cut").mkdir()
    shutil.copy(run / "iter_2.pth", folder / "cut")
    line = f"train {folder}/config.py --work-dir {folder}/cut --resume --cfg-options custom_hooks.1.data_root=None"
    assert run_command(line, monkeypatch) == 0
    assert "probe of" not in next((folder / "cut").glob("*/*.log")).read_text()
    ends = [load_safely(str(path / "iter_4.pth")) for path in (run, folder / "cut")]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)
    losses = [read_scalars(str(path), "loss") for path in (run, folder / "cut")]
    assert len(losses[0]) == 4 and losses[1] == {step: losses[0][step] for step in (3, 4)}


def test_the_backbone_moves_on_to_a_segmentor_and_a_classifier(run: Path):
    saved = load_safely(str(run / "iter_4.pth"))["state_dict"]
    start = dict(type="Pretrained", checkpoint=str(run / "iter_4.pth"))
    backbone = MODELS.build(dict(VIL, out_indices=(0, 1), grid=(6, 6), init_cfg=start))
    classifier = MODELS.build(
        dict(
            type="ImageClassifier",
            variant="vil2-tiny",
            **{key: VIL[key] for key in ("dim", "depth", "patch_size", "grid")},
            num_classes=3,
            init_cfg=start,
        )
    )
    for network in (backbone, classifier):
        network.init_weights()
        for key, value in network.net.blocks.state_dict().items():
            torch.testing.assert_close(value, saved[f"backbone.net.blocks.{key}"], rtol=0, atol=0)
    wider = MODELS.build(dict(VIL, dim=24, init_cfg=start))
    with raises_one_line(ValueError, "iter_4.pth", "width 16", "width 24"):
        wider.init_weights()


def test_a_labelled_folder_that_cannot_be_used_is_named_before_the_first_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    shutil.copytree(folder / "labelled", tmp_path / "labelled")
    (tmp_path / "labelled/val/light").rename(tmp_path / "labelled/val/lit")
    line = f"train {folder}/config.py --work-dir {tmp_path}/run --cfg-options custom_hooks.1.data_root={tmp_path}/"
    for name, named in (("labelled", ("val", "light, lit")), ("none", ("none",))):
        assert run_command(line + name, monkeypatch) == 1
        assert_error_line(capsys.readouterr().err, *named)


def test_a_damaged_picture_and_no_pictures_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    shutil.copytree(folder / "pictures", tmp_path / "masks")
    (tmp_path / "masks/broken.png").write_bytes(b"no picture")
    line = f"train {folder}/config.py --work-dir {tmp_path}/run --cfg-options train_dataloader.dataset.data_root="
    assert run_command(f"{line}{tmp_path}/masks", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, "1 of 4", "broken.png")
    (tmp_path / "empty").mkdir()
    assert run_command(f"{line}{tmp_path}/empty", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, f"{tmp_path}/empty", ".png")
    assert not MMLogger._instance_dict
