"""Writes bad pictures, labels, volumes, data lists and plans, each named after what is wrong, and sound ones."""

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from nifti_files import write_nifti
from PIL import Image
from volume_plans import small_plan

PLAN = small_plan("organ", spacing_mm=[1.0, 1.0, 1.0], patch_vox=[16, 16, 8])


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def write_png(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


def cut(path: Path, share: float = 0.5) -> None:
    """Cuts a file after its first part."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def png_of_size(width: int, height: int) -> bytes:
    """Returns a PNG whose header claims a size, without the pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def write_pictures(folder: Path) -> None:
    for name in ("cut.png", "cut.jpg", "cut.webp", "cut.tif"):
        write_png(folder / name, noise(64, 64, 3))
        cut(folder / name)
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture at all\n" * 100)
    (folder / "list.txt").write_text("a.png\nb.png\n")
    write_png(folder / "16bit.png", noise(64, 64).astype(np.uint16) * 200)
    write_png(folder / "32bit.tif", noise(64, 64).astype(np.int32) * 70000)
    write_png(folder / "float.tif", noise(64, 64).astype(np.float32))
    (folder / "bomb.ppm").write_bytes(b"P6 20000 20000 255\n")
    (folder / "bomb.png").write_bytes(png_of_size(60000, 60000))
    (folder / "zero.png").write_bytes(png_of_size(0, 0))
    (folder / "zero.ppm").write_bytes(b"P6 0 0 255\n")
    (folder / "link.png").symlink_to(folder / "nothing.png")
    (folder / "folders/x.png").mkdir(parents=True)
    (folder / "none").mkdir()
    (folder / "twins").mkdir()
    for suffix in ("png", "jpg"):
        write_png(folder / f"twins/a.{suffix}", noise(32, 32, 3))


# One label picture, (64, 64) ids of the sample's files, 0 to 12, or the file's bytes.
LABELS: dict[str, Callable[[np.ndarray], np.ndarray | bytes]] = {
    "colours": lambda ids: np.stack([ids] * 3, -1),
    "with_alpha": lambda ids: np.stack([ids] * 2, -1),
    "smaller": lambda ids: ids[:32],
    "larger": lambda ids: np.concatenate([ids, ids[:16]]),
    "id_200": lambda ids: np.where(ids == 1, 200, ids).astype(np.uint8),
    "id_300": lambda ids: np.where(ids == 1, 300, ids.astype(np.uint16)),
    "negative": lambda ids: ids.astype(np.int32) - 1,
    "float": lambda ids: ids.astype(np.float32) / 7,
    "text": lambda ids: b"1 2 3\n" * 100,
    "empty": lambda ids: b"",
    "bomb": lambda ids: png_of_size(60000, 60000),
}
# All label pictures.
ALL_LABELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "all_void": lambda ids: np.zeros_like(ids),
    "one_class": lambda ids: np.full_like(ids, 3),
    "masks_0_255": lambda ids: np.where(ids > 6, 255, 0).astype(np.uint8),
}


def write_data(root: Path) -> Path:
    """Writes a sound data set in the sample's layout: two pairs a split, ids 0 to 12."""
    for split in ("training", "validation"):
        for n, name in enumerate("ab"):
            for folder in ("images", "annotations"):
                (root / folder / split).mkdir(parents=True, exist_ok=True)
            write_png(root / f"images/{split}/{name}.jpg", noise(64, 64, 3))
            ids = np.random.default_rng(n).integers(0, 13, (8, 8)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            write_png(root / f"annotations/{split}/{name}.png", ids)
    return root


def write_labels(folder: Path) -> None:
    def copy(name: str) -> Path:
        return write_data(folder / name) / "annotations/training"

    def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray | bytes]) -> None:
        changed = change(np.asarray(Image.open(path)))
        if isinstance(changed, bytes):
            path.write_bytes(changed)
        else:
            Image.fromarray(changed).save(path, format="TIFF" if changed.dtype.kind in "fi" else "PNG")

    for name, change in LABELS.items():
        rewrite(copy(name) / "b.png", change)
    for name, change in ALL_LABELS.items():
        for path in copy(name).parent.glob("*/*.png"):
            rewrite(path, change)
    cut(copy("cut") / "b.png", 0.8)
    (copy("missing") / "b.png").unlink()
    cut(copy("picture_cut").parents[1] / "images/training/b.jpg")
    shutil.rmtree(copy("no_pictures").parents[1] / "images/training")
    (folder / "no_pictures/images/training").mkdir()
    (folder / "no_list.txt").write_text("a\nmissing\n")
    rewrite(copy("val_id_200").parent / "validation/b.png", LABELS["id_200"])
    picture = copy("exif_turned").parents[1] / "images/training/b.jpg"
    tall = Image.fromarray(noise(64, 48, 3))
    exif = tall.getexif()
    exif[0x0112] = 6
    tall.save(picture, exif=exif)
    label = folder / "exif_turned/annotations/training/b.png"
    rewrite(label, lambda ids: ids[:, :48])


def write_volumes(folder: Path) -> None:
    cube = np.zeros((6, 6, 6), np.uint8)
    write_nifti(folder / "nan.nii", np.full((6, 6, 6), np.nan))
    write_nifti(folder / "inf.nii", np.full((6, 6, 6), np.inf))
    write_nifti(folder / "4d.nii", np.zeros((6, 6, 6, 5), np.uint8))
    write_nifti(folder / "2d.nii", np.zeros((6, 6), np.uint8))
    write_nifti(folder / "complex.nii", np.zeros((6, 6, 6), np.complex64))
    write_nifti(folder / "colours.nii", np.zeros((6, 6, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))
    for name, change in (
        # no qform, an sform of ones
        ("singular", {252: np.array((0, 1), "<i2"), 280: np.ones(12, "<f4")}),
        ("claims_more", {42: np.array((512, 512, 600), "<i2")}),
        ("no_extent", {42: np.array((0, 6, 6), "<i2")}),
        ("wrong_magic", {344: np.zeros(4, np.uint8)}),
    ):
        content = bytearray(write_nifti(folder / f"{name}.nii", cube).read_bytes())
        for offset, value in change.items():
            content[offset : offset + value.nbytes] = value.tobytes()
        (folder / f"{name}.nii").write_bytes(content)
    cut(write_nifti(folder / "cut.nii.gz", noise(30, 30, 30)))
    cut(write_nifti(folder / "cut.nii", noise(30, 30, 30)))
    (folder / "empty.nii.gz").touch()
    (folder / "text.nii.gz").write_text("no volume\n" * 100)
    (folder / "folder.nii.gz").mkdir()


LISTS: dict[str, object] = {
    "broken": b"{",
    "bytes": b"\xff\xfe\x00",
    "a_list": [1, 2],
    "no_training": dict(train=[]),
    "training_is_text": dict(training="a.nii"),
    "no_cases": dict(training=[]),
    "no_image": dict(training=[dict(label="a.nii")]),
    "no_label": dict(training=[dict(image="a.nii")]),
    "image_is_a_number": dict(training=[dict(image=3, label="a.nii")]),
    "fold_is_text": dict(training=[dict(image="a.nii", label="a.nii", fold="first")]),
    "no_nifti": dict(training=[dict(image="a.npy", label="a.nii")]),
    "one": dict(training=[dict(image="a.nii", label="b.nii")]),
    "twice": dict(training=[dict(image="a.nii", label="a.nii")] * 2),
    "file_missing": dict(training=[dict(image="gone.nii", label="gone.nii")]),
}
PLANS: dict[str, object] = {
    "broken": b"{",
    "a_list": [1],
    "no_patch": {key: value for key, value in PLAN.items() if key != "patch_vox"},
    "unknown_key": PLAN | dict(patch_size=[8, 8, 8]),
    "labels_without_background": PLAN | dict(labels=dict(organ=1, other=2)),
    "labels_are_a_list": PLAN | dict(labels=["background", "organ"]),
    "two_spacings": PLAN | dict(spacing_mm=[1.0, 1.0]),
    "spacing_is_text": PLAN | dict(spacing_mm=["1", "1", "1"]),
    "patch_of_fractions": PLAN | dict(patch_vox=[8.5, 8, 8]),
    "orientation_XYZ": PLAN | dict(orientation="XYZ"),
    "rule_unknown": PLAN | dict(intensity=[dict(rule="hist")]),
    "rule_missing": PLAN | dict(intensity=[dict()]),
    "rule_without_numbers": PLAN | dict(intensity=[dict(rule="ct", low=0)]),
}


def write_json(folder: Path, contents: dict[str, object]) -> None:
    for name, content in contents.items():
        (folder / f"{name}.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
