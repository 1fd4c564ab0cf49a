"""Tests GeoTIFFs in and out: place, colours and names are kept, and labels are those of the picture in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from live_memory import PeakResident
from PIL import Image, UnidentifiedImageError
from refusals import assert_one_line, raises_one_line
from sliding_models import slide

rasterio = pytest.importorskip("rasterio", reason="GeoTIFF needs the extra raster")
from rasterio.control import GroundControlPoint  # noqa: E402
from rasterio.rpc import RPC  # noqa: E402
from rasters import PLACE, blocks, raster_segmentor, write_raster  # noqa: E402

from vil_dense.mm import Segmentor  # noqa: E402
from vil_dense.mm.inference.pictures import why_unread  # noqa: E402
from vil_dense.mm.inference.raster import labels as raster  # noqa: E402
from vil_dense.mm.inference.raster import windows  # noqa: E402
from vil_dense.mm.inference.raster.windows import PIXEL_BYTES, RasterSource, WindowRunner  # noqa: E402
from vil_dense.mm.inference.sliding_window import cut, taper  # noqa: E402

WINDOWS = slide((64, 64), (43, 43))
RASTER_STEP = dict(type="LoadRasterFromFile", ranges=(0, 10000))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Segmentor:
    return raster_segmentor(tmp_path_factory.mktemp("model") / "run", WINDOWS)


@pytest.fixture(scope="module")
def model_of_five(tmp_path_factory: pytest.TempPathFactory) -> Segmentor:
    return raster_segmentor(tmp_path_factory.mktemp("five") / "run", WINDOWS, 5, RASTER_STEP)


def labels(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_labels_are_those_in_memory_at_the_same_place(model: Segmentor, tmp_path: Path) -> None:
    pixels = blocks(3, 150, 210)
    source = write_raster(tmp_path / "a.tif", pixels)
    model.predict_raster(source, tmp_path / "out.tif", blend="mean")
    expected = model.predict(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    assert len(np.unique(expected.mask)) > 1
    np.testing.assert_array_equal(labels(tmp_path / "out.tif"), expected.mask)
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as after:
        assert before.crs == after.crs and before.transform == after.transform and before.bounds == after.bounds
        corners = [(0, 0), (150, 0), (0, 210), (150, 210)]
        assert [before.xy(*corner) for corner in corners] == [after.xy(*corner) for corner in corners]
        assert after.profile["tiled"] and after.profile["compress"] == "deflate" and after.nodata is None
        assert after.dtypes == ("uint8",) and after.tags(1)["class_5"] == "tree"
        assert after.colormap(1)[5][:3] == tuple(expected.palette[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "out.tif", "out.tif.aux.xml"]


def test_tapered_windows_are_weighted(model: Segmentor, tmp_path: Path) -> None:
    """Tests against a plain loop over mmseg's logits of each window."""
    pixels = blocks(3, 90, 110)
    model.predict_raster(write_raster(tmp_path / "a.tif", pixels), tmp_path / "out.tif")
    windows, total = cut((90, 110), WINDOWS), torch.zeros(5, 90, 110)
    weight = taper(64)[:, None] * taper(64)
    inputs = model.prepare(np.ascontiguousarray(pixels.transpose(1, 2, 0))).inputs
    for top in windows.tops:
        for left in windows.lefts:
            place = slice(top, top + 64), slice(left, left + 64)
            with torch.no_grad():
                logits = model.model.encode_decode(inputs[..., *place], [dict(img_shape=(64, 64))])
                total[:, *place] += weight * torch.nn.functional.interpolate(logits, (64, 64), mode="bilinear")[0]
    found, expected = labels(tmp_path / "out.tif"), model.ids[total.argmax(0).numpy()]
    assert (found != expected).mean() < 1e-3 and weight.min() > 0


def test_stripes_and_blocks_change_nothing(model: Segmentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests a raster of several stripes and rows of blocks, of which the last ones are cut off."""
    source = write_raster(tmp_path / "a.tif", blocks(3, 150, 210), tiled=True, blockxsize=64, blockysize=64)
    model.predict_raster(source, tmp_path / "one.tif")
    for module in (raster, windows):
        monkeypatch.setattr(module, "BLOCK", 64)
    monkeypatch.setattr(windows, "LIVE_BYTES", 1)
    counts = []
    model.predict_raster(source, tmp_path / "many.tif", progress=lambda done, count: counts.append((done, count)))
    np.testing.assert_array_equal(labels(tmp_path / "many.tif"), labels(tmp_path / "one.tif"))
    assert counts[-1][0] == counts[-1][1] > len(cut((150, 210), WINDOWS).tops) * len(cut((150, 210), WINDOWS).lefts)
    with rasterio.open(tmp_path / "many.tif") as dataset:
        assert dataset.overviews(1) == [2, 4]


def test_bands_bits_and_nodata(model_of_five: Segmentor, tmp_path: Path) -> None:
    """Tests uint16 with its scaling of training; nodata stays nodata."""
    pixels = blocks(5, 80, 150, 10000, np.uint16)
    pixels[:, :, :70] = 65535
    source = write_raster(tmp_path / "a.tif", pixels, nodata=65535)
    model_of_five.predict_raster(source, tmp_path / "out.tif", blend="mean")
    found = labels(tmp_path / "out.tif")
    scaled = np.where(pixels == 65535, 0, pixels / np.float32(10000) * 255).astype(np.float32)
    prepared = model_of_five.prepare(source)
    torch.testing.assert_close(prepared.inputs[0], torch.from_numpy((scaled - 100) / 50), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found[:, 70:], model_of_five.run(prepared).mask[:, 70:])
    assert (found[:, :70] == 255).all() and 255 not in found[:, 70:]
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.nodata == 255
    other = write_raster(tmp_path / "b.tif", pixels[[4, 0, 1, 2, 3]].astype(np.float32), nodata=65535)
    model_of_five.predict_raster(other, tmp_path / "b_out.tif", bands=[2, 3, 4, 5, 1], blend="mean")
    np.testing.assert_array_equal(labels(tmp_path / "b_out.tif"), found)


def test_windows_without_data_are_not_run(model: Segmentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((3, 64, 500), np.uint8)
    pixels[..., 400:] = blocks(3, 64, 100)
    seen: list[int] = []
    run = model.logits
    monkeypatch.setattr(model, "logits", lambda inputs: seen.append(len(inputs)) or run(inputs))
    model.predict_raster(write_raster(tmp_path / "a.tif", pixels, nodata=0), tmp_path / "out.tif")
    assert sum(seen) <= 5


def test_ground_control_points_are_kept(model: Segmentor, tmp_path: Path) -> None:
    points = [GroundControlPoint(row, col, 10.0 + col, 50.0 - row) for row, col in ((0, 0), (0, 64), (64, 0))]
    source = write_raster(tmp_path / "a.tif", blocks(3, 64, 64), gcps=points, crs="EPSG:4326")
    assert raster.is_raster(source)
    model.predict_raster(source, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        found, crs = dataset.gcps
        assert [(point.row, point.x) for point in found] == [(point.row, point.x) for point in points]
        assert crs.to_epsg() == 4326


def rational_polynomials() -> RPC:
    """Returns RPCs whose numbers all differ from their defaults."""
    parts = ("line_num_coeff", "line_den_coeff", "samp_num_coeff", "samp_den_coeff")
    polynomials = {name: [1.0, *(0.1 * (start + step) for step in range(19))] for start, name in enumerate(parts)}
    scales = {f"{axis}_{kind}": 10.0 + len(axis) + len(kind) for axis in ("height", "lat", "long", "line", "samp")
              for kind in ("off", "scale")}  # fmt: skip
    return RPC(**polynomials, **scales)


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("GTiff", dict(BIGTIFF="YES")),
        ("COG", {}),
        ("GTiff", dict(rpcs=rational_polynomials(), crs=None, transform=None)),
    ],
    ids=["BigTIFF", "COG", "RPCs"],
)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_every_kind_keeps_its_place(driver: str, options: dict, model: Segmentor, tmp_path: Path) -> None:
    """Tests what QGIS reads: place, colours, names of the classes, overviews."""
    source = write_raster(tmp_path / "a.tif", blocks(3, 64, 530), driver=driver, **options)
    if "BIGTIFF" in options:
        assert source.read_bytes()[2] == 43  # the version of BigTIFF in the header
    assert raster.is_raster(source)
    model.predict_raster(source, tmp_path / "out.tif")
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as after:
        assert (after.crs, after.transform, after.shape) == (before.crs, before.transform, before.shape)
        assert after.rpcs == before.rpcs and (after.rpcs is not None) == ("rpcs" in options)
        assert (after.crs is not None) != ("rpcs" in options)
        assert after.overviews(1) == [2] and after.colormap(1)[5][:3] == tuple(model.palette[1])
    assert "<Category>tree</Category>" in (tmp_path / "out.tif.aux.xml").read_text()


@pytest.mark.parametrize("suffix", ["tif", "svs"])
def test_pictures_too_large_for_pillow(
    suffix: str, model: Segmentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests that a large TIFF without a place, as a whole slide of a microscope, is labelled in windows."""
    jpeg = dict(compress="jpeg", photometric="ycbcr", tiled=True, blockxsize=64, blockysize=64)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        source = write_raster(tmp_path / f"a.{suffix}", blocks(3, 100, 110), crs=None, transform=None, **jpeg)
    assert raster.split_rasters({source: Path("a")}) == ({source: Path("a")}, {})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100 * 110 // 2 - 1)
    assert raster.split_rasters({source: Path("a")}) == ({}, {source: Path("a")})
    model.predict_raster(source, tmp_path / "out.tif", blend="mean")
    monkeypatch.undo()
    with raster.open_raster(source) as dataset:
        expected = model.predict(np.ascontiguousarray(dataset.read().transpose(1, 2, 0)))  # JPEG as GDAL decodes it
    np.testing.assert_array_equal(labels(tmp_path / "out.tif"), expected.mask)


def test_how_to_bring_what_is_not_read() -> None:
    assert_one_line(why_unread(Path("b/a.mrxs"), UnidentifiedImageError()), "b/a.mrxs", "vips tiffsave a.mrxs a.tif")
    assert_one_line(why_unread(Path("a.png"), Image.DecompressionBombError()), "a.png", "px", "TIFF")


def test_stripes_of_many_bands_are_narrow(model_of_five: Segmentor, tmp_path: Path) -> None:
    """Tests that a stripe is bounded by the pixels that are read for it, not only by the logits."""
    widths = []
    for kind in (np.uint8, np.float64):
        source = write_raster(tmp_path / "a.tif", np.zeros((5, 64, 20_000), kind), compress="deflate")
        with raster.open_raster(source) as dataset:
            bands = RasterSource.of(model_of_five, dataset, (), None)
            cut = windows.raster_windows(model_of_five, dataset.shape)
            widths.append(WindowRunner(model_of_five, bands, cut).stripe_width())
    assert widths[1] * 512 * 5 * 11 < PIXEL_BYTES < 1.1 * widths[1] * 512 * 5 * 11 and widths[0] > 2 * widths[1]


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "most"), [((1024, 30_000), 0.75), ((30_000, 1024), 0.375)], ids=["wide", "high"])
def test_memory_of_a_raster_of_30_000_px(shape: tuple[int, int], most: float, tmp_path: Path) -> None:
    """Tests the GiB above the model for 30,000 px in either direction; the logits alone would take 0.57 GiB."""
    model = raster_segmentor(tmp_path / "run", slide((512, 512), (341, 341)))
    convolution = torch.nn.Conv2d(3, 5, 1).requires_grad_(False)
    model.logits = lambda inputs: convolution(torch.nn.functional.avg_pool2d(inputs, 4))  # type: ignore[method-assign]
    options = dict(tiled=True, blockxsize=512, blockysize=512, compress="deflate")
    source = write_raster(tmp_path / "a.tif", blocks(3, *shape), **options)
    model.predict_raster(write_raster(tmp_path / "b.tif", blocks(3, 600, 600)), tmp_path / "small.tif")
    with PeakResident() as memory:
        model.predict_raster(source, tmp_path / "out.tif")
    assert 2**25 < memory.grown < most * 2**30
    assert labels(tmp_path / "out.tif").shape == shape


def test_names_are_in_the_side_file_that_gdal_reads(model: Segmentor, tmp_path: Path) -> None:
    from rasterio.shutil import copy

    model.predict_raster(write_raster(tmp_path / "a.tif", blocks(3, 64, 64)), tmp_path / "out.tif")
    copy(tmp_path / "out.tif", tmp_path / "out.vrt", driver="VRT")
    assert "<Category>tree</Category>" in (tmp_path / "out.vrt").read_text()


def test_percentiles_scale_other_bits(model: Segmentor, tmp_path: Path) -> None:
    pixels = blocks(3, 64, 80)
    small = write_raster(tmp_path / "a.tif", pixels)
    large = write_raster(tmp_path / "b.tif", pixels.astype(np.uint16) * 100)
    with raises_one_line(ValueError, large, "uint16", "--percentiles"):
        model.predict_raster(large, tmp_path / "out.tif")
    for source, out in ((small, "a_out.tif"), (large, "b_out.tif")):
        model.predict_raster(source, tmp_path / out, percentiles=(0, 100))
    np.testing.assert_array_equal(labels(tmp_path / "a_out.tif"), labels(tmp_path / "b_out.tif"))
    with raises_one_line(ValueError, "percentiles", "(98, 2)"):
        model.predict_raster(large, tmp_path / "out.tif", percentiles=(98, 2))


def test_what_is_refused(model: Segmentor, tmp_path: Path) -> None:
    four = write_raster(tmp_path / "a.tif", blocks(4, 64, 64), photometric="minisblack", alpha="no")
    with raises_one_line(ValueError, four, "4 bands", "takes 3", "--bands"):
        model.predict_raster(four, tmp_path / "out.tif")
    with raises_one_line(ValueError, four, "band 7"):
        model.predict_raster(four, tmp_path / "out.tif", bands=[1, 2, 7])
    with raises_one_line(FileNotFoundError, tmp_path / "none.tif"):
        model.predict_raster(tmp_path / "none.tif", tmp_path / "out.tif")
    with raises_one_line(ValueError, "blend", "max"):
        model.predict_raster(four, tmp_path / "out.tif", blend="max")
    damaged = write_raster(tmp_path / "b.tif", blocks(3, 200, 200), compress="deflate")
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2] + b"\0" * (len(content) - len(content) // 2))
    with pytest.raises(ValueError) as caught:
        model.predict_raster(damaged, tmp_path / "out.tif")
    assert_one_line(str(caught.value), damaged)
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.glob(".part*"))


def test_an_alpha_band_is_a_mask(model: Segmentor, tmp_path: Path) -> None:
    pixels = blocks(3, 64, 80)
    alpha = np.full((1, 64, 80), 255, np.uint8)
    alpha[..., :20] = 0
    source = write_raster(tmp_path / "a.tif", np.concatenate([pixels, alpha]), photometric="rgb", alpha="yes")
    model.predict_raster(source, tmp_path / "out.tif")
    found = labels(tmp_path / "out.tif")
    assert (found[:, :20] == 255).all() and (found[:, 20:] != 255).all()


def test_which_files_are_rasters(tmp_path: Path) -> None:
    placed = write_raster(tmp_path / "a.tif", blocks(3, 20, 20))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        plain = write_raster(tmp_path / "b.tif", blocks(3, 20, 20), crs=None, transform=None)
    (tmp_path / "c.tif").write_bytes(b"II*\0 none")
    found = {tmp_path / name: Path(name[0]) for name in ("a.tif", "b.tif", "c.tif", "d.png")}
    pictures, rasters = raster.split_rasters(found)
    assert list(rasters) == [placed] and plain in pictures and len(pictures) == 3 and PLACE["crs"]
