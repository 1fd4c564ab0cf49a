"""Tests HierViL in mmsegmentation: a pyramid for heads, loaded from classifiers, frozen by stages, in bands."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from mmseg.registry import MODELS as SEG_MODELS
from refusals import raises_one_line

import vil_dense.mm  # noqa: F401
from vil_dense.backbones import HIERARCHICAL_VARIANTS
from vil_dense.mm import ImageClassifier
from vil_dense.mm.engine.training_memory import _networks
from vil_dense.mm.inference import tiled_upernet

SMALL = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1))
NORM = dict(type="BN")
COMMON = dict(channels=16, num_classes=5, dropout_ratio=0.0, norm_cfg=NORM, align_corners=False)
HEADS = {
    "upernet": dict(
        decode_head=dict(
            type="UPerHead", in_channels=[8, 16, 24, 32], in_index=[0, 1, 2, 3], pool_scales=(1, 2), **COMMON
        )
    ),
    "segformer": dict(
        decode_head=dict(type="SegformerHead", in_channels=[8, 16, 24, 32], in_index=[0, 1, 2, 3], **COMMON)
    ),
    "fpn": dict(
        neck=dict(type="FPN", in_channels=[8, 16, 24, 32], out_channels=16, num_outs=4),
        decode_head=dict(
            type="FPNHead", in_channels=[16] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], **COMMON
        ),
    ),
}


def build(**options):
    torch.manual_seed(0)
    return SEG_MODELS.build({"type": "HierViL", **SMALL, **options})


@pytest.mark.parametrize("name", [name for name in HIERARCHICAL_VARIANTS if "3d" not in name])
def test_every_variant_is_found_from_the_root_and_from_mmseg(name: str) -> None:
    with torch.device("meta"):
        for registry in (MODELS, SEG_MODELS):
            model = registry.build(dict(type="HierViL", variant=name))
    assert model.strides == (4, 8, 16, 32) and model.out_channels == HIERARCHICAL_VARIANTS[name]["dims"]


@pytest.mark.parametrize("out_norm", [True, False])
def test_maps(out_norm: bool) -> None:
    model = build(out_norm=out_norm, out_indices=(0, 2, -1))
    maps = model(torch.randn(2, 3, 33, 47))
    assert isinstance(maps, tuple)
    assert [tuple(x.shape[1:]) for x in maps] == [(8, 9, 12), (24, 3, 3), (32, 2, 2)]
    assert (model.out_channels, model.strides) == ((8, 24, 32), (4, 16, 32))
    assert all(x.mean(1).abs().max() < 1e-5 for x in maps) == out_norm


@pytest.mark.parametrize("head", HEADS)
def test_heads_of_mmseg_train_all_parameters(head: str) -> None:
    model = SEG_MODELS.build(dict(type="EncoderDecoder", backbone=dict(type="HierViL", **SMALL), **HEADS[head]))
    logits = model(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, 5, 16, 24)
    logits.square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None and "conv_seg" not in name]
    assert _networks(model) == [model.backbone.net]


def test_upernet_in_bands_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SEG_MODELS.build(dict(type="EncoderDecoder", backbone=dict(type="HierViL", **SMALL), **HEADS["upernet"]))
    head, maps = model.eval().decode_head, model.backbone(torch.randn(1, 3, 200, 90))
    with torch.no_grad():
        expected = head(maps)
        monkeypatch.setattr(tiled_upernet, "BAND_BYTES", 100_000)
        assert tiled_upernet.band_rows(head, None, maps) is not None
        torch.testing.assert_close(tiled_upernet.decode(head, None, maps), expected, rtol=1e-4, atol=1e-5)


def test_frozen_stages_and_stages_without_a_map() -> None:
    model = build(frozen_stages=1, out_indices=(1, 2)).train()
    sum(x.square().sum() for x in model(torch.randn(1, 3, 32, 32))).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and not name.startswith("out_norms")}
    assert trained == {
        name for name, _ in model.named_parameters() if name.startswith(("net.stages.1.", "net.stages.2."))
    }
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("net.")}
    assert not model.net.stages[0].training and model.net.stages[1].training


def test_a_classifier_and_a_segmentor_give_their_weights(tmp_path: Path) -> None:
    classifier = ImageClassifier("hiervil-tiny", num_classes=5, **SMALL)
    losses = classifier(torch.randn(2, 3, 32, 32), torch.tensor([1, 4]), mode="loss")
    losses["loss"].backward()
    torch.save(dict(meta=dict(cfg="model = dict(type='ImageClassifier')"), state_dict=classifier.state_dict()),
               tmp_path / "c.pth")  # fmt: skip
    model = build(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "c.pth")))
    model.init_weights()
    x = torch.randn(1, 3, 40, 40)
    for found, expected in zip(model.net.features(x), classifier.net.features(x), strict=True):
        assert torch.equal(found, expected)
    with torch.no_grad():
        model.out_norms[0].weight.fill_(2)
    segmentor = {f"backbone.{key}": value for key, value in model.state_dict().items()}
    torch.save(dict(state_dict={**segmentor, "decode_head.conv_seg.weight": torch.zeros(1)}), tmp_path / "s.pth")
    again = build(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "s.pth")))
    again.init_weights()
    assert all(torch.equal(a, b) for a, b in zip(again(x), model(x), strict=True))
    other = build(sequence="attention", init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "c.pth")))
    with raises_one_line(ValueError, tmp_path / "c.pth", "stages.2.blocks.0"):
        other.init_weights()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (dict(variant="hiervil-huge"), ("'hiervil-huge'", "hiervil-base")),
        (dict(num_classes=3), ("num_classes", "decode_head")),
        (dict(head_norm=True), ("head_norm", "out_norm=True")),
        (dict(out_indices=()), ("out_indices",)),
        (dict(out_indices=(4,)), ("stage 4", "4 stages")),
        (dict(frozen_stages=5), ("frozen_stages", "-1 to 4")),
        (dict(colour="red"), ("colour", "'vil'")),
    ],
)
def test_options_are_refused_by_name(options: dict, names: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *names):
        build(**options)
