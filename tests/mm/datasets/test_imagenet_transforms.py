"""Tests ImageNet's transforms: crops that may be drawn, three augmentations pixel by pixel, broken files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from refusals import raises_one_line

from vil_dense.mm.datasets.transforms import imagenet
from vil_dense.mm.datasets.transforms.imagenet import (
    FlipPicture,
    LoadPicture,
    PackPicture,
    PictureJitter,
    RandomResizedCrop,
    ResizeCentreCrop,
    ThreeAugment,
)


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_grey_is_luminance_in_three_channels():
    seen = pixels(imagenet.grey(Image.new("RGB", (2, 2), (200, 100, 50))))
    assert (seen == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all() and seen.shape == (2, 2, 3)


def test_solarise_turns_over_128_and_more():
    assert pixels(imagenet.solarise(Image.new("RGB", (1, 1), (127, 128, 255))))[0, 0].tolist() == [127, 127, 0]


def test_blur_spreads_a_point(monkeypatch: pytest.MonkeyPatch):
    """Blurs with radius 2: the point keeps about 1 / (2 pi 4) of itself, and all of it stays in the picture."""
    radii = []
    monkeypatch.setattr(np.random, "uniform", lambda low, high: radii.append((low, high)) or 2.0)
    point = np.zeros((31, 31, 3), dtype=np.uint8)
    point[15, 15] = 255
    seen = pixels(imagenet.blur(Image.fromarray(point)))[..., 0]
    assert radii == [(0.1, 2.0)]
    assert seen[15, 15] == pytest.approx(255 / (2 * np.pi * 4), abs=2) and seen[15, 15] == seen.max()
    assert seen.sum() == pytest.approx(255, rel=0.2)


def test_exactly_one_of_three(image: Image.Image, monkeypatch: pytest.MonkeyPatch):
    calls = []
    marked = [lambda x, name=name: calls.append(name) or x for name in ("grey", "solarise", "blur")]
    assert [step.__name__ for step in imagenet.THREE] == ["grey", "solarise", "blur"]
    monkeypatch.setattr(imagenet, "THREE", marked)
    np.random.seed(0)
    for _ in range(600):
        ThreeAugment().transform(dict(img=image))
    assert len(calls) == 600 and all(160 < calls.count(name) < 240 for name in ("grey", "solarise", "blur"))


def test_jitter_strengths_and_order(image: Image.Image, monkeypatch: pytest.MonkeyPatch):
    calls = []
    for name in imagenet.ENHANCE:

        class Marked:
            def __init__(self, image: Image.Image, name: str = name) -> None:
                self.image, self.name = image, name

            def enhance(self, factor: float) -> Image.Image:
                calls.append((self.name, factor))
                return self.image

        monkeypatch.setitem(imagenet.ENHANCE, name, Marked)
    np.random.seed(0)
    for _ in range(200):
        PictureJitter(0.3, 0.3, 0.3).transform(dict(img=image))
    assert len({tuple(name for name, _ in calls[n : n + 3]) for n in range(0, 600, 3)}) == 6
    for name in ("brightness", "contrast", "saturation"):
        factors = [factor for called, factor in calls if called == name]
        assert len(factors) == 200 and 0.7 <= min(factors) < 0.72 and 1.28 < max(factors) <= 1.3


def test_jitter_is_pil_s(image: Image.Image):
    np.random.seed(3)
    seen = PictureJitter(0.3, 0, 0).transform(dict(img=image))["img"]
    np.random.seed(3)
    np.random.permutation(["brightness"])
    expected = ImageEnhance.Brightness(image).enhance(np.random.uniform(0.7, 1.3))
    assert (pixels(seen) == pixels(expected)).all()


def test_crops_that_may_be_drawn():
    """Expects area uniform in [0.08, 1], aspect log-uniform in [3/4, 4/3]; of a wide picture the widest middle."""
    np.random.seed(0)
    crop = RandomResizedCrop(8)
    boxes = np.array([crop.draw(400, 400) for _ in range(2000)])
    left, top, width, height = boxes.T
    area, aspect = width * height / 400**2, np.log(width / height)
    assert (left >= 0).all() and (top >= 0).all() and (left + width <= 400).all() and (top + height <= 400).all()
    assert 0.078 < area.min() < 0.09 and area.max() > 0.9 and np.abs(aspect).max() < np.log(4 / 3) + 0.01
    small = area < 0.5  # there no draw is refused
    assert np.mean(area[small]) == pytest.approx((0.08 + 0.5) / 2, abs=0.01) and abs(aspect[small].mean()) < 0.01
    assert aspect[small].std() == pytest.approx(np.log(4 / 3) / np.sqrt(3), abs=0.01)
    assert len({tuple(box) for box in boxes.tolist()}) > 1990
    assert RandomResizedCrop(8, scale=(1.0, 1.0)).draw(400, 100) == (133, 0, 133, 100)
    assert RandomResizedCrop(8, scale=(1.0, 1.0)).draw(100, 400) == (0, 133, 100, 133)


def test_crop_is_cut_and_scaled(image: Image.Image, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(RandomResizedCrop, "draw", lambda self, width, height: (4, 2, 16, 8))
    seen = RandomResizedCrop(8).transform(dict(img=image))["img"]
    cut = Image.fromarray(np.asarray(image)[2:10, 4:20])
    assert (pixels(seen) == pixels(cut.resize((8, 8), Image.Resampling.BICUBIC))).all()


def test_flip(image: Image.Image):
    assert (pixels(FlipPicture(1.0).transform(dict(img=image))["img"]) == pixels(image)[:, ::-1]).all()
    assert FlipPicture(0.0).transform(dict(img=image))["img"] is image


@pytest.mark.parametrize(("size", "scaled"), [((500, 375), (298, 224)), ((375, 500), (224, 298)), ((224, 224), None)])
def test_test_time_resize(size: tuple[int, int], scaled: tuple[int, int] | None):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    seen = ResizeCentreCrop(224).transform(dict(img=image))["img"]
    if scaled is None:
        expected = image
    else:
        left, top = (scaled[0] - 224) // 2, (scaled[1] - 224) // 2
        expected = image.resize(scaled, Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    assert (pixels(seen) == pixels(expected)).all()


def test_packed(image: Image.Image):
    packed = PackPicture().transform(dict(img=image, label=3, img_path="a.png"))
    assert packed["labels"] == 3 and packed["img_path"] == "a.png" and packed["inputs"].shape == (3, 30, 40)
    assert (packed["inputs"].permute(1, 2, 0).numpy() == np.asarray(image)).all()


def test_every_kind_of_file_becomes_rgb(tmp_path: Path):
    for name, mode in (("a.png", "L"), ("b.png", "RGBA"), ("c.jpg", "CMYK"), ("d.png", "P")):
        Image.new(mode, (5, 4)).save(tmp_path / name)
        loaded = LoadPicture().transform(dict(img_path=str(tmp_path / name)))["img"]
        assert loaded.mode == "RGB" and loaded.size == (5, 4)


def test_broken_and_missing_files_are_named(image: Image.Image, tmp_path: Path):
    image.resize((200, 200)).save(tmp_path / "whole.jpg", quality=95)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:3000])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    for name in ("cut.jpg", "text.jpg", "empty.jpg"):
        with raises_one_line(ValueError, tmp_path / name):
            LoadPicture().transform(dict(img_path=str(tmp_path / name)))
    with raises_one_line(ValueError, tmp_path / "gone.jpg"):
        LoadPicture().transform(dict(img_path=str(tmp_path / "gone.jpg")))
