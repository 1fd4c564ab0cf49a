"""Cuts square crops from a data set of label maps, each labelled with the class of most of its pixels."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vil_dense.mm.datasets.checks.pairs import read_pair
from vil_dense.mm.datasets.pictures import open_picture


def majority(label: np.ndarray, size: int, stride: int, classes: int, share: float) -> list[tuple[int, int, int]]:
    """Returns (top, left, class) of the crops in which one class covers at least the fraction `share` of the pixels.

    Crops have `size` x `size` px, begin every `stride` px and lie inside the picture. `label` is (H, W); ids of
    `classes` and more are unlabelled.
    """
    found = []
    for top in range(0, label.shape[0] - size + 1, stride):
        for left in range(0, label.shape[1] - size + 1, stride):
            counts = np.bincount(label[top : top + size, left : left + size].ravel(), minlength=classes)[:classes]
            if counts.max() >= share * size * size:
                found.append((top, left, int(counts.argmax())))
    return found


def cut_crops(
    source: Path,
    out: Path,
    classes: Sequence[str],
    *,
    size: int = 64,
    stride: int = 32,
    share: float = 0.5,
    most: int = 1000,
    least: int = 50,
    held_out: float = 0.1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, tuple[int, int]]:
    """Writes crops of the training pictures of `source` to `out/{train,val}/CLASS/*.jpg`.

    The last fraction `held_out` of the pictures, in the order of their names, gives the validation crops, so that
    neighbouring frames of a video are in the same split. At most `most` training crops of a class are written (a tenth
    of that for validation), evenly spread; classes with fewer than `least`, or with none to validate, are left out.

    Returns:
        Numbers of (training, validation) crops of each class.

    Raises:
        FileNotFoundError: there are no pictures, or a picture has no labels.
        FileExistsError: `out` exists already; nothing is written.
        ValueError: no class is left, or a picture or label cannot be used.
    """
    pictures = sorted((source / "images/train").glob("*.jpg"))
    if not pictures:
        raise FileNotFoundError(f"no *.jpg picture in {source / 'images/train'}")
    if out.exists():
        raise FileExistsError(f"{out} exists already: remove it, or choose another folder")
    first_held = round(len(pictures) * (1 - held_out))
    places: dict[str, dict[int, list]] = {split: {k: [] for k in range(len(classes))} for split in ("train", "val")}
    for index, path in enumerate(pictures):
        for top, left, k in majority(_read_label(source, path), size, stride, len(classes), share):
            places["train" if index < first_held else "val"][k].append((path, top, left))
    kept = [k for k in range(len(classes)) if len(places["train"][k]) >= least and places["val"][k]]
    if not kept:
        raise ValueError(f"no class has {least} crops of {size} px with a share of {share}; choose smaller numbers")
    chosen = {
        (split, k): _spread(places[split][k], most if split == "train" else most // 10)
        for split in places
        for k in kept
    }
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write({(split, classes[k]): crops for (split, k), crops in chosen.items()}, part, size, report)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {classes[k]: (len(chosen["train", k]), len(chosen["val", k])) for k in kept}


def _read_label(source: Path, picture: Path) -> np.ndarray:
    path = source / "annotations/train" / f"{picture.stem}.png"
    if not path.is_file():
        raise FileNotFoundError(f"no labels of {picture} at {path}")
    return read_pair(str(picture), str(path))


def _spread(items: list, most: int) -> list:
    """Returns at most `most` of the items, evenly spread."""
    return items if len(items) <= most else [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _write(
    crops: dict[tuple[str, str], list[tuple[Path, int, int]]],
    folder: Path,
    size: int,
    report: Callable[[int, int], None],
) -> None:
    by_picture: dict[Path, list[tuple[Path, int, int]]] = {}
    for (split, name), places in crops.items():
        (folder / split / name).mkdir(parents=True)
        for path, top, left in places:
            by_picture.setdefault(path, []).append((folder / split / name, top, left))
    for done, (path, places) in enumerate(sorted(by_picture.items()), 1):
        with open_picture(path) as image:
            picture = image.convert("RGB")
        for target, top, left in places:
            crop = picture.crop((left, top, left + size, top + size))
            crop.save(target / f"{path.stem}_{top}_{left}.jpg", quality=95)
        report(done, len(by_picture))
