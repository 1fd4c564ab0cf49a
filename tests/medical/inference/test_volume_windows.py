"""Compares the rows of streamed windows with the scores of MONAI's sliding window."""

import pytest
import torch
from monai.inferers import sliding_window_inference
from refusals import raises_one_line
from torch import Tensor, nn

from vil_dense.medical.inference.volume_windows import SlidingWindow, score_rows


def network(seed: int = 0, channels: int = 2, classes: int = 3) -> nn.Module:
    """Sees its neighbours and, through the norm, the whole window, so that windows differ where they overlap."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv3d(channels, 6, 3, padding=1), nn.InstanceNorm3d(6), nn.ReLU(), nn.Conv3d(6, classes, 1)
    ).eval()


def gathered(networks: list[nn.Module], image: Tensor, windows: SlidingWindow, axis: int, **options) -> Tensor:
    """Returns all rows together; each begins where the last one ended."""
    slabs, end = [], 0
    for start, slab in score_rows(networks, image, windows, axis, **options):
        assert start == end
        end += slab.shape[axis + 1]
        slabs.append(slab.clone())
    return torch.cat(slabs, axis + 1)


@pytest.mark.parametrize(("overlap", "batch"), [(0.5, 1), (0.25, 3), (0.0, 64), (0.9, 5)])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [(20, 17, 23), (8, 9, 10), (5, 30, 9), (3, 4, 5)], ids=str)
def test_the_rows_are_monais_sliding_window(size: tuple[int, ...], axis: int, overlap: float, batch: int) -> None:
    image, window = torch.randn(2, *size), (8, 9, 10)
    expected = sliding_window_inference(image[None], window, 1, network(), overlap=overlap, mode="gaussian")[0]
    found = gathered([network()], image, SlidingWindow(window, overlap, batch), axis)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


def test_networks_and_mirror_images_are_averaged() -> None:
    image, window = torch.randn(2, 12, 9, 9), SlidingWindow((8, 9, 9))
    pair = [network(0), network(1)]
    single = [gathered([one], image, window, 0) for one in pair]
    torch.testing.assert_close(gathered(pair, image, window, 0), (single[0] + single[1]) / 2)
    mirrored = []
    for axes in [(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]:
        mirrored.append(gathered([pair[0]], image.flip(axes), window, 0).flip(axes))
    expected = torch.stack(mirrored).mean(0)
    torch.testing.assert_close(gathered([pair[0]], image, window, 0, mirror=(0, 1, 2)), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, single[0])


def test_every_window_is_counted() -> None:
    size, seen = (20, 17, 23), []
    for overlap, count in ((0.5, 4 * 3 * 4), (0.0, 3 * 2 * 3)):
        windows = SlidingWindow((8, 9, 10), overlap, batch=5)
        seen.clear()
        gathered([network()], torch.randn(2, *size), windows, 1, done=lambda: seen.append(1))
        assert len(seen) == windows.count(size) == count


@pytest.mark.parametrize("options", [dict(overlap=1.0), dict(overlap=-0.1), dict(batch=0)], ids=str)
def test_windows_that_are_refused(options: dict) -> None:
    with raises_one_line(ValueError):
        SlidingWindow((8, 8, 8), **options)


def test_scores_are_held_along_the_axis_that_needs_least() -> None:
    assert SlidingWindow((50, 50, 50)).stream_axis((100, 200, 150)) == 1
    assert SlidingWindow((50, 190, 30)).stream_axis((100, 200, 20)) == 0
