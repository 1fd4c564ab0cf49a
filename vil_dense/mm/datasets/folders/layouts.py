"""Finds pictures and masks below a folder in one of the layouts that public data sets have."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from vil_dense.mm.datasets.folders.pairs import MASK_TAILS, Pair, holds_pictures, pair_files

WORDS = {
    "pictures": ("images", "image", "imgs", "img", "img_dir", "pictures", "JPEGImages"),
    "masks": ("masks", "mask", "annotations", "labels", "label", "ann_dir", "gt", "SegmentationClass"),
    "train": ("train", "training"),
    "val": ("val", "validation", "valid"),
}
"""Names of folders and lists, by what they hold."""


@dataclass(frozen=True)
class Layout:
    """Describes where pictures and masks are, with the keys of `WORDS` and `split` in braces.

    Args:
        name: as the log says it.
        pictures, masks: folders below the data root.
        lists: files with a name in each line, below the data root.
        picture_tail: what the names of pictures end in.
        mask_tails: what the names of masks may end in, the preferred one first.
    """

    name: str
    pictures: str
    masks: str
    lists: str = ""
    picture_tail: str = ""
    mask_tails: tuple[str, ...] = MASK_TAILS


CITYSCAPES = "Cityscapes"
LAYOUTS = (
    Layout(
        CITYSCAPES,
        "leftImg8bit/{split}",
        "gtFine/{split}",
        picture_tail="_leftImg8bit",
        mask_tails=("_gtFine_labelTrainIds", "_gtFine_labelIds"),
    ),
    Layout("Pascal VOC", "JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation/{split}.txt"),
    Layout("Pascal VOC", "JPEGImages", "SegmentationClass", "ImageSets/Segmentation/{split}.txt"),
    Layout("COCO-Stuff", "images/{split}2017", "annotations/{split}2017", mask_tails=("_labelTrainIds", "")),
    Layout("COCO-Stuff", "images/{split}2017", "stuffthingmaps/{split}2017", mask_tails=("_labelTrainIds", "")),
    Layout("splits below pictures and masks", "{pictures}/{split}", "{masks}/{split}"),
    Layout("pictures and masks below splits", "{split}/{pictures}", "{split}/{masks}"),
    Layout("lists", "{pictures}", "{masks}", "{split}.txt"),
    Layout("lists", "{pictures}", "{masks}", "splits/{split}.txt"),
    Layout("folders without a split", "{pictures}", "{masks}"),
)
"""Known layouts; the first that fits is taken."""


@dataclass
class Found:
    """Holds what was found below a data root.

    Args:
        layout: its row in the table.
        root: the folder below which it lies.
        pairs: by split, `train` and `val`; by the empty name if no split was found.
        lists: the list file of each split, if there are any.
        folders: pictures and masks, as the log says them.
        notes: what was left out and why.
    """

    layout: Layout
    root: Path
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    lists: dict[str, Path] = field(default_factory=dict)
    folders: str = ""
    notes: list[str] = field(default_factory=list)


def find_layout(root: Path, pictures: str = "", masks: str = "") -> Found:
    """Finds the pairs of pictures and masks below `root`.

    A root with nothing but one folder stands for that folder, as in an unpacked archive.

    Args:
        pictures, masks: folders below `root` in place of the known layouts; `{split}` stands for the names of splits.

    Raises:
        FileNotFoundError: there is no such folder, or none of the layouts fits.
        ValueError: several folders fit, or pictures and masks have different names.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}: set data_root to the folder of your pictures and masks")
    if bool(pictures) != bool(masks):
        raise ValueError("pictures and masks are set together: two folders below data_root")
    table = (Layout("folders of the config", pictures, masks),) if pictures else LAYOUTS
    for layout in table:
        if found := _try(layout, root):
            return found
    inside = [path for path in root.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    if not pictures and len(inside) == 1 and inside[0].is_dir():
        return find_layout(inside[0])
    known = "; ".join(dict.fromkeys(f"{layout.pictures} + {layout.masks}" for layout in table))
    held = ", ".join(sorted(path.name for path in inside)[:8]) or "nothing"
    raise FileNotFoundError(
        f"{root} holds {held}, and no folders of pictures and masks in a known layout ({known}): "
        "rename them, or set pictures and masks of the data set to two folders below data_root"
    )


def _try(layout: Layout, root: Path) -> Found | None:
    """Returns what is found in a layout, or nothing if the root is not laid out so."""
    in_folders = "{split}" in layout.pictures
    found, splits = Found(layout, root), ("train", "val") if in_folders else ("",)
    if layout.lists:
        for split in ("train", "val"):
            paths = [root / layout.lists.format(split=word) for word in WORDS[split]]
            if file := next(filter(Path.is_file, paths), None):
                found.lists[split] = file
        if "train" not in found.lists:
            return None
    for split in splits:
        options = list(_folders(layout, root, split))
        if len(options) > 1:
            listed = "; ".join(" + ".join(_below(root, *option)) for option in options)
            raise ValueError(f"several folders in {root} may be the data: {listed}; set pictures and masks")
        if options:
            pairs, notes = pair_files(*options[0], layout.picture_tail, layout.mask_tails)
            found.pairs[split], found.notes = pairs, found.notes + notes
            found.folders = found.folders or " + ".join(_below(root, *options[0]))
    if not found.pairs or (in_folders and "train" not in found.pairs):
        return None
    if in_folders:
        found.notes += _unused(layout, root)
    if in_folders and "val" not in found.pairs:
        found.pairs = {"": found.pairs["train"]}
    return found


def _folders(layout: Layout, root: Path, split: str) -> Iterator[tuple[Path, Path]]:
    """Yields the folders of pictures and masks that exist and hold some."""
    words = product(WORDS.get(split, ("",)), WORDS["pictures"], WORDS["masks"])
    named = (dict(zip(("split", "pictures", "masks"), chosen, strict=True)) for chosen in words)
    for names in dict.fromkeys((layout.pictures.format(**names), layout.masks.format(**names)) for names in named):
        pair = root / names[0], root / names[1]
        if all(path.is_dir() and holds_pictures(path) for path in pair):
            yield pair


def _unused(layout: Layout, root: Path) -> list[str]:
    """Returns a note on folders of other splits, such as `test`."""
    before, _, after = layout.pictures.partition("{split}")
    year = after if after == "2017" else ""
    known = {word + year for split in ("train", "val") for word in WORDS[split]}
    parents = {root / before.format(pictures=word) for word in WORDS["pictures"]}
    others = [
        path
        for parent in sorted(parents)
        if parent.is_dir()
        for path in sorted(parent.iterdir())
        if path.is_dir() and path.name not in known and holds_pictures(path)
    ]
    return [f"folders that are no known split: {', '.join(_below(root, *others))}"] if others else []


def _below(root: Path, *folders: Path) -> list[str]:
    return [folder.relative_to(root).as_posix() for folder in folders]
