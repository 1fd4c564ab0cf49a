"""Tests the memory of pictures labelled band by band: how much it is, and what is said of it."""

from pathlib import Path

import pytest
import torch
from live_memory import LiveMemory
from mmseg.models.segmentors import EncoderDecoder
from PIL import Image
from sliding_models import WHOLE, narrow_bands, segmentor, slide, small_config  # noqa: F401

from vil_dense.mm import Segmentor
from vil_dense.mm.inference import memory as estimates
from vil_dense.mm.inference import predict, sliding_window, tiled_upernet
from vil_dense.mm.publish.trained_model import with_checkpoint


def test_memory_is_said_for_the_largest_picture(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    cfg = small_config(slide((64, 64), (43, 43)))
    torch.save(dict(state_dict=segmentor(WHOLE).float().state_dict()), tmp_path / "x.pth")
    found = Segmentor(with_checkpoint(cfg, str(tmp_path / "x.pth")), device="cpu", own_size=True)
    for side in (64, 96, 100):
        Image.new("RGB", (70, side)).save(tmp_path / f"{side}.png")
    written = {tmp_path / f"{side}.png": Path(str(side)) for side in (96, 64)}
    assert predict.write_all(found, written, tmp_path) == []
    said = capsys.readouterr()
    assert said.out.count("memory: about 0.0 GiB (model 0.00, ") == 1 and "warning:" not in said.err
    assert "(height x width): 96 x 70 px, network input 96 x 96 px, 4 windows of 64 x 64 px\n" in said.out
    monkeypatch.setattr(predict, "free_memory", lambda device: 1000)
    predict.write_all(found, {tmp_path / "100.png": Path("100")}, tmp_path)
    assert "warning: 0.0 GiB are free and about 0.0 GiB more are needed: smaller" in capsys.readouterr().err


def with_classes(model: EncoderDecoder, classes: int) -> EncoderDecoder:
    """Returns the bytes in float32, with so many classes."""
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
    model.backbone.net.patch_embed.proj = torch.nn.Conv2d(5, 8, 16)
    five = estimates.estimate(model, size, size, batch)
    assert five is not None and five.picture == 320 * 256 * (5 * 4 + 2 * 5 + 1)


def test_estimate_in_words():
    words = str(estimates.Estimate(*(int(size * estimates.GIB) for size in (0.5, 0.2, 1, 2, 3, 0.125))))
    assert words == (
        "about 5.7 GiB (model 0.50, picture 0.20; waiting windows 1.00 and the largest of "
        "backbone features 2.00, head 3.00, streamed rows 0.12, plus 25 %)"
    )
