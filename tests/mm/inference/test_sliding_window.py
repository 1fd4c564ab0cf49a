"""Pictures labelled band by band: what mmseg's own inference finds, in less memory."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from live_memory import LiveMemory
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from necks import NECKS
from necks import neck as make_neck
from PIL import Image
from torch import Tensor

from vil_dense.mm.inference import memory as estimates
from vil_dense.mm.inference import predict, sliding_window, tiled_upernet

ROOT = Path(__file__).parents[3]
WHOLE = dict(mode="whole")


def slide(window: tuple[int, int], stride: tuple[int, int]) -> dict:
    return dict(mode="slide", crop_size=window, stride=stride)


def small_config(test_cfg: dict, *, neck: str = "deconv", norm: str = "BN", **head: object) -> Config:
    """That of ADE20K with few channels, two blocks and five classes."""
    init_default_scope("mmseg")
    cfg = Config.fromfile(ROOT / "configs/vil_upernet_ade20k.py")
    cfg.model.backbone.update(dim=32, depth=2, out_indices=(0, 0, 1, 1), grid=(4, 4))
    cfg.model.auxiliary_head, cfg.model.test_cfg = None, test_cfg
    norm_cfg = dict(type=norm, num_groups=4) if norm == "GN" else dict(type=norm)
    cfg.model.neck = make_neck(neck, 32, norm_cfg)
    cfg.model.decode_head.update(in_channels=[32] * 4, channels=16, num_classes=5, norm_cfg=norm_cfg, **head)
    return cfg


def segmentor(test_cfg: dict, **options: object) -> EncoderDecoder:
    """The model of `small_config` in float64, with norms that do something."""
    cfg = small_config(test_cfg, **options)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).double().eval()
    for name, x in model.state_dict().items():
        if "running" in name or ".bn." in name or "decode_head.conv_seg" in name:
            x.copy_(torch.rand_like(x, dtype=torch.float64) + 0.5 if x.is_floating_point() else x)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    torch.nn.init.normal_(model.decode_head.conv_seg.bias, std=0.1)
    return model


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(1, 3, -(-height // 8), -(-width // 8), generator=generator, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")


def compare(model: EncoderDecoder, inputs: Tensor, size: tuple[int, int], padding: tuple = (0, 0, 0, 0), **options):
    """Bands against mmseg: the same logits up to rounding, the same classes."""
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


@pytest.fixture(autouse=True)
def narrow_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of few rows, in small pictures too."""
    monkeypatch.setattr(sliding_window, "BAND_BYTES", 20_000)
    monkeypatch.setattr(tiled_upernet, "BAND_BYTES", 100_000)


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
def test_the_predictor_is_mmsegs(test_cfg: dict, own_size: bool, tmp_path: Path):
    """Through the config's pipeline and data preprocessor: scaled to a short side of 80 px, padded to 32 px."""
    cfg = small_config(test_cfg)
    cfg.test_dataloader.dataset.pipeline[1].scale = (4 * 80, 80)
    torch.save(dict(state_dict=segmentor(test_cfg).float().state_dict()), tmp_path / "x.pth")
    predictor = predict.Predictor(cfg, str(tmp_path / "x.pth"), "cpu", own_size=own_size, batch=3)
    image = picture(90, 131)[0].mul(60).add(128).clip(0, 255).permute(1, 2, 0).byte().numpy()
    label = predictor.label(image)
    data = predictor.prepare(dict(img=image))
    assert (min(data["inputs"].shape[1:]) == 80) != own_size
    expected = predictor.model.test_step(dict(inputs=[data["inputs"]], data_samples=[data["data_samples"]]))
    assert (label == expected[0].pred_sem_seg.data[0].numpy()).mean() > 0.999
    assert label.shape == (90, 131) and len(np.unique(label)) > 1


def test_memory_is_said_for_the_largest_picture(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    cfg = small_config(slide((64, 64), (43, 43)))
    torch.save(dict(state_dict=segmentor(WHOLE).float().state_dict()), tmp_path / "x.pth")
    predictor = predict.Predictor(cfg, str(tmp_path / "x.pth"), "cpu", own_size=True)
    for side in (96, 64, 96):
        predictor.label(np.zeros((side, 70, 3), np.uint8))
    said = capsys.readouterr()
    assert said.out.count("memory: about 0.0 GiB (model 0.00, ") == 1 and "warning:" not in said.err
    assert "96 x 70 px, to the network 96 x 96, 4 windows of 64 x 64\n" in said.out
    monkeypatch.setattr(predict, "free_memory", lambda device: 1000)
    predictor.label(np.zeros((100, 70, 3), np.uint8))
    assert "warning: 0.0 GiB are free and about 0.0 GiB more are needed: smaller" in capsys.readouterr().err


def test_batches_of_no_windows():
    with pytest.raises(ValueError, match=r"^--window-batch is at least 1, got 0$"):
        predict.Predictor(Config(), "none.pth", "cpu", batch=0)


def test_progress_counts_windows():
    said = []
    model = segmentor(slide((64, 64), (43, 43)))
    sliding_window.label_map(model, picture(96, 160), (96, 160), batch=3, progress=lambda *pair: said.append(pair))
    assert said == [(3, 8), (4, 8), (7, 8), (8, 8)]


def with_classes(model: EncoderDecoder, classes: int) -> EncoderDecoder:
    """In float32, with so many classes."""
    model.decode_head.conv_seg = torch.nn.Conv2d(16, classes, 1)
    model.decode_head.out_channels = model.out_channels = classes
    return model.float()


def peak(model: EncoderDecoder, height: int, width: int, batch: int = 2) -> int:
    x = torch.zeros(1, 3, height, width)
    with LiveMemory() as memory:
        sliding_window.label_map(model, x, (height, width), batch=batch)
    return memory.peak - height * width


@pytest.mark.parametrize("test_cfg", [WHOLE, slide((128, 128), (85, 85))], ids=["whole", "windows"])
def test_memory_is_far_below_the_logits(test_cfg: dict, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sliding_window, "BAND_BYTES", 2**21)
    monkeypatch.setattr(tiled_upernet, "BAND_BYTES", 2**21)
    model = with_classes(segmentor(test_cfg), 150)
    assert peak(model, 256, 384) < 4 * 150 * 256 * 384 / 3


def test_memory_in_windows_does_not_grow_with_the_height(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sliding_window, "BAND_BYTES", 2**20)
    model = with_classes(segmentor(slide((64, 64), (43, 43))), 150)
    assert peak(model, 64 + 6 * 43, 107) < 1.1 * peak(model, 64 + 3 * 43, 107)


@pytest.mark.parametrize(
    ("test_cfg", "batch"),
    [(WHOLE, 1), (slide((128, 128), (85, 85)), 1), (slide((192, 192), (128, 128)), 4)],
    ids=["whole", "windows", "batched"],
)
@pytest.mark.parametrize("classes", [5, 150])
def test_estimate(test_cfg: dict, batch: int, classes: int, monkeypatch: pytest.MonkeyPatch):
    for module in (sliding_window, estimates):
        monkeypatch.setattr(module, "BAND_BYTES", 2**20)
    monkeypatch.setattr(tiled_upernet, "BAND_BYTES", 2**22)
    model = with_classes(segmentor(test_cfg), classes)
    size = 320, 256
    estimate = estimates.estimate(model, size, size, batch)
    assert estimate is not None
    ratio = estimate.working / peak(model, *size, batch)
    assert 1 / 1.5 < ratio < 1.5
    assert estimate.model == sum(x.nbytes for x in (*model.parameters(), *model.buffers()))
    assert estimate.picture == 320 * 256 * (3 * 4 + 2 * 3 + 1)


def test_estimate_in_words():
    words = str(estimates.Estimate(*(int(size * estimates.GIB) for size in (0.5, 0.2, 1, 2, 3, 0.125))))
    assert words == (
        "about 5.7 GiB (model 0.50, picture 0.20, waiting windows 1.00; "
        "in turn backbone features 2.00, head 3.00, streamed rows 0.12; a quarter for overhead)"
    )


@pytest.mark.parametrize(
    ("chosen", "test_cfg"),
    [
        (dict(), slide((512, 512), (341, 341))),
        (dict(whole=True), WHOLE),
        (dict(window=[1024]), slide((1024, 1024), (682, 682))),
        (dict(window=[64, 96], stride=[64, 48]), slide((64, 96), (64, 48))),
        (dict(stride=[256]), slide((512, 512), (256, 256))),
    ],
)
def test_windows_from_the_command_line(chosen: dict, test_cfg: dict):
    assert sliding_window.choose_windows(slide((512, 512), (341, 341)), **chosen) == test_cfg


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (dict(whole=True, window=[64]), "--whole runs the picture as one window: it excludes --window and"),
        (dict(window=[64, 64, 64]), "--window takes H W, or one number for both, in px; got 64 64 64"),
        (dict(window=[64], stride=[0]), "--stride takes H W, or one number for both, in px; got 0"),
        (dict(stride=[64]), "--stride needs windows: the config has none, and --window gives none"),
        (dict(window=[64, 32], stride=[48]), "windows of 64 x 32 px every 48 x 48 px would leave gaps"),
    ],
)
def test_windows_that_cannot_be(chosen: dict, sentence: str):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        sliding_window.choose_windows(WHOLE, **chosen)


def test_progress_in_words(monkeypatch: pytest.MonkeyPatch):
    """Half of the first of two pictures in 10 s: 30 s more."""
    now = [0.0]
    monkeypatch.setattr(predict.time, "monotonic", lambda: now[0])
    progress = predict.Progress(2, io.StringIO())
    for now[0], done in ((0.5, 1), (10.0, 4), (20.0, 8)):
        progress(done, 8)
    said = progress.stream.getvalue().split("\r")[1:]
    assert [line.strip() for line in said] == [
        "picture 1 of 2, window 4 of 8, ETA 0:00:30",
        "picture 1 of 2, window 8 of 8, ETA 0:00:20",
    ]


def test_a_huge_picture_is_read_quietly_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns from here and refuses from twice as much
    assert predict.read_picture(tmp_path / "x.png").shape == (40, 50, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 999)
    with pytest.raises(Image.DecompressionBombError):
        predict.read_picture(tmp_path / "x.png")
