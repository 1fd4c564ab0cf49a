"""Tests the synthetic sample: the same bytes for the same seed, ADE20K's layout, and not solved by colour."""

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import raises_one_line

from vil_dense.synthetic import scenes
from vil_dense.synthetic.scenes import CLASSES, PALETTE, draw_size, make_scene, write_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("data") / "sample", train=60, val=20, seed=0)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pairs(root: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    names = sorted(path.stem for path in (root / "images" / split).iterdir())
    return [
        (
            np.asarray(Image.open(root / "images" / split / f"{name}.jpg")),
            np.asarray(Image.open(root / "annotations" / split / f"{name}.png")),
        )
        for name in names
    ]


def colour_bins(image: np.ndarray) -> np.ndarray:
    r, g, b = np.moveaxis(image.astype(int) // 16, -1, 0)
    return (r * 16 + g) * 16 + b


def colour_classifier_miou(train: list, val: list) -> float:
    """Returns held-out mIoU in percent of the most likely class of each of 16 x 16 x 16 colours."""
    counts = np.zeros((16**3, len(CLASSES) + 1))
    for image, label in train:
        np.add.at(counts, (colour_bins(image), label), 1)
    likely = counts[:, 1:].argmax(1) + 1
    confusion = np.zeros((len(CLASSES) + 1,) * 2)
    for image, label in val:
        np.add.at(confusion, (label, likely[colour_bins(image)]), 1)
    hits, confusion = np.diag(confusion)[1:], confusion[1:, 1:]
    return 100 * float(np.mean(hits / (confusion.sum(0) + confusion.sum(1) - hits)))


def test_twelve_classes_each_have_their_own_colour_and_texture() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == len(set(PALETTE)) == 12
    assert set(scenes.TEXTURES) == set(CLASSES)


@pytest.mark.parametrize("size", [(33, 47), (96, 96), (161, 97), (97, 240)])
def test_scene_has_the_size_asked_for(size: tuple[int, int]) -> None:
    image, label = make_scene(np.random.default_rng(0), size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert label.shape == size and label.dtype == np.uint8


def test_same_state_gives_the_same_scene_and_another_a_different_one() -> None:
    (a, la), (b, lb), (c, _) = (make_scene(np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(a, b) and np.array_equal(la, lb)
    assert not np.array_equal(a, c)


def test_sizes_vary_with_odd_and_upright_ones_among_them() -> None:
    rng = np.random.default_rng(0)
    sizes = [draw_size(rng) for _ in range(100)]
    assert all(96 <= min(size) <= 160 for size in sizes)
    assert len(set(sizes)) > 80
    assert any(h % 2 and w % 2 for h, w in sizes) and any(h > w for h, w in sizes) and any(h < w for h, w in sizes)


def test_layout_is_that_of_ade20k(sample: Path) -> None:
    for split, count in (("training", 60), ("validation", 20)):
        images = {path.stem for path in (sample / "images" / split).glob("*.jpg")}
        assert len(images) == count
        assert images == {path.stem for path in (sample / "annotations" / split).glob("*.png")}
    for folder, kind in (("images", "JPEG"), ("annotations", "PNG")):
        for path in (sample / folder).rglob("*.*"):
            with Image.open(path) as picture:
                assert picture.format == kind
    assert (sample / "objectInfo.txt").read_text().splitlines()[1:3] == ["0\tother", "1\tsky"]
    assert sorted(path.name for path in sample.parent.iterdir()) == ["sample"]


@pytest.mark.parametrize("split", ["training", "validation"])
def test_labels_fit_their_pictures_and_hold_every_class_and_other(sample: Path, split: str) -> None:
    seen: set[int] = set()
    for image, label in pairs(sample, split):
        assert image.shape == (*label.shape, 3) and label.dtype == np.uint8
        seen |= set(np.unique(label).tolist())
    assert seen == set(range(len(CLASSES) + 1))


def test_no_class_is_rare_or_everywhere(sample: Path) -> None:
    counts = sum(np.bincount(label.ravel(), minlength=13) for _, label in pairs(sample, "training"))
    share = dict(zip(("other", *CLASSES), counts / counts.sum(), strict=True))
    assert max(share.values()) < 0.3, share
    assert min(share[name] for name in CLASSES) > 0.02, share


def test_colour_alone_scores_under_40(sample: Path) -> None:
    train, val = pairs(sample, "training"), pairs(sample, "validation")
    assert colour_classifier_miou(train, val) < 40
    palette = np.array([(0, 0, 0), *PALETTE], np.uint8)
    told = [(palette[label], label) for _, label in train], [(palette[label], label) for _, label in val]
    assert colour_classifier_miou(*told) > 99, "the classifier itself must be able to win"


def test_splits_share_no_picture(sample: Path) -> None:
    prints = list(digest(sample / "images").values())
    assert len(set(prints)) == len(prints)


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    a, b, c = (digest(write_sample(tmp_path / n, train=3, val=2, seed=s)) for n, s in (("a", 5), ("b", 5), ("c", 6)))
    assert a == b
    assert all(a[name] != c[name] for name in a if name.startswith("images"))


def test_second_call_leaves_the_sample_be(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    for _ in range(2):
        root = write_sample(tmp_path / "s", train=2, val=1, seed=0, report=lambda *at: calls.append(at))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert json.loads((root / "sample.json").read_text())["seed"] == 0


def test_other_parameters_or_a_lost_file_make_it_again(tmp_path: Path) -> None:
    root = write_sample(tmp_path / "s", train=2, val=1, seed=0)
    before = digest(root)
    next((root / "images/training").iterdir()).unlink()
    assert digest(write_sample(root, train=2, val=1, seed=0)) == before
    write_sample(root, train=1, val=1, seed=0)
    assert len(list((root / "images/training").iterdir())) == 1


def test_a_stopped_run_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "s", train=2, val=1, report=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["holiday.jpg", "sample.json"])
def test_a_strange_folder_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with raises_one_line(FileExistsError, tmp_path):
        write_sample(tmp_path, train=1, val=1)
    assert (tmp_path / name).read_text() == "mine"


def test_tool_says_where_sample_and_contact_sheet_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made/sample"
    monkeypatch.setattr(
        "sys.argv", ["dataset_converters/make_sample.py", "--out", str(out), "--train", "2", "--val", "1"]
    )
    runpy.run_path(str(Path(__file__).parents[2] / "tools/dataset_converters/make_sample.py"), run_name="__main__")
    said = capsys.readouterr()
    assert f"sample: {out} (2 + 1 pictures, 12 classes)" in said.out
    assert said.err == "pictures: 3 of 3, ETA 0:00:00\n"
    with Image.open(tmp_path / "made/sample_sheet.png") as sheet:
        assert sheet.width > 1000
