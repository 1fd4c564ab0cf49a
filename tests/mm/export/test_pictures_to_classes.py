"""Tests the step from logits to classes that an exported file does itself."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unpacked import unpacked

from vil_dense.mm.export.network import PicturesToClasses
from vil_dense.mm.export.onnx import export_program
from vil_dense.mm.export.write import FORMATS, LAYOUTS


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (300, torch.int32)])
def test_the_last_class_is_found(classes: int, dtype: torch.dtype) -> None:
    logits = torch.zeros(1, classes, 2, 3)
    logits[:, -1] = 1
    options = dict(channels_last=False, bgr=False, threshold=None)
    network = PicturesToClasses(lambda x: logits, torch.zeros(3, 1, 1), torch.ones(3, 1, 1), **options)
    found = network(torch.zeros(1, 3, 2, 3, dtype=torch.uint8))
    assert found.dtype == dtype and found.unique().tolist() == [classes - 1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_are_not_taken_for_a_size(layout: str) -> None:
    """Tests pictures of more than four channels in a program that was exported for them, at another size."""
    options = dict(channels_last=layout == "NHWC", bgr=False, threshold=None)
    largest_of_three = nn.Conv2d(5, 3, 1, bias=False)
    nn.init.dirac_(largest_of_three.weight)
    network = PicturesToClasses(largest_of_three, torch.zeros(5, 1, 1), torch.ones(5, 1, 1), **options)

    def pictures(batch: int, height: int, width: int) -> Tensor:
        shape = (batch, height, width, 5) if layout == "NHWC" else (batch, 5, height, width)
        return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    program = export_program(network, pictures(2, 8, 10), layout).module()
    x = pictures(3, 6, 7)
    assert torch.equal(program(x), network(x)) and network(x).unique().numel() > 1


@pytest.mark.parametrize("format", FORMATS)
def test_an_exported_file_has_no_paths_of_this_machine(format: str, tmp_path: Path) -> None:
    """Tests what torch notes of the source of each operation."""
    if format == "onnx":
        pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'vil_dense[onnx]'")

    class Doubled(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return F.relu(inputs * 2)

    path = tmp_path / "a"
    FORMATS[format].save(Doubled().eval(), torch.ones(2, 3, 8, 8), path, dict(vil_dense="{}"), None)
    content = unpacked(path)
    assert __file__.encode() not in content and str(Path(torch.__file__).parent).encode() not in content
