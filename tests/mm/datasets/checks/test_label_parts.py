"""Tests that the parts of a `ConcatDataset` need two classes together, and not each."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset
from mmseg.datasets import BaseSegDataset
from PIL import Image
from refusals import raises_one_line
from torch import nn

from vil_dense.mm.datasets.checks.labels import check_labels


def part(root: Path, label: list[int]) -> BaseSegDataset:
    """Returns a data set of one black picture whose label map has the ids of `label` by rows."""
    for folder, picture in (("images", np.zeros((len(label), 8, 3))), ("labels", np.array(label).repeat(8))):
        (root / folder).mkdir(parents=True)
        pixels = picture.reshape(len(label), 8, *picture.shape[2:]).astype(np.uint8)
        Image.fromarray(pixels).save(root / folder / ("0.jpg" if folder == "images" else "0.png"))
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), dict(type="PackSegInputs")]
    prefix, meta = dict(img_path="images", seg_map_path="labels"), dict(classes=("ground", "car"))
    return BaseSegDataset(data_root=str(root), data_prefix=prefix, metainfo=meta, pipeline=pipeline)


def check(*datasets: BaseSegDataset) -> None:
    """Checks the labels of a training with the parts."""
    model = nn.Module()
    model.decode_head = SimpleNamespace(num_classes=2, ignore_index=255, loss_decode=None)
    model.data_preprocessor = SimpleNamespace(seg_pad_val=255)
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=ConcatDataset(list(datasets))))
    runner = SimpleNamespace(
        model=model, train_loop=loop, val_loop=None, logger=SimpleNamespace(info=lambda line: None)
    )
    check_labels(runner, {}, ("train",))


@pytest.mark.parametrize("first", [[0, 0], [0, 1]])
def test_a_part_may_have_background_only(first: list[int], tmp_path: Path) -> None:
    check(part(tmp_path / "a", first), part(tmp_path / "b", [1 - first[1], first[1]]))
    with raises_one_line(ValueError, "train data", "class 0"):
        check(part(tmp_path / "c", [0, 0]), part(tmp_path / "d", [0, 0]))
