"""Tests GeoTIFF tiles of five bands and 16 bits in a pipeline of mmseg: bands, scaling, nodata, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import raises_one_line

rasterio = pytest.importorskip("rasterio", reason="GeoTIFF needs the extra raster")
from mmengine.registry import MODELS  # noqa: E402
from mmseg.registry import DATASETS  # noqa: E402
from rasters import blocks, write_raster  # noqa: E402

from vil_dense.mm.datasets.checks.labels import count_labels  # noqa: E402
from vil_dense.mm.datasets.folders.masks import read_mask  # noqa: E402
from vil_dense.mm.datasets.segmentation import CheckedDataset  # noqa: E402
from vil_dense.mm.datasets.transforms.raster import LoadRasterAnnotations, LoadRasterFromFile  # noqa: E402

STEPS = [
    dict(type="LoadRasterFromFile", bands=[5, 1, 2], ranges=(0, 10000)),
    dict(type="LoadRasterAnnotations"),
    dict(type="PackSegInputs"),
]


def write_tiles(root: Path) -> np.ndarray:
    """Writes one tile and its label, each with a strip of nodata; returns the pixels of the tile."""
    pixels = blocks(5, 40, 60, 10000, np.uint16)
    pixels[:, :, :10] = 65535
    label = blocks(1, 40, 60, 3)
    label[:, :5] = 200
    write_raster(root / "images/a.tif", pixels, nodata=65535)
    write_raster(root / "labels/a.tif", label, nodata=200)
    return pixels


def test_a_pipeline_of_five_bands(tmp_path: Path) -> None:
    pixels = write_tiles(tmp_path)
    dataset = CheckedDataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path="images", seg_map_path="labels"),
        seg_map_suffix=".tif",
        metainfo=dict(classes=("a", "b", "c")),
        pipeline=STEPS,
    )
    sample = dataset[0]
    expected = np.where(pixels == 65535, 0, pixels / np.float32(10000) * 255)[[4, 0, 1]]
    np.testing.assert_allclose(sample["inputs"].numpy(), expected, atol=1e-3)
    label = sample["data_samples"].gt_sem_seg.data[0].numpy()
    assert (label[:, :10] == 255).all() and (label[:5] == 255).all() and label[5:, 10:].max() == 2
    survey = count_labels(dataset, seconds=5)
    assert not survey.faults and survey.pixels[255] == (label == 255).sum()


@pytest.mark.parametrize("load", ["LoadImageFromFile", "LoadRasterFromFile"])
@pytest.mark.parametrize("coding", ["ids", "colours"])
def test_nodata_of_own_pictures_and_masks_is_ignored(coding: str, load: str, tmp_path: Path) -> None:
    """Tests strips of nodata by value and by mask band, which are neither a class nor counted."""
    labels = np.array([[0, 0, 0], [90, 0, 0], [200, 200, 200]], np.uint8)[blocks(1, 40, 60, 2)[0]].transpose(2, 0, 1)
    labels[:, :5] = 200
    picture = blocks(3, 40, 60, 255)
    picture[:, :, :10] = 255
    picture[0, :, 10:20] = 255
    for name in ("train", "val"):
        write_raster(tmp_path / f"images/{name}/a.tif", picture, nodata=255)
        path = write_raster(tmp_path / f"masks/{name}/a.tif", labels if coding == "colours" else labels[:1], nodata=200)
        with rasterio.open(path, "r+") as dataset:
            valid = dataset.dataset_mask() > 0
            dataset.nodata = None
            valid[:, 55:] = False
            dataset.write_mask(valid)
    pipeline = [dict(type=load), dict(type="LoadMask"), dict(type="PackSegInputs")]
    dataset = DATASETS.build(dict(type="PictureFolder", data_root=str(tmp_path), pipeline=pipeline))
    assert len(dataset.metainfo["classes"]) == 2
    label = dataset[0]["data_samples"].gt_sem_seg.data[0].numpy()
    expected = blocks(1, 40, 60, 2)[0]
    expected[:5], expected[:, :10], expected[:, 55:] = 255, 255, 255
    np.testing.assert_array_equal(label, expected)


def test_nodata_without_rasterio_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = write_raster(tmp_path / "a.tif", blocks(1, 40, 60, 3), nodata=2)
    plain = write_raster(tmp_path / "b.tif", blocks(1, 40, 60, 3))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    monkeypatch.setattr("vil_dense.mm.datasets.transforms.raster.find_spec", lambda name: None)
    assert read_mask(plain).max() == 2
    with raises_one_line(ImportError, "rasterio"):
        read_mask(marked)


def test_each_band_is_normalised() -> None:
    preprocessor = MODELS.build(dict(type="BandPreprocessor", mean=[1.0, 2, 3, 4, 5], std=[2.0] * 5))
    found = preprocessor(dict(inputs=[torch.full((5, 4, 4), 5.0)]))["inputs"]
    assert found[0, :, 0, 0].tolist() == [2, 1.5, 1, 0.5, 0]


def test_what_is_refused(tmp_path: Path) -> None:
    write_tiles(tmp_path)
    with raises_one_line(ValueError, "ranges", "percentiles"):
        LoadRasterFromFile(ranges=(0, 1), percentiles=(2, 98))
    with raises_one_line(ValueError, "ranges", "[5, 1]"):
        LoadRasterFromFile(ranges=[5, 1])
    with raises_one_line(ValueError, "ranges for 2 bands", "5"):
        LoadRasterFromFile(ranges=[(0, 1), (0, 2)]).transform(dict(img_path=tmp_path / "images/a.tif"))
    small = write_raster(tmp_path / "b.tif", blocks(1, 40, 50, 3))
    with raises_one_line(ValueError, small, "40 x 60", "40 x 50"):
        LoadRasterAnnotations().transform(dict(img_path=tmp_path / "images/a.tif", seg_map_path=small))
    with raises_one_line(ValueError, "5 bands"):
        LoadRasterAnnotations().transform(dict(img_path=small, seg_map_path=tmp_path / "images/a.tif"))
