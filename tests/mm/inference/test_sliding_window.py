"""Tests pictures labelled band by band: what mmseg's own inference finds, in less memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from necks import NECKS
from PIL import Image
from refusals import raises_one_line
from sliding_models import WHOLE, narrow_bands, picture, segmentor, slide, small_config  # noqa: F401
from torch import Tensor

from vil_dense.mm import Segmentor
from vil_dense.mm.inference import sliding_window, tiled_upernet
from vil_dense.mm.inference.pictures import read_picture
from vil_dense.mm.publish.trained_model import with_checkpoint


def compare(model: EncoderDecoder, inputs: Tensor, size: tuple[int, int], padding: tuple = (0, 0, 0, 0), **options):
    """Compares bands with mmseg: the same logits up to rounding, the same classes."""
    meta = dict(ori_shape=size, img_shape=tuple(inputs.shape[2:]), pad_shape=tuple(inputs.shape[2:]))
    sample = SegDataSample(metainfo=dict(meta, padding_size=padding))
    with torch.no_grad():
        sample = model.predict(inputs, [sample])[0]
    expected = sample.seg_logits.data
    bands = list(sliding_window.logit_bands(model, inputs, size, padding=padding, **options))
    assert [start for start, _ in bands] == [sum(x.shape[1] for _, x in bands[:index]) for index in range(len(bands))]
    logits = torch.cat([x for _, x in bands], 1)
    if model.out_channels == 1:
        logits = logits.sigmoid()
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-10)
    label = sliding_window.label_map(model, inputs, size, padding=padding, **options)
    assert label.dtype == torch.uint8
    assert torch.equal(label.long(), sample.pred_sem_seg.data[0].long())
    assert label.unique().numel() > 1


@pytest.mark.parametrize(
    ("inputs", "size", "padding", "test_cfg"),
    [
        ((64, 96), (64, 96), (0, 0, 0, 0), WHOLE),
        ((96, 64), (83, 61), (0, 3, 0, 13), WHOLE),
        ((128, 96), (251, 187), (0, 0, 0, 0), WHOLE),
        ((128, 96), (61, 47), (1, 2, 3, 4), WHOLE),
        ((96, 128), (96, 128), (0, 0, 0, 0), slide((64, 64), (43, 43))),
        ((160, 96), (147, 90), (0, 6, 0, 13), slide((64, 48), (40, 48))),
        ((131, 77), (260, 150), (0, 0, 0, 0), slide((64, 64), (43, 30))),
        ((131, 77), (57, 40), (5, 2, 3, 1), slide((64, 50), (7, 33))),
        ((48, 150), (48, 150), (0, 0, 0, 0), slide((64, 64), (43, 43))),
        ((40, 40), (100, 30), (0, 0, 0, 0), slide((64, 64), (43, 43))),
    ],
)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.filterwarnings("ignore:When align_corners=True")
def test_as_mmseg(inputs: tuple, size: tuple, padding: tuple, test_cfg: dict, align_corners: bool):
    model = segmentor(test_cfg, align_corners=align_corners)
    compare(model, picture(*inputs), size, padding, batch=2)


@pytest.mark.parametrize("norm", ["BN", "GN"])
@pytest.mark.parametrize("neck", NECKS)
def test_every_neck_and_norm(neck: str, norm: str):
    compare(segmentor(WHOLE, neck=neck, norm=norm), picture(96, 128), (96, 128))


def test_two_classes_from_one_logit():
    model = segmentor(slide((64, 64), (43, 43)))
    head = model.decode_head
    head.out_channels = model.out_channels = 1
    head.conv_seg = torch.nn.Conv2d(16, 1, 1).double()
    head.threshold = 0.4
    compare(model, picture(96, 80), (90, 100))


def test_a_head_that_predicts_in_its_own_way():
    model = segmentor(slide((64, 64), (43, 43)))

    class Own(type(model.decode_head)):
        def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
            return super().predict_by_feat(seg_logits, batch_img_metas).flip(1)

    model.decode_head.__class__ = Own
    compare(model, picture(96, 80), (90, 100), batch=2)


@pytest.mark.parametrize(
    ("neck", "norm", "bands"),
    [("deconv", "BN", True), ("none", "BN", True), ("bilinear", "BN", False), ("deconv", "GN", False)],
)
def test_which_heads_run_in_bands(neck: str, norm: str, bands: bool):
    model = segmentor(WHOLE, neck=neck, norm=norm)
    feature_maps = [torch.zeros(1, 32, 40, 30, dtype=torch.float64)] * 4
    rows = tiled_upernet.band_rows(model.decode_head, model.neck if model.with_neck else None, feature_maps)
    assert (rows is not None) == bands


def test_small_maps_are_not_banded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    model = segmentor(WHOLE)
    assert tiled_upernet.band_rows(model.decode_head, model.neck, [torch.zeros(1, 32, 32, 32)] * 4) is None


@pytest.mark.parametrize("after", [(7, 4), (10, 6), (23, 31), (1, 1)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_rows_of_a_resized_map(after: tuple[int, int], align_corners: bool):
    x = torch.randn(3, 10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    resize = tiled_upernet.Resize((10, 6), after, align_corners)
    whole = torch.nn.functional.interpolate(x[None], after, mode="bilinear", align_corners=align_corners)[0]
    for start in range(after[0]):
        for stop in range(start + 1, after[0] + 1):
            first, end = resize.source(start, stop)
            torch.testing.assert_close(resize.rows(x[:, first:end], start, stop), whole[:, start:stop])


@pytest.mark.parametrize("own_size", [False, True], ids=["scaled", "own size"])
@pytest.mark.parametrize("test_cfg", [WHOLE, slide((64, 64), (43, 43))], ids=["whole", "windows"])
def test_the_segmentor_is_mmsegs(test_cfg: dict, own_size: bool, tmp_path: Path):
    """Labels through the config's pipeline and data preprocessor: scaled to a short side of 80 px, padded to 32 px."""
    cfg = small_config(test_cfg)
    cfg.test_dataloader.dataset.pipeline[1].scale = (4 * 80, 80)
    torch.save(dict(state_dict=segmentor(test_cfg).float().state_dict()), tmp_path / "x.pth")
    found = Segmentor(with_checkpoint(cfg, str(tmp_path / "x.pth")), device="cpu", own_size=own_size, batch=3)
    image = picture(90, 131)[0].mul(60).add(128).clip(0, 255).permute(1, 2, 0).byte().numpy()
    label = found.predict(image).class_indices()
    load, *steps = [step for step in cfg.test_dataloader.dataset.pipeline if step.type != "LoadAnnotations"]
    steps = [step for step in steps if step.type != "Resize" or not own_size]
    data = Compose([dict(type="LoadImageFromNDArray"), *steps])(dict(img=image[..., ::-1]))
    assert load.type == "LoadImageFromFile" and (min(data["inputs"].shape[1:]) == 80) != own_size
    expected = found.model.test_step(dict(inputs=[data["inputs"]], data_samples=[data["data_samples"]]))
    assert (label == expected[0].pred_sem_seg.data[0].numpy()).mean() > 0.999
    assert label.shape == (90, 131) and len(np.unique(label)) > 1


def test_progress_counts_windows():
    said = []
    model = segmentor(slide((64, 64), (43, 43)))
    sliding_window.label_map(model, picture(96, 160), (96, 160), batch=3, progress=lambda *pair: said.append(pair))
    assert said == [(3, 8), (4, 8), (7, 8), (8, 8)]


@pytest.mark.parametrize(
    ("chosen", "test_cfg"),
    [
        (dict(), slide((512, 512), (341, 341))),
        (dict(whole=True), WHOLE),
        (dict(window=1024, stride=682), slide((1024, 1024), (682, 682))),
        (dict(window=[1024]), slide((1024, 1024), (682, 682))),
        (dict(window=[64, 96], stride=[64, 48]), slide((64, 96), (64, 48))),
        (dict(stride=[256]), slide((512, 512), (256, 256))),
    ],
)
def test_windows_from_the_command_line(chosen: dict, test_cfg: dict):
    assert sliding_window.choose_windows(slide((512, 512), (341, 341)), **chosen) == test_cfg


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (dict(whole=True, window=[64]), ("--whole", "--window")),
        (dict(window=[64, 64, 64]), ("--window", "64 64 64")),
        (dict(window=[64], stride=[0]), ("--stride", "got 0")),
        (dict(stride=[64]), ("--stride", "--window")),
        (dict(window=[64, 32], stride=[48]), ("64 x 32", "48 x 48", "gaps")),
    ],
)
def test_windows_that_cannot_be(chosen: dict, names: tuple[str, ...]):
    with raises_one_line(ValueError, *names):
        sliding_window.choose_windows(WHOLE, **chosen)


def test_a_huge_picture_is_read_quietly_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns from here and refuses from twice as much
    assert read_picture(tmp_path / "x.png").shape == (40, 50, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 999)
    with pytest.raises(Image.DecompressionBombError):
        read_picture(tmp_path / "x.png")
