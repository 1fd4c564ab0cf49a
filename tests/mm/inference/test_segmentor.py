"""Tests the Python API: what it loads, which images it takes, and what it gives back."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.datasets import ADE20KDataset
from PIL import Image
from refusals import raises_one_line
from sliding_models import segmentor, slide, small_config, write_run

from vil_dense.mm import Prediction, Segmentor

WINDOWS = slide((64, 64), (43, 43))


def one_channel(folder: Path, mean: float, color_type: str) -> Segmentor:
    """Returns a model of one channel whose files are read as `color_type`."""
    cfg = small_config(WINDOWS)
    cfg.model.backbone.in_channels = 1
    cfg.model.data_preprocessor.update(mean=[mean], std=[mean / 3], bgr_to_rgb=False)
    cfg.test_dataloader.dataset.pipeline[0] = dict(type="LoadImageFromFile", color_type=color_type)
    model = segmentor(WINDOWS)
    state = model.state_dict()
    weight = "backbone.net.patch_embed.proj.weight"
    model.backbone.net.patch_embed.proj.weight = torch.nn.Parameter(state[weight].sum(1, keepdim=True))
    return Segmentor.load(write_run(folder / "run", cfg, model), device="cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", small_config(WINDOWS), segmentor(WINDOWS))


@pytest.fixture(scope="module")
def loaded(run: Path) -> Segmentor:
    return Segmentor.load(run, device="cpu")


def scene(height: int = 70, width: int = 90, seed: int = 0) -> np.ndarray:
    """Returns random blocks of 10 px in colour, RGB."""
    rows, columns = -(-height // 10), -(-width // 10)
    blocks = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((10, 10, 1), np.uint8))[:height, :width]


def test_without_a_scope_and_with_every_kind_of_image(run: Path, tmp_path: Path) -> None:
    """Tests that one picture gives one mask, however it is given, and that loading changes nothing global."""
    DefaultScope._instance_dict.clear()
    loaded = Segmentor.load(run, device="cpu")
    assert not DefaultScope._instance_dict
    image = scene()
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = loaded.predict(tmp_path / "a.png")
    assert expected.name == "a" and len(np.unique(expected.mask)) > 1 and expected.mask.shape == (70, 90)
    assert set(np.unique(expected.mask)) <= {4, 5, 6, 7, 8} and expected.mask.dtype == np.uint8
    assert expected.classes == ADE20KDataset.METAINFO["classes"][3:8] and len(expected.palette) == 5
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    same = [str(tmp_path / "a.png"), Image.open(tmp_path / "a.png"), image, image / 255, np.float32(image) / 255]
    same += [tensor, tensor / 255, image[:, ::-1][:, ::-1], Image.fromarray(image).convert("RGBA")]
    for found in loaded.predict(same):
        np.testing.assert_array_equal(found.mask, expected.mask)
        np.testing.assert_array_equal(found.image, image)
    assert (loaded.predict(np.ascontiguousarray(image[..., ::-1])).mask != expected.mask).mean() > 0.05


def test_sources(run: Path, tmp_path: Path) -> None:
    """Opens a run, its checkpoint, config and checkpoint; the best checkpoint goes before the last one."""
    image = scene()
    expected = Segmentor.load(run, device="cpu").predict(image).mask
    alone = tmp_path / "elsewhere.pth"
    alone.write_bytes((run / "iter_4.pth").read_bytes())
    for source, options in (
        (run / "iter_4.pth", {}),
        (run / "config.py", dict(weights=alone)),
        (alone, dict(config=run / "config.py")),
    ):
        np.testing.assert_array_equal(Segmentor.load(source, device="cpu", **options).predict(image).mask, expected)
    best = write_run(tmp_path / "run", small_config(WINDOWS), segmentor(WINDOWS))
    model = segmentor(WINDOWS)
    model.decode_head.conv_seg.bias.data[2] += 1000
    write_run(best, small_config(WINDOWS), model, "best_mIoU_iter_2.pth")
    assert (Segmentor.load(best, device="cpu").predict(image).mask == 4 + 2).all()


@pytest.mark.parametrize(
    ("files", "options", "error", "names"),
    [
        ([], {}, FileNotFoundError, ["config"]),
        (["config.py"], {}, FileNotFoundError, ["checkpoint"]),
        (["config.py", "other.py"], {}, ValueError, ["config.py", "other.py"]),
        (["config.py", "iter_4.pth"], dict(device="tpu"), ValueError, ["tpu", "cpu", "mps"]),
        (["config.py", "iter_4.pth"], dict(dtype=torch.int8), ValueError, ["int8", "bfloat16"]),
        (["config.py", "iter_4.pth"], dict(batch=0), ValueError, ["0"]),
    ],
)
def test_sources_that_cannot_be(
    files: list, options: dict, error: type, names: list, run: Path, tmp_path: Path
) -> None:
    for name in files:
        source = run / ("config.py" if name == "other.py" else name)
        (tmp_path / name).write_bytes(source.read_bytes())
    with raises_one_line(error, *names):
        Segmentor.load(tmp_path, **options)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, tmp_path / "none"):
        Segmentor.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("image", "names"),
    [
        (np.zeros((8, 8)), ["(H, W, 3)", "(8, 8)", "RGB"]),
        (np.zeros((8, 8, 4), np.uint8), ["(H, W, 3)", "(8, 8, 4)"]),
        (np.zeros((3, 8, 8), np.uint8), ["(H, W, 3)", "(3, 8, 8)"]),
        (np.zeros((0, 8, 3), np.uint8), ["empty", "(0, 8, 3)"]),
        (np.zeros((8, 8, 3), np.uint16), ["8 bits", "uint16"]),
        (np.zeros((8, 8, 3), bool), ["uint8", "bool"]),
        (np.zeros((8, 8, 3), np.int64), ["uint8", "int64"]),
        (np.full((8, 8, 3), 255.0), ["0..1", "255"]),
        (np.full((8, 8, 3), -0.5), ["0..1", "-0.5"]),
        (np.full((8, 8, 3), np.nan), ["0..1", "nan"]),
        (torch.zeros(8, 8, 3), ["(3, H, W)", "(8, 8, 3)"]),
        (torch.zeros(2, 3, 8, 8), ["(3, H, W)", "list"]),
        (torch.full((3, 8, 8), 2.0), ["0..1", "2"]),
        (Image.fromarray(np.zeros((8, 8), np.uint16)), ["8 bits"]),
    ],
)
def test_images_that_are_refused(image: object, names: list, loaded: Segmentor) -> None:
    with raises_one_line(ValueError, *names):
        loaded.predict(image)


def test_what_is_no_image(loaded: Segmentor, tmp_path: Path) -> None:
    with raises_one_line(TypeError, "dict", "path"):
        loaded.predict({})
    with raises_one_line(FileNotFoundError, tmp_path / "a.png"):
        loaded.predict(tmp_path / "a.png")
    with raises_one_line(FileNotFoundError, tmp_path, "folder", "list"):
        loaded.predict(tmp_path)


def test_a_prediction_shows_itself_in_a_line(loaded: Segmentor) -> None:
    shown = repr(loaded.predict(scene(), probabilities=True))
    assert "image" in shown and loaded.classes[0] in shown and len(shown.splitlines()) == 1


def test_the_image_of_an_error_is_named(loaded: Segmentor, tmp_path: Path) -> None:
    """Tests that a damaged file is named by its path, and another image of a list by its place."""
    Image.fromarray(scene()).save(broken := tmp_path / "broken.jpg")
    broken.write_bytes(broken.read_bytes()[:900])
    for images in (broken, [scene(), broken]):
        with raises_one_line(OSError, broken, "truncated"):
            loaded.predict(images)
    with raises_one_line(ValueError, "image 1 of the list", "(8, 8, 4)"):
        loaded.predict([scene(), np.zeros((8, 8, 4), np.uint8)])


def test_lists_are_as_singles_and_threads_as_one(loaded: Segmentor) -> None:
    images = [scene(60 + 8 * number, 70, number) for number in range(4)]
    singles = [loaded.predict(image, probabilities=True) for image in images]
    assert [found.name for found in singles] == ["image"] * 4
    listed = loaded.predict(images, probabilities=True)
    assert [found.name for found in listed] == ["0000", "0001", "0002", "0003"]
    with ThreadPoolExecutor(4) as threads:
        threaded = list(threads.map(lambda image: loaded.predict(image, probabilities=True), images * 3))
    for others in (listed, threaded[:4], threaded[4:8], threaded[8:]):
        for one, other in zip(singles, others, strict=True):
            np.testing.assert_array_equal(one.mask, other.mask)
            np.testing.assert_array_equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), WINDOWS], ids=["whole", "windows"])
def test_batches_of_a_list_are_as_singles(test_cfg: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that images of one size run together, whatever lies between them, and that order and results stay."""
    model = segmentor(test_cfg)
    model.decode_head.conv_seg.weight.data /= 10  # logits as large as those of trained models
    loaded = Segmentor.load(write_run(tmp_path / "run", small_config(test_cfg), model), device="cpu")
    sizes = [(64, 64), (60, 64), (96, 64), (64, 64), (64, 64), (64, 64), (32, 64), (33, 64)]
    images = [scene(*size, seed) for seed, size in enumerate(sizes)]
    singles = [loaded.predict(image, probabilities=True) for image in images]
    seen: list[int] = []
    run = loaded.logits
    monkeypatch.setattr(loaded, "logits", lambda inputs: seen.append(len(inputs)) or run(inputs))
    for batch_size, expected in ((1, [1] * 8), (4, [1, 1, 2, 4])):
        seen.clear()
        listed = loaded.predict(images, probabilities=True, batch_size=batch_size)
        assert test_cfg is WINDOWS or sorted(seen) == expected
        for one, other in zip(singles, listed, strict=True):
            assert one.probabilities.shape == other.probabilities.shape
            np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=0, atol=1e-5)
            assert (one.mask != other.mask).mean() < 1e-3
    with raises_one_line(ValueError, "batch_size", "0"):
        loaded.predict(images, batch_size=0)


def test_probabilities(loaded: Segmentor) -> None:
    found = loaded.predict(scene(), probabilities=True)
    assert found.probabilities.shape == (5, 70, 90) and found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(found.probabilities.argmax(0), found.class_indices())
    np.testing.assert_array_equal(found.ids[found.class_indices()], found.mask)
    assert loaded.predict(scene()).probabilities is None


def test_mixed_precision_is_near_and_not_the_same(run: Path, loaded: Segmentor) -> None:
    exact = loaded.predict(scene(), probabilities=True).probabilities
    mixed = Segmentor.load(run, device="cpu", dtype=torch.bfloat16).predict(scene(), probabilities=True).probabilities
    assert mixed.dtype == np.float32 and 0 < np.abs(mixed - exact).mean() < 0.02


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_of_one_channel(suffix: str, tmp_path: Path) -> None:
    """Tests that a model of gray 16-bit files labels such files, arrays and tensors, and refuses others."""
    loaded = one_channel(tmp_path, 30_000.0, "unchanged")
    image = scene()[..., 0].astype(np.uint16) * 256
    Image.fromarray(image).save(tmp_path / f"a.{suffix}")
    same = [tmp_path / f"a.{suffix}", Image.open(tmp_path / f"a.{suffix}"), image, image[..., None]]
    expected, *others = loaded.predict([*same, torch.from_numpy(image)[None]])
    assert len(np.unique(expected.mask)) > 1 and expected.image.shape == (70, 90, 3)
    assert all((other.mask == expected.mask).all() for other in others)
    Image.fromarray(scene()[..., 0]).save(tmp_path / f"b.{suffix}")
    for wrong, names in (
        (tmp_path / f"b.{suffix}", ["16 bits", "8"]),
        (scene(), ["(H, W)", "(70, 90, 3)"]),
        (scene()[..., 0], ["uint16", "uint8"]),
        (image / 65535, ["uint16", "float64"]),
    ):
        with raises_one_line(ValueError, *names):
            loaded.predict(wrong)


def test_eight_bits_of_one_channel(tmp_path: Path) -> None:
    loaded = one_channel(tmp_path, 120.0, "grayscale")
    image = scene()[..., 0]
    Image.fromarray(image).save(tmp_path / "a.png")
    expected, *others = loaded.predict([tmp_path / "a.png", Image.fromarray(image), image, image / 255])
    assert len(np.unique(expected.mask)) > 1
    assert all((other.mask == expected.mask).all() for other in others)
    with raises_one_line(ValueError, "8 bits", "uint16"):
        loaded.predict(image.astype(np.uint16))
    pages = [Image.fromarray(255 - image), Image.fromarray(image)]
    pages[1].save(tmp_path / "c.tif", save_all=True, append_images=pages)
    with pytest.warns(UserWarning, match="3 pages"):
        np.testing.assert_array_equal(loaded.predict(tmp_path / "c.tif").mask, expected.mask)
    (tmp_path / "b.png").write_bytes(b"nothing")
    with raises_one_line(ValueError, "read"):
        loaded.predict(tmp_path / "b.png")


def made(mask: np.ndarray, **changes: object) -> Prediction:
    """Returns a prediction of three classes with the ids 0, 127 and 255, the first black."""
    palette = [[0, 0, 0], [200, 0, 0], [0, 100, 0]]
    image = np.full((*mask.shape, 3), 100, np.uint8)
    return Prediction(
        mask, np.array([0, 127, 255], np.uint8), ("ground", "road", "tree"), palette, image, "a/b", **changes
    )


def test_overlays() -> None:
    """Tests the opacity, that a black class does not darken the image, and the legend beside it."""
    found = made(np.array([[0, 127], [255, 255]], np.uint8).repeat(20, 0).repeat(20, 1))
    plain = np.asarray(found.overlay(0.25, legend=False))
    assert [plain[0, 0].tolist(), plain[0, 39].tolist(), plain[39, 0].tolist()] == [
        [100, 100, 100], [125, 75, 75], [75, 100, 75],
    ]  # fmt: skip
    legend = np.asarray(found.overlay(0.25))
    np.testing.assert_array_equal(legend[:, :40], plain)
    side = {tuple(colour) for colour in legend[:, 40:].reshape(-1, 3).tolist()}
    assert legend.shape[1] > 60 and {(200, 0, 0), (0, 100, 0), (255, 255, 255)} <= side
    with raises_one_line(ValueError, "0..1", "2"):
        found.overlay(2)


def test_what_is_written(tmp_path: Path) -> None:
    found = made(np.array([[0, 127, 255]], np.uint8), probabilities=np.ones((3, 1, 3), np.float32) / 3)
    found.save(tmp_path)
    found.save(tmp_path / "mask.png")
    for path in (tmp_path / "labels/a/b.png", tmp_path / "mask.png"):
        with Image.open(path) as label:
            assert label.mode == "P" and np.asarray(label).tolist() == [[0, 127, 255]]
            assert np.asarray(label.convert("RGB"))[0].tolist() == [list(colour) for colour in found.palette]
    assert (tmp_path / "overlays/a/b.png").is_file()
    np.testing.assert_array_equal(np.load(tmp_path / "probabilities/a/b.npy"), found.probabilities)
    with raises_one_line(ValueError, tmp_path / "a.jpg", ".png"):
        found.save(tmp_path / "a.jpg")


def test_pages_that_are_left_out_are_named(loaded: Segmentor, tmp_path: Path) -> None:
    pages = [Image.fromarray(scene(seed=seed)) for seed in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(UserWarning) as caught:
        found = loaded.predict(tmp_path / "a.tif")
    assert all(word in str(caught[0].message) for word in (str(tmp_path / "a.tif"), "3 pages", "first"))
    np.testing.assert_array_equal(found.mask, loaded.predict(pages[0]).mask)
