"""Tests labels that are looked at before the first step: what is counted, what stops a run, what is only said."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.dataset import ConcatDataset
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image
from refusals import assert_one_line, raises_one_line
from torch import nn

import vil_dense.mm.datasets.segmentation  # noqa: F401
from vil_dense.files import sample_evenly
from vil_dense.mm.datasets.checks import labels as label_check
from vil_dense.mm.datasets.checks.labels import (
    Survey,
    count_labels,
    find_errors,
    find_warnings,
    table,
)
from vil_dense.mm.datasets.checks.pairs import load_pair, read_pair
from vil_dense.mm.datasets.label_ids import trained_ids
from vil_dense.mm.datasets.wrappers import parts

PIPELINE = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), dict(type="PackSegInputs")]


def build(root: Path, labels: list[np.ndarray], kind: str = "BaseSegDataset", **options) -> BaseSegDataset:
    """Returns a data set of made label maps and black pictures."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, label in enumerate(labels):
        Image.fromarray(np.zeros((*label.shape, 3), np.uint8)).save(root / f"images/{number:03d}.jpg")
        Image.fromarray(label).save(root / f"labels/{number:03d}.png")
    prefix = dict(img_path="images", seg_map_path="labels")
    return DATASETS.build(dict(type=kind, data_root=str(root), data_prefix=prefix, pipeline=PIPELINE) | options)


def ids(*values: int) -> np.ndarray:
    """Returns a label map with as many pixels of each id."""
    return np.array(values, np.uint8).repeat(16).reshape(len(values), 16)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("BaseSegDataset", {}),
        ("BaseSegDataset", dict(reduce_zero_label=True)),
        ("CamVidDataset", {}),
        ("CamVidDataset", dict(metainfo=dict(classes=("Car", "Sky")))),
        ("SampleDataset", {}),
        ("SampleDataset", dict(metainfo=dict(classes=("sun", "car")))),
    ],
)
def test_ids_are_those_that_training_sees(kind: str, options: dict, tmp_path: Path) -> None:
    """Compares all 256 of them with what the pipeline itself loads."""
    if kind == "SampleDataset" and options:
        options = dict(metainfo=dict(classes=DATASETS.get(kind).METAINFO["classes"][3:5]))
    dataset = build(tmp_path, [np.arange(256, dtype=np.uint8).reshape(16, 16)], kind, **options)
    loaded = dataset[0]["data_samples"].gt_sem_seg.data.numpy().ravel()
    np.testing.assert_array_equal(trained_ids(dataset.metainfo), loaded)


def test_pixels_and_pictures_are_counted(tmp_path: Path) -> None:
    dataset = build(tmp_path, [ids(0, 1, 1, 255), ids(1, 3)])
    survey = count_labels(dataset, 60)
    assert (survey.read, survey.pairs, survey.faults) == (2, 2, [])
    assert {id_: int(survey.pixels[id_]) for id_ in np.flatnonzero(survey.pixels)} == {0: 16, 1: 48, 3: 16, 255: 16}
    assert [int(survey.pictures[id_]) for id_ in (0, 1, 3, 255)] == [1, 2, 1, 1]
    assert survey.example[3].endswith("001.png")
    lines = table("train", survey, ["sky", "car", "sea"], 255).splitlines()
    assert lines[0] == "labels of the train data: 2 of 2 pairs read, evenly spread"
    assert [line.split() for line in lines[2:]] == [
        ["0", "sky", "16.67", "1"],
        ["1", "car", "50.00", "2"],
        ["2", "sea", "0.00", "0"],
        ["255", "ignored", "16.67", "1"],
        ["3", "no", "class,", "not", "ignored", "16.67", "1"],
    ]


def test_the_table_has_no_ignored_pixels_of_the_name_of_a_class() -> None:
    """Tests files of 0 and 255, where both are classes."""
    rows = table("train", surveyed({0: 5, 1: 5}), ["0", "255"], 255).splitlines()[2:]
    assert [row.split()[1] for row in rows] == ["0", "255"]


def test_nothing_is_learned_of_a_single_class() -> None:
    assert_one_line(find_errors(surveyed({0: 5}), 1, 255, False), "class 0", "id 0")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 367])
def test_any_beginning_of_the_order_is_spread(count: int) -> None:
    order = sample_evenly(count)
    assert sorted(order) == list(range(count))
    for taken in (10, 30):
        if count > 3 * taken:
            gaps = np.diff(sorted([0, *order[:taken], count]))
            assert gaps.max() < 3 * count / taken, (count, taken)


def test_time_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build(tmp_path, [ids(0, 1)] * 12)
    clock = iter(range(1000))
    monkeypatch.setattr(label_check.time, "monotonic", lambda: next(clock))
    assert count_labels(dataset, 5).read == 6
    monkeypatch.setattr(label_check.time, "monotonic", time.monotonic)
    assert count_labels(dataset, 0).read == 1


def surveyed(raw: dict[int, int], reduce_zero_label: bool = False) -> Survey:
    """Returns a survey of one picture with so many pixels of each id."""
    survey = Survey(1, read=1)
    for id_, count in raw.items():
        seen = 255 if reduce_zero_label and id_ in (0, 255) else id_ - reduce_zero_label
        survey.raw[id_] += count
        survey.pixels[seen] += count
        survey.pictures[seen] = 1
        survey.example.setdefault(seen, "a.png")
    return survey


@pytest.mark.parametrize(
    ("raw", "options", "names"),
    [
        ({0: 5, 1: 5, 2: 5, 255: 5}, {}, ()),
        ({0: 5, 1: 5, 3: 5}, dict(reduce_zero_label=True), ()),
        (
            {0: 5, 1: 5, 3: 10},
            {},
            ("50 %", "3 classes", "0 to 2", "255", "id 3", "a.png", "reduce_zero_label=True", "num_classes"),
        ),
        ({0: 5, 1: 5, 9: 5, 100: 5}, {}, ("ids 9, 100", "a.png", "num_classes")),
        (
            {1: 5, 4: 5},
            dict(reduce_zero_label=True),
            ("id 3 ", "reduce_zero_label", "a.png", "num_classes"),
        ),
        (
            {0: 5, 1: 5, 255: 5},
            dict(ignored=7),
            ("id 255", "a.png", "ignore_index=255"),
        ),
        (
            {0: 5},
            dict(reduce_zero_label=True),
            ("ignored, 255", "id 0", "reduce_zero_label=True"),
        ),
        ({255: 5}, {}, ("ignored, 255", "id 255")),
        (
            {0: 5, 255: 5},
            {},
            ("class 0", "ids 0, 255", "ignored"),
        ),
        ({0: 5, 1: 5}, dict(reduce_zero_label=True), ("ids 0, 1", "reduce_zero_label=True")),
        ({2: 5}, {}, ("class 2", "id 2")),
        ({2: 5}, dict(train=False), ()),
        ({2: 5, 7: 5}, dict(train=False), ("id 7",)),
    ],
)
def test_what_stops_a_run(raw: dict, options: dict, names: tuple[str, ...]) -> None:
    options = dict(ignored=255, reduce_zero_label=False) | options
    said = find_errors(surveyed(raw, options["reduce_zero_label"]), 3, **options)
    if names:
        assert_one_line(said, *names)
    else:
        assert said == ""


def test_what_is_only_said() -> None:
    names = ["sky", "car", "sea"]
    assert find_warnings(surveyed({0: 5, 1: 5, 2: 5}), names, 255, False) == []
    (absent,) = find_warnings(surveyed({0: 5, 1: 5}), names, 255, False)
    assert_one_line(absent, "sea")
    (absent,) = find_warnings(surveyed({0: 5, 1: 5}), list("abcdefg"), 255, False)
    assert_one_line(absent, "c, d, e", "2 more")
    absent, counted = find_warnings(surveyed({0: 5, 1: 5, 2: 5}, True), names, 255, True)
    assert_one_line(absent, "sea")
    assert_one_line(counted, "reduce_zero_label=True", "id 0", "id 3")
    assert find_warnings(surveyed({1: 5, 2: 5, 3: 5}, True), names, 255, True) == []


def test_faults_of_many_pairs_are_three_and_a_count(tmp_path: Path) -> None:
    dataset = build(tmp_path, [ids(0, 1)] * 6)
    for number in range(5):
        (tmp_path / f"labels/{number:03d}.png").write_bytes(b"")
    said = find_errors(count_labels(dataset, 60), 2, 255, False)
    assert_one_line(said, "5 of 6", "2 more")
    assert said.count(".png") == 3


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16"])
def test_kinds_of_labels_that_are_read(mode: str, tmp_path: Path) -> None:
    """Compares them with what mmseg's own loader reads."""
    label = Image.fromarray(ids(0, 1))
    if mode == "P":
        label.putpalette([200, 0, 0, 0, 200, 0])
    elif mode == "I;16":
        label = Image.fromarray(ids(0, 1).astype(np.uint16))
    else:
        label = label.convert(mode) if mode != "1" else Image.fromarray(ids(0, 1) > 0)
    dataset = build(tmp_path, [ids(0, 1)])
    label.save(tmp_path / "labels/000.png")
    read = read_pair(str(tmp_path / "images/000.jpg"), str(tmp_path / "labels/000.png"))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, dataset[0]["data_samples"].gt_sem_seg.data[0].numpy())


def test_parts_of_joined_data_sets_are_found(tmp_path: Path) -> None:
    one, other = build(tmp_path / "a", [ids(0, 1)]), build(tmp_path / "b", [ids(0, 1)])
    assert list(parts(ConcatDataset([one, other]))) == [one, other] and label_check.is_labelled(one)
    unlabelled = build(tmp_path / "c", [ids(0, 1)], data_prefix=dict(img_path="images"), pipeline=[])
    assert not label_check.is_labelled(unlabelled)


def test_a_picture_of_16_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 4), 4095, np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(ids(0, 1)[:4, :4]).save(tmp_path / "label.png")
    files = str(tmp_path / "a.png"), str(tmp_path / "label.png")
    with raises_one_line(ValueError, "a.png", "uint16", "unchanged"):
        read_pair(*files)
    assert read_pair(*files, any_bits=True).shape == (2, 4)


def test_a_pipeline_that_keeps_all_bits_may_have_them(tmp_path: Path) -> None:
    """Tests pictures of 16 bits in two pipelines, and the size of one that an own step loads."""
    steps = [dict(type="LoadImageFromFile", color_type="unchanged"), dict(type="LoadAnnotations")]
    deep = build(tmp_path, [ids(0, 1)], pipeline=steps)
    path = deep.get_data_info(0)["img_path"]
    size = np.asarray(Image.open(path)).shape[:2]
    Image.fromarray(np.full(size, 4095, np.uint16)).save(path, "PNG")
    assert label_check.count_labels(deep, 1).faults == []
    steps[0].pop("color_type")
    assert "unchanged" in label_check.count_labels(build(tmp_path, [], pipeline=steps), 1).faults[0]
    own = [lambda results: dict(results, img=np.zeros((3, 5)), gt_seg_map=np.zeros((4, 4), np.uint8))]
    with raises_one_line(ValueError, "3 x 5", "4 x 4", "a.png", "b.png"):
        load_pair(dict(img_path="a.png", seg_map_path="b.png"), own)


def test_a_program_under_the_name_of_a_picture_is_not_started(tmp_path: Path) -> None:
    """Tests PostScript, which Pillow would hand to an interpreter, whatever the name of the file."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n")
    Image.fromarray(ids(0, 1)[:4, :4]).save(tmp_path / "label.png")
    with pytest.raises(ValueError, match=r"a\.png .*unknown"):
        read_pair(str(tmp_path / "a.png"), str(tmp_path / "label.png"))


def test_pictures_of_other_endings_are_named(tmp_path: Path) -> None:
    """Tests that pictures are named where mmseg takes one ending and drops the others without a word."""
    build(tmp_path, [ids(0, 1)] * 3)
    images = tmp_path / "images"
    first = sorted(images.iterdir())[0]
    for name in ("a.JPG", "b.jpeg", ".hidden"):
        (images / name).write_bytes(first.read_bytes())
    dataset, lines = build(tmp_path, [ids(0, 1)] * 3, metainfo=dict(classes=("a", "b", "sea"))), []
    model = nn.Module()
    model.decode_head = SimpleNamespace(num_classes=3, ignore_index=255, loss_decode=None)
    model.data_preprocessor = SimpleNamespace(seg_pad_val=255)
    label_check._check("train", dataset, model, [], 60, lines.append)
    assert lines[0].startswith(f"warning: 2 files in {images} are not read: a.JPG, b.jpeg (")
    assert_one_line(lines[-1], "warning: ", "the train data", "sea")


@TRANSFORMS.register_module(force=True)
class LoadColours(BaseTransform):
    """Loads as a user's own class might: the red channel of a colour picture is the class."""

    def transform(self, results: dict) -> dict:
        pixels = np.asarray(Image.open(results["seg_map_path"]))
        results["gt_seg_map"] = (pixels[..., 0] // 100) if results["red"] else pixels
        return results


def test_labels_are_read_by_the_loader_of_the_pipeline(tmp_path: Path) -> None:
    colours = np.stack([ids(0, 1, 2) * 100] * 3, -1)
    dataset = build(tmp_path, [ids(0, 1, 2)] * 2, pipeline=[PIPELINE[0], dict(type="LoadColours"), PIPELINE[2]])
    for number in range(2):
        Image.fromarray(colours).save(tmp_path / f"labels/{number:03d}.png")
    dataset._metainfo["label_map"] = {0: 9}  # of mmseg's loader, which is not used
    for red, faults in ((True, 0), (False, 2)):
        dataset.get_data_info = lambda index, red=red: dict(type(dataset).get_data_info(dataset, index), red=red)
        survey = count_labels(dataset, 60)
        assert len(survey.faults) == faults
        assert np.flatnonzero(survey.pixels).tolist() == ([0, 1, 2] if red else [])
    assert_one_line(survey.faults[0], "LoadColours", "labels/000.png", "(H, W)")
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(tmp_path / "labels/000.png")
    dataset.get_data_info = lambda index: dict(type(dataset).get_data_info(dataset, index), red=True)
    (fault,) = count_labels(dataset, 60).faults
    assert_one_line(fault, "5 x 4", "labels/000.png")
    dataset.get_data_info = type(dataset).get_data_info.__get__(dataset)
    (fault, _) = count_labels(dataset, 60).faults
    assert_one_line(fault, "KeyError", "labels/000.png", "red")
