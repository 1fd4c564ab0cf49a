"""Tests datasets: labels as loss and metric want them, and missing data told in one sentence before training starts."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import raises_one_line

pytest.importorskip("mmseg", reason="mmsegmentation is missing: pip install '.[seg]'")

from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS

import vil_dense.mm.datasets.segmentation  # noqa: F401
from vil_dense.mm.evaluation.metrics import ClassIoUMetric
from vil_dense.synthetic.scenes import CLASSES, write_sample

PIPELINE = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), dict(type="PackSegInputs")]
DATA = Path(os.environ.get("VIL_DENSE_DATA", Path(__file__).parents[3] / "../shared/data"))
ALL = ["SampleDataset", "CamVidDataset", "CheckedADE20KDataset"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("data") / "sample", train=3, val=2)


def build(kind: str, root: Path, split: str = "training", **options):
    prefix = dict(img_path=f"images/{split}", seg_map_path=f"annotations/{split}")
    return DATASETS.build(dict(type=kind, data_root=str(root), data_prefix=prefix, pipeline=PIPELINE) | options)


def real(folder: str) -> Path:
    if not (DATA / folder).is_dir():
        pytest.skip(f"no real data at {DATA / folder}: set VIL_DENSE_DATA to the folder that holds {folder}")
    return DATA / folder


def labels_of(dataset, n: int = 0) -> torch.Tensor:
    return dataset[n]["data_samples"].gt_sem_seg.data[0]


def write_pair(root: Path, label: np.ndarray) -> Path:
    for folder, picture, suffix in (
        ("images", np.zeros((*label.shape, 3), np.uint8), "jpg"),
        ("annotations", label, "png"),
    ):
        (root / folder / "training").mkdir(parents=True)
        Image.fromarray(picture).save(root / folder / "training" / f"a.{suffix}")
    return root


def test_sample_takes_other_as_255_and_classes_from_0(sample: Path) -> None:
    dataset = build("SampleDataset", sample)
    assert dataset.metainfo["classes"] == CLASSES and len(dataset.metainfo["palette"]) == 12
    assert len(dataset) == 3
    written = np.asarray(Image.open(sample / "annotations/training/training_00000.png")).astype(int)
    assert np.array_equal(labels_of(dataset).numpy(), np.where(written == 0, 255, written - 1))


def test_camvid_takes_unlabelled_as_255(tmp_path: Path) -> None:
    dataset = build("CamVidDataset", write_pair(tmp_path, np.arange(12, dtype=np.uint8).reshape(3, 4)))
    assert labels_of(dataset).flatten().tolist() == [*range(11), 255]


def test_camvid_with_fewer_classes_still_ignores_unlabelled(tmp_path: Path) -> None:
    root = write_pair(tmp_path, np.arange(12, dtype=np.uint8).reshape(3, 4))
    dataset = build("CamVidDataset", root, metainfo=dict(classes=("Car", "Sky")))
    assert labels_of(dataset).flatten().tolist() == [1, *[255] * 7, 0, 255, 255, 255]
    assert dataset.metainfo["palette"] == [[64, 0, 128], [128, 128, 128]]


def test_camvid_unlabelled_counts_in_neither_loss_nor_metric(tmp_path: Path) -> None:
    label = labels_of(build("CamVidDataset", write_pair(tmp_path, np.array([[0, 3], [8, 11]], np.uint8))))
    scores = torch.nn.functional.one_hot(torch.tensor([[0, 3], [8, 5]]), 11).movedim(-1, 0).float() * 50
    assert torch.nn.functional.cross_entropy(scores[None], label[None].long(), ignore_index=255) < 1e-9
    areas = IoUMetric.intersect_and_union(scores.argmax(0), label, 11, 255)
    assert [area.sum().item() for area in areas] == [3, 3, 3, 3]


def test_ade20k_has_mmsegs_150_classes(tmp_path: Path) -> None:
    dataset = build("CheckedADE20KDataset", write_pair(tmp_path, np.array([[0, 1], [2, 150]], np.uint8)))
    assert len(dataset.metainfo["classes"]) == len(dataset.metainfo["palette"]) == 150
    assert labels_of(dataset).flatten().tolist() == [255, 0, 1, 149]


@pytest.mark.parametrize("kind", ALL)
def test_missing_root_is_told(kind: str, tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, kind, tmp_path / "gone", "data_root"):
        build(kind, tmp_path / "gone")


@pytest.mark.parametrize("kind", ALL)
def test_empty_root_is_told(kind: str, tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, tmp_path / "images/training"):
        build(kind, tmp_path)


@pytest.mark.parametrize("kind", ALL)
def test_empty_folder_is_told(kind: str, tmp_path: Path) -> None:
    (tmp_path / "images/training").mkdir(parents=True)
    with raises_one_line(FileNotFoundError, tmp_path / "annotations/training"):
        build(kind, tmp_path)
    (tmp_path / "annotations/training").mkdir(parents=True)
    with raises_one_line(FileNotFoundError, ".jpg", tmp_path / "images/training"):
        build(kind, tmp_path)


@pytest.mark.parametrize("kind", ALL)
def test_missing_label_is_told(kind: str, tmp_path: Path) -> None:
    root = write_pair(tmp_path, np.ones((2, 2), np.uint8))
    (root / "annotations/training/a.png").unlink()
    with raises_one_line(FileNotFoundError, "/a.jpg", "/annotations/training/a.png"):
        build(kind, root)


@pytest.mark.parametrize("name", ["images/training/a.jpg", "annotations/training/a.png"])
def test_a_pipe_is_no_picture(name: str, tmp_path: Path) -> None:
    """Tests that no pipe is read, which would wait for ever."""
    root = write_pair(tmp_path, np.ones((2, 2), np.uint8))
    (root / name).unlink()
    os.mkfifo(root / name)
    with raises_one_line(ValueError, f"/{name}"):
        build("SampleDataset", root)


def test_listed_pictures_are_looked_for(tmp_path: Path) -> None:
    root = write_pair(tmp_path, np.ones((2, 2), np.uint8))
    with raises_one_line(FileNotFoundError, "/train.txt"):
        build("SampleDataset", root, ann_file="train.txt")
    (root / "train.txt").write_text("a\nb\n")
    with raises_one_line(FileNotFoundError, "/images/training/b.jpg"):
        build("SampleDataset", root, ann_file="train.txt")


def test_pictures_without_labels_can_be_listed(sample: Path) -> None:
    dataset = build("SampleDataset", sample, data_prefix=dict(img_path="images/validation"), pipeline=PIPELINE[:1])
    assert len(dataset) == 2 and dataset[0]["img"].ndim == 3


def test_all_of_camvid_loads() -> None:
    root = real("camvid")
    assert [len(build("CamVidDataset", root, split)) for split in ("train", "val")] == [367, 101]
    dataset = build("CamVidDataset", root, "val")
    seen = torch.cat([labels_of(dataset, n).unique() for n in range(0, 101, 20)]).unique()
    assert labels_of(dataset).shape == (360, 480)
    assert seen.tolist() == [*range(11), 255]


def test_true_ade20k_pairs_load() -> None:
    root = real("ade20k")
    for split in ("training", "validation"):
        dataset = build("CheckedADE20KDataset", root, split)
        assert len(dataset) == 3
        for item in dataset:
            label = item["data_samples"].gt_sem_seg.data[0]
            written = np.asarray(Image.open(item["data_samples"].seg_map_path)).astype(int)
            assert label.shape == item["inputs"].shape[1:]
            assert np.array_equal(label.numpy(), np.where(written == 0, 255, written - 1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_areas_are_those_of_mmseg(dtype: torch.dtype):
    prediction, label = torch.randint(0, 7, (2, 50, 60)).to(dtype)
    label[:9] = 255
    found = ClassIoUMetric.intersect_and_union(prediction, label, 9, 255)
    expected = IoUMetric.intersect_and_union(prediction, label, 9, 255)
    torch.testing.assert_close(found, tuple(area.double() for area in expected), rtol=0, atol=0)


def test_pictures_of_all_endings_are_paired(tmp_path: Path) -> None:
    """Mixes endings in upper and lower case, in folders; hidden files and other formats are left out."""
    names = ["a.jpg", "b.JPG", "c.jpeg", "d.png", "site/e.tif"]
    for name in [*names, ".hidden.jpg", "notes.txt"]:
        for path in (tmp_path / "images" / name, (tmp_path / "labels" / name).with_suffix(".png")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    prefix = dict(img_path="images", seg_map_path="labels")
    dataset = DATASETS.build(dict(type="CheckedDataset", data_root=str(tmp_path), data_prefix=prefix, pipeline=[]))
    pairs = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [str(Path(pair["img_path"]).relative_to(tmp_path / "images")) for pair in pairs] == names
    assert [Path(pair["seg_map_path"]).relative_to(tmp_path / "labels").stem for pair in pairs] == list("abcde")
    (tmp_path / "labels/d.png").unlink()
    with raises_one_line(FileNotFoundError, "d.png"):
        DATASETS.build(dict(type="CheckedDataset", data_root=str(tmp_path), data_prefix=prefix, pipeline=[]))


def one_folder(root: Path, names: str, **options: object) -> list[tuple[str, str]]:
    """Returns the pairs, as file names, of a data set whose pictures and labels are the files `names` in `root`."""
    for name in names.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    prefix = dict(img_path="", seg_map_path=options.pop("labels", ""))
    part = dict(type="CheckedDataset", data_root=str(root), data_prefix=prefix, pipeline=[], **options)
    dataset = DATASETS.build(part)
    pairs = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [tuple(os.path.relpath(pair[key], root) for key in ("img_path", "seg_map_path")) for pair in pairs]


@pytest.mark.parametrize(
    ("names", "options", "pairs"),
    [
        ("a.jpg a.png b.jpg b.png", {}, [("a.jpg", "a.png"), ("b.jpg", "b.png")]),
        ("a.png a_mask.png", dict(img_suffix=".png", seg_map_suffix="_mask.png"), [("a.png", "a_mask.png")]),
        ("a.png labels/a.png", dict(labels="labels"), [("a.png", "labels/a.png")]),
    ],
)
def test_labels_beside_or_below_pictures_are_no_pictures(
    names: str, options: dict, pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    assert one_folder(tmp_path, names, **options) == pairs


def test_a_file_is_not_its_own_label(tmp_path: Path) -> None:
    with raises_one_line(ValueError, "a.png"):
        one_folder(tmp_path, "a.png", img_suffix=".png")
