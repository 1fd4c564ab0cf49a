"""Tests that pretrained weights go into another run's backbone with one option, are reported, or are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from PIL import Image
from refusals import assert_one_line, raises_one_line
from run_command import run_command

from vil_dense.mm.models.classifier import ImageClassifier
from vil_dense.mm.models.pretrained import trained_direction
from vil_dense.mm.utils.safe_load import load_safely
from vil_dense.synthetic.scenes import write_sample

ROOT = Path(__file__).parents[3]
NET = dict(variant="vil2-tiny", dim=32, depth=2, grid=(3, 3))
CONFIG = "model = dict(\n    type='ImageClassifier',\n    direction='{}',\n    variant='vil2-tiny')\n"


def write(path: Path, config: str | None = None, **options) -> dict[str, torch.Tensor]:
    """Writes a checkpoint of a classifier as MMEngine leaves it; returns its weights."""
    torch.manual_seed(1)
    weights = ImageClassifier(**{**NET, **options}, num_classes=5).state_dict()
    torch.save(dict(meta=dict(cfg=config, epoch=1), state_dict=weights, message_hub={}), path)
    return weights


def backbone(path: Path, **options):
    torch.manual_seed(0)
    init_cfg = dict(type="Pretrained", checkpoint=str(path))
    return MODELS.build(dict(type="ViL", out_indices=(0, 1), init_cfg=init_cfg, **{**NET, **options}))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("vil_dense.mm.models.backbone.print_log", lambda text, *_, **__: lines.append(text))
    return lines


@pytest.mark.parametrize("pooling", ["bilateral-concat", "bilateral-average", "average"])
def test_a_classifier_gives_its_backbone(tmp_path: Path, pooling: str, said: list[str]) -> None:
    weights = write(tmp_path / "run.pth", pooling=pooling)
    model = backbone(tmp_path / "run.pth", grid=(4, 6))
    model.init_weights()
    own = model.net.state_dict()
    for name, value in own.items():
        if name != "pos_embed.embed":
            torch.testing.assert_close(value, weights[f"net.{name}"], rtol=0, atol=0)
    assert own["pos_embed.embed"].shape == (1, 4, 6, 32)
    counts = f"{len(own)} of {len(own) + 6} tensors"
    assert_one_line(said[-1], tmp_path / "run.pth", counts, "3x3 -> 4x6", "head, head_norm, post_norm (6 tensors)")


def test_a_cls_token_is_dropped_and_new_norms_are_named(tmp_path: Path, said: list[str]) -> None:
    version_1 = dict(variant="vil-tiny", pooling="middle-cls")
    write(tmp_path / "run.pth", **version_1)
    model = backbone(tmp_path / "run.pth", variant="vil-tiny", out_norm=True)
    model.init_weights()
    assert_one_line(said[-1], "cls_token, head, head_norm, post_norm (6 tensors)", "out_norms (4 tensors)")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (dict(dim=64), ("width 64", "width 32")),
        (dict(depth=3), ("3 blocks", "2 blocks")),
        (dict(variant="vil-tiny"), ("causal", "grid", "biases")),
        (dict(direction="bi"), ("2 set", "1 set")),
        (dict(patch_size=8), ("8 x 8", "16 x 16")),
        (dict(variant="deit3-tiny", num_heads=2), ("attention blocks",)),
    ],
)
def test_another_design_is_refused_in_one_line(tmp_path: Path, options: dict, names: tuple[str, ...]) -> None:
    write(tmp_path / "run.pth", **options)
    model = backbone(tmp_path / "run.pth")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with raises_one_line(ValueError, "run.pth", *names):
        model.init_weights()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_direction_that_the_weights_do_not_show_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    write(path, CONFIG.format("uni"), direction="uni")
    with raises_one_line(ValueError, "direction='uni'", "direction='bi-alter"):
        backbone(path).init_weights()
    backbone(path, direction="uni").init_weights()


def test_the_config_in_a_checkpoint_is_read_and_not_run(tmp_path: Path) -> None:
    trap = f"model = dict(type='ViL', direction=open({str(tmp_path / 'sprung')!r}, 'w'))"
    assert trained_direction(dict(meta=dict(cfg=trap))) == "bi-alternating"
    assert not (tmp_path / "sprung").exists()
    assert trained_direction(dict(meta=dict(cfg="model = dict(type='ResNet')"))) is None
    assert trained_direction(dict(meta=dict(cfg="no config ("))) is None
    assert trained_direction(dict(meta=3)) is None
    other = "train = dict(type='ViL', direction='uni')\n" + CONFIG.format("quad-alternating")
    assert trained_direction(dict(meta=dict(cfg=other))) == "quad-alternating"


def write_classes(root: Path, side: int = 40) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for shade, name in enumerate(("dark", "light", "loud")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(70 * shade, 70 * shade + 80, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")


def test_round_trip_from_a_classifier_with_ema_to_a_segmentor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Trains both through tools/train.py; the averaged weights are taken, and said to be."""
    write_classes(tmp_path / "classes")
    (tmp_path / "pretrain.py").write_text(
        f"_base_ = '{ROOT}/configs/camvid/vil2-6x64_8e_camvid-crops-96.py'\n"
        "model = dict(dim=32, depth=2, num_classes=3, grid=(3, 3))\n"
        f"data = dict(data_root='{tmp_path}/classes')\n"
        "loader = dict(num_workers=0, persistent_workers=False, batch_size=4, dataset=data)\n"
        "train_dataloader = loader\nval_dataloader = loader\ntest_dataloader = loader\n"
        "param_scheduler = []\ntrain_cfg = dict(max_epochs=2, val_interval=2)\n"
        "custom_hooks = [dict(type='StepSeedHook'), dict(type='ClassReportHook'), dict(type='EMAHook', momentum=0.5)]\n"
    )
    assert run_command(f"train {tmp_path}/pretrain.py --work-dir {tmp_path}/pretrain", monkeypatch) == 0
    path = tmp_path / "pretrain/epoch_2.pth"
    checkpoint = load_safely(str(path))
    last = checkpoint["ema_state_dict"]["module.net.patch_embed.proj.weight"]
    assert not torch.equal(checkpoint["state_dict"]["net.patch_embed.proj.weight"], last), "EMA must differ to matter"
    sample = write_sample(tmp_path / "sample", train=2, val=1)
    (tmp_path / "segment.py").write_text(
        f"_base_ = '{ROOT}/configs/vil_upernet_sample.py'\n"
        f"init_cfg = dict(type='Pretrained', checkpoint='{path}')\n"
        "small = dict(dim=32, depth=2, patch_size=16, grid=(4, 4), out_indices=(0, 0, 1, 1))\n"
        "model = dict(backbone=dict(small, init_cfg=init_cfg),\n"
        "    neck=dict(embed_dim=32, rescales=[4, 2, 1, 0.5]),\n"
        "    decode_head=dict(in_channels=[32] * 4, channels=16), auxiliary_head=dict(in_channels=32, channels=16))\n"
        f"loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{sample}'))\n"
        "train_dataloader = dict(loader, batch_size=2)\nval_dataloader = loader\ntest_dataloader = loader\n"
        "optim_wrapper = dict(optimizer=dict(lr=0.0))\n"
        "train_cfg = dict(max_iters=1, val_interval=10)\nparam_scheduler = []\n"
    )
    assert run_command(f"train {tmp_path}/segment.py --work-dir {tmp_path}/segment", monkeypatch) == 0
    printed = capsys.readouterr().out
    assert f"ViL EMA weights from {path}: 45 of 51 tensors, pos_embed 3x3 -> 4x4, dropped head" in printed
    trained = load_safely(str(tmp_path / "segment/iter_1.pth"))["state_dict"]
    for name, value in checkpoint["state_dict"].items():
        if name.startswith("net.blocks."):
            torch.testing.assert_close(trained[f"backbone.{name}"], value, rtol=0, atol=0)
