"""Tests the step from logits to classes that an exported file does itself."""

import pytest
import torch

from vil_dense.mm.export.network import PicturesToClasses


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (300, torch.int32)])
def test_the_last_class_is_found(classes: int, dtype: torch.dtype) -> None:
    logits = torch.zeros(1, classes, 2, 3)
    logits[:, -1] = 1
    options = dict(channels_last=False, bgr=False, threshold=None)
    network = PicturesToClasses(lambda x: logits, torch.zeros(3, 1, 1), torch.ones(3, 1, 1), **options)
    found = network(torch.zeros(1, 3, 2, 3, dtype=torch.uint8))
    assert found.dtype == dtype and found.unique().tolist() == [classes - 1]
