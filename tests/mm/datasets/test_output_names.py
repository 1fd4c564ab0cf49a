"""Tests that files written for pictures keep the folders of the pictures."""

from pathlib import Path

from mmengine.dataset import ConcatDataset, RepeatDataset
from mmseg.datasets import BaseSegDataset

from vil_dense.mm.datasets.pictures import output_name
from vil_dense.mm.datasets.wrappers import parts


def data(root: Path) -> BaseSegDataset:
    return BaseSegDataset(
        data_root=str(root), data_prefix=dict(img_path="images"), lazy_init=True, metainfo=dict(classes=["a"])
    )


def test_pictures_of_one_name_in_two_folders(tmp_path: Path) -> None:
    one = data(tmp_path / "x")
    assert output_name(f"{tmp_path}/x/images/siteA/0000.jpg", one) == "siteA/0000"
    assert output_name(f"{tmp_path}/x/images/siteB/0000.jpg", RepeatDataset(one, 2, lazy_init=True)) == "siteB/0000"
    assert output_name(f"{tmp_path}/elsewhere/0000.v2.jpg", one) == "0000.v2"


def test_pictures_of_several_data_sets(tmp_path: Path) -> None:
    both = ConcatDataset([data(tmp_path / "x"), data(tmp_path / "y")], lazy_init=True)
    assert len(list(parts(both))) == 2
    assert [output_name(f"{tmp_path}/{name}/images/0.jpg", both) for name in "xy"] == ["x/images/0", "y/images/0"]
