"""Registers public data sets of mmseg whose files are checked before training."""

from mmseg.datasets import (
    CityscapesDataset,
    COCOStuffDataset,
    ISPRSDataset,
    LoveDADataset,
    PascalContextDataset,
    PascalVOCDataset,
    PotsdamDataset,
)
from mmseg.registry import DATASETS

from vil_dense.mm.datasets.segmentation import CheckedDataset

CONVERTER = "convert {} as mmseg's docs/en/user_guides/2_dataset_prepare.md says, and set data_root to the result"


@DATASETS.register_module()
class CheckedCityscapesDataset(CheckedDataset, CityscapesDataset):
    """Reads Cityscapes with 19 classes. Arguments: see `BaseSegDataset`."""

    HOW_TO_GET = (
        "unpack leftImg8bit and gtFine of https://www.cityscapes-dataset.com into one folder, run "
        "csCreateTrainIdLabelImgs of cityscapesscripts, and set data_root to that folder"
    )


@DATASETS.register_module()
class CheckedCOCOStuffDataset(CheckedDataset, COCOStuffDataset):
    """Reads COCO-Stuff 164k with 171 classes. Arguments: see `BaseSegDataset`."""

    HOW_TO_GET = CONVERTER.format("COCO-Stuff 164k")


@DATASETS.register_module()
class CheckedPascalContextDataset(CheckedDataset, PascalContextDataset):
    """Reads Pascal Context with 60 classes. Arguments: see `BaseSegDataset`."""

    HOW_TO_GET = CONVERTER.format("Pascal Context")


@DATASETS.register_module()
class CheckedPascalVOCDataset(CheckedDataset, PascalVOCDataset):
    """Reads Pascal VOC with 21 classes; `ann_file` lists the pictures. Arguments: see `BaseSegDataset`."""

    HOW_TO_GET = (
        "unpack http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar and set data_root to VOC2012"
    )


@DATASETS.register_module()
class CheckedLoveDADataset(CheckedDataset, LoveDADataset):
    """Reads LoveDA with 7 classes; 0 is ignored. Arguments: see `BaseSegDataset`."""

    HOW_TO_GET = CONVERTER.format("LoveDA")


@DATASETS.register_module()
class CheckedPotsdamDataset(CheckedDataset, PotsdamDataset):
    """Reads ISPRS Potsdam with 6 classes; 0 is ignored. Arguments: see `BaseSegDataset`."""

    HOW_TO_GET = CONVERTER.format("ISPRS Potsdam")


@DATASETS.register_module()
class CheckedISPRSDataset(CheckedDataset, ISPRSDataset):
    """Reads ISPRS Vaihingen with 6 classes; 0 is ignored. Arguments: see `BaseSegDataset`."""

    HOW_TO_GET = CONVERTER.format("ISPRS Vaihingen")
