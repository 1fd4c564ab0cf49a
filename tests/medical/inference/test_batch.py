"""Tests a folder of predictions: its files, resuming after an interruption, and nothing half written."""

import csv
import errno
import io
import json
import os
import re
import weakref
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nifti_files import affine, write_nifti
from PIL import Image
from refusals import assert_one_line, raises_one_line
from torch import Tensor, nn
from volume_plans import small_plan

from vil_dense.medical.datalists.inputs import find_cases
from vil_dense.medical.inference.batch import Folder
from vil_dense.medical.inference.probabilities import Probabilities
from vil_dense.medical.inference.report import read_report
from vil_dense.medical.inference.volume_memory import estimate
from vil_dense.medical.io.grid import Grid
from vil_dense.medical.io.volumes import read_grid, read_image

PLAN = small_plan("organ", "vessel", spacing_mm=(1.0, 1.0, 1.5))


class Counted(nn.Module):
    """Counts the windows of a convolution, and may stop at one of them."""

    def __init__(self, stop_at: int = -1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.windows, self.stop_at = nn.Conv3d(1, 3, 3, padding=1), 0, stop_at

    def forward(self, x: Tensor) -> Tensor:
        self.windows += 1
        if self.windows == self.stop_at:
            raise KeyboardInterrupt
        return self.conv(x)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Writes the cases a, b and c, of one window each at the plan's spacing."""
    for seed, name in enumerate("abc"):
        voxels = np.random.default_rng(seed).integers(0, 99, (7, 8, 11)).astype(np.int16)
        write_nifti(tmp_path / f"in/{name}.nii.gz", voxels, affine("LPS"))
    return tmp_path / "in"


def predicted(source: Path, out: Path, network: nn.Module | None = None, **options: object) -> tuple[dict, str]:
    """Failures, and what was said."""
    stream = io.StringIO()
    folder = Folder(out, [network or Counted()], PLAN, dict(checkpoints=["1234"]), **options)
    return folder.predict_all(folder.survey(find_cases(source)), stream), stream.getvalue()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_in_it(images: Path, tmp_path: Path) -> None:
    failed, said = predicted(images, tmp_path / "out")
    assert failed == {} and said.endswith("windows: 3 of 3, case 3 of 3 (c), ETA 0:00:00\n")
    parts = dict(masks=".nii.gz", overlays=".png", reports=".json")
    each = [f"{part}/{name}{suffix}" for part, suffix in parts.items() for name in "abc"]
    assert files(tmp_path / "out") == sorted([*each, "settings.json", "volumes.csv"])
    source, mask = nibabel.load(images / "a.nii.gz"), nibabel.load(tmp_path / "out/masks/a.nii.gz")
    np.testing.assert_array_equal(mask.affine, source.affine)
    counts = np.bincount(np.asarray(mask.dataobj).ravel(), minlength=3)
    assert mask.shape == source.shape and (counts > 0).all()
    with (tmp_path / "out/volumes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["structure"]) for row in rows] == [(c, s) for c in "abc" for s in ("organ", "vessel")]
    assert [int(row["voxels"]) for row in rows[:2]] == counts[1:].tolist()
    assert rows[0]["touches_border"] == "True" and float(rows[0]["ml"]) == counts[1] / 1000
    assert np.asarray(Image.open(tmp_path / "out/overlays/a.png")).std() > 0


def test_an_interrupted_run_goes_on(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predicted(images, out, Counted(stop_at=2), probabilities=Probabilities())
    done = ["masks/a.nii.gz", "overlays/a.png", "probabilities/a.nii.gz", "reports/a.json", "settings.json"]
    assert files(out) == done
    (out / "probabilities/.part-1-b.nii.gz.raw").touch()  # as kill -9 leaves it
    before = (out / "masks/a.nii.gz").stat().st_mtime_ns
    rest = Counted()
    assert predicted(images, out, rest, probabilities=Probabilities())[0] == {}
    assert rest.windows == 2 and (out / "masks/a.nii.gz").stat().st_mtime_ns == before
    assert len((out / "volumes.csv").read_text().splitlines()) == 7
    assert not list(out.rglob(".part-*"))
    none = Counted()
    predicted(images, out, none, probabilities=Probabilities())
    assert none.windows == 0
    (out / "reports/b.json").unlink()
    predicted(images, out, none, probabilities=Probabilities())
    assert none.windows == 1


def test_a_case_of_the_same_name_from_elsewhere_is_predicted_anew(images: Path, tmp_path: Path) -> None:
    predicted(images / "a.nii.gz", tmp_path / "out")
    other = write_nifti(tmp_path / "other/a.nii", np.ones((5, 5, 5), dtype=np.uint8))
    predicted(other, tmp_path / "out")
    assert nibabel.load(tmp_path / "out/masks/a.nii.gz").shape == (5, 5, 5)


def windows_of_another_run(images: Path, out: Path) -> int:
    network = Counted()
    assert predicted(images, out, network)[0] == {}
    return network.windows


def test_what_is_stale_or_gone_is_predicted_anew(images: Path, tmp_path: Path) -> None:
    """Tests another image in the place of one, a deleted mask or overlay: each costs the windows of its case."""
    out = tmp_path / "out"
    predicted(images, out)
    assert windows_of_another_run(images, out) == 0
    voxels = np.random.default_rng(9).integers(0, 99, (6, 8, 11)).astype(np.int16)
    write_nifti(images / "a.nii.gz", voxels, affine("LPS"))
    (out / "masks/b.nii.gz").unlink()
    assert windows_of_another_run(images, out) == 2
    assert nibabel.load(out / "masks/a.nii.gz").shape == (6, 8, 11) and (out / "masks/b.nii.gz").is_file()
    (out / "overlays/c.png").unlink()
    assert windows_of_another_run(images, out) == 1 and windows_of_another_run(images, out) == 0


def test_a_folder_of_other_settings_is_refused(images: Path, tmp_path: Path) -> None:
    predicted(images / "a.nii.gz", tmp_path / "out")
    before = files(tmp_path / "out")
    with raises_one_line(ValueError, "out", "mirror", "--out"):
        predicted(images, tmp_path / "out", mirror=True)
    assert files(tmp_path / "out") == before


def test_probabilities_lie_on_the_grid_too(images: Path, tmp_path: Path) -> None:
    predicted(images / "a.nii.gz", tmp_path / "out", probabilities=Probabilities())
    source, shares = nibabel.load(images / "a.nii.gz"), nibabel.load(tmp_path / "out/probabilities/a.nii.gz")
    assert shares.shape == (*source.shape, 3) and shares.get_data_dtype() == np.uint16
    np.testing.assert_array_equal(shares.affine, source.affine)
    for key in ("qform_code", "sform_code", "xyzt_units"):
        assert shares.header[key] == source.header[key]
    values = shares.get_fdata()
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-4)
    mask = np.asarray(nibabel.load(tmp_path / "out/masks/a.nii.gz").dataobj)
    top = np.sort(values, axis=-1)
    sure = top[..., -1] - top[..., -2] > 1e-3
    np.testing.assert_array_equal(values.argmax(-1)[sure], mask[sure])


def test_uncertainty_is_written_beside_the_masks(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    predicted(images, out, uncertainty=True)
    mask, entropy = (nibabel.load(out / f"{part}/a.nii.gz") for part in ("masks", "entropy"))
    np.testing.assert_array_equal(entropy.affine, mask.affine)
    assert entropy.get_data_dtype() == np.float32 and entropy.header["sform_code"] == mask.header["sform_code"]
    values, inside = entropy.get_fdata(), np.asarray(mask.dataobj) > 0
    assert 0 <= values.min() < values.max() <= 1
    with (out / "uncertainty.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b", "c"] and [*rows[0]] == ["case", "entropy"]
    assert float(rows[0]["entropy"]) == pytest.approx(values[inside].mean(), abs=1e-5)
    assert read_report(out / "masks", "a")["uncertainty"] == read_report(out / "masks/a.nii.gz", "a")["uncertainty"]
    with monkeypatch.context() as context:
        context.chdir(out / "masks")
        for masks in (Path(), Path("a.nii.gz"), out / "masks"):
            assert read_report(masks, "a")["uncertainty"]["entropy"] > 0
    assert windows_of_another_run(images, tmp_path / "plain") == 3
    network = Counted()
    (out / "entropy/b.nii.gz").unlink()
    predicted(images, out, network, uncertainty=True)
    assert network.windows == 1, "a case without its map is not finished"


def test_only_the_largest_component_stays(images: Path, tmp_path: Path) -> None:
    def components(out: Path) -> list[int]:
        return [row["components"] for row in json.loads((out / "reports/a.json").read_text())["structures"]]

    predicted(images / "a.nii.gz", tmp_path / "all")
    predicted(images / "a.nii.gz", tmp_path / "one", largest=True)
    assert max(components(tmp_path / "all")) > 1 and components(tmp_path / "one") == [1, 1]


def test_a_bad_case_does_not_stop_the_others(images: Path, tmp_path: Path) -> None:
    content = (images / "b.nii.gz").read_bytes()
    (images / "b.nii.gz").write_bytes(content[:-10])
    write_nifti(images / "d.nii", np.zeros((4, 4, 4, 2), dtype=np.uint8))
    failed, _ = predicted(images, tmp_path / "out")
    assert sorted(failed) == ["b", "d"]
    assert "b.nii.gz is cut off or damaged" in failed["b"] and "d.nii is 4D, 4 x 4 x 4 x 2 voxels" in failed["d"]
    assert [path.name for path in sorted((tmp_path / "out/reports").iterdir())] == ["a.json", "c.json"]
    assert not [name for name in files(tmp_path / "out") if "/b." in name or "part" in name]


def test_images_are_read_one_after_another(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that no image is still held while the next is read, and what is said of one that does not fit."""
    held: list[weakref.ref] = []

    def read(paths: Sequence[Path], *args: object, **options: object) -> tuple[np.ndarray, Grid]:
        assert not [image for image in held if image() is not None]
        if paths[0].name == "c.nii.gz":
            raise MemoryError
        image, grid = read_image(paths, *args, **options)
        held.append(weakref.ref(image))
        return image, grid

    monkeypatch.setattr("vil_dense.medical.inference.batch.read_image", read)
    failed, _ = predicted(images, tmp_path / "out")
    assert [*failed] == ["c"] and len(held) == 2
    assert_one_line(failed["c"], images / "c.nii.gz", "MemoryError")


@pytest.mark.parametrize(
    ("call", "options", "named"),
    [
        ("nibabel.save", {}, "masks/a.nii.gz"),
        ("nibabel.save", dict(uncertainty=True), "entropy/a.nii.gz"),
        ("vil_dense.medical.inference.probabilities._compress", {}, "probabilities/a.nii.gz"),
        ("os.posix_fallocate", {}, "probabilities has no room"),
    ],
)
def test_a_full_disk(
    call: str, options: dict[str, bool], named: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests a disk that is full when a file is written, or when room for the probabilities is asked for: the message
    names this file alone."""

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(call, full)
    with raises_one_line(OSError, named, "No space left") as caught:
        predicted(images, tmp_path / "out", probabilities=Probabilities(), **options)
    assert str(caught.value).count(str(tmp_path)) == 1
    assert [name for name in files(tmp_path / "out") if not name.startswith("probabilities/a")] == ["settings.json"]
    assert not [name for name in files(tmp_path / "out") if "part" in name]


def test_the_estimate_counts_what_grows(images: Path, tmp_path: Path) -> None:
    grid = read_grid(images / "a.nii.gz")
    large = read_grid(write_nifti(tmp_path / "large.nii", np.zeros((70, 80, 110), dtype=np.int16), affine("LPS")))
    small, more = (estimate([Counted()], each, PLAN) for each in (grid, large))
    assert more.weights == small.weights == (3 * 27 + 3) * 4
    assert more.reading > 70 * 80 * 110 * 6 > small.reading
    assert more.total > 0 and str(more).startswith("about 0.")
    assert more.gpu == 0 and "GPU" not in str(more)


@pytest.mark.parametrize("scores_on", ["meta", "cpu"])
def test_the_estimate_of_a_gpu(images: Path, scores_on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests a device that is not the CPU: weights and network lie there, the scores where they fit."""
    grid, inside = read_grid(images / "a.nii.gz"), 2**28
    monkeypatch.setattr(
        "vil_dense.medical.inference.volume_memory.network_bytes", lambda network, channels, windows: inside
    )
    monkeypatch.setattr("vil_dense.medical.inference.volume_memory.stitch_device", lambda device, stitched: scores_on)
    on_cpu, found = (estimate([Counted().to(device)], grid, PLAN) for device in ("cpu", "meta"))
    assert found.weights == 0 and found[1:4] == on_cpu[1:4]
    assert on_cpu.windows > inside > found.windows
    expected = inside if scores_on == "cpu" else on_cpu.windows - found.windows
    assert abs(found.gpu - expected) <= 1, "the same but for rounding"
    assert re.search(r"; about 0.\d\d GiB beside the weights on the GPU$", str(found))
