"""Class maps of pictures of any size: what mmseg's slide and whole inference find, without their memory.

mmseg keeps the logits of all classes at full resolution, once as the network sees the picture and once at its own
size: 10 GB each for 150 classes of 4096 x 4096 px. Here they stay at the head's resolution, and only for the rows of
windows that are still needed; a band of rows at a time they are enlarged, averaged where windows overlap, resized to
the picture and turned into classes. A whole picture is one window.

Logits are (K, H, W) with K classes. Ranges of rows leave their end out.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from vil_dense.mm.inference.tiled_upernet import Resize, Size, decode

BAND_BYTES = 2**25
"""Of a band's logits. A handful of arrays of this size are alive at one time."""


class Cut(NamedTuple):
    """Windows of `window` px, (h, w), that begin at each of `tops` and each of `lefts` of a picture of `size`."""

    size: Size
    window: Size
    tops: list[int]
    lefts: list[int]


def choose_windows(
    test_cfg: dict, *, whole: bool = False, window: Sequence[int] = (), stride: Sequence[int] = ()
) -> dict:
    """The `test_cfg` that a command line asks for: as it is, whole pictures, or windows of (h, w) px every (h, w) px.

    One number is both; windows without a stride begin every two thirds of their size.

    Raises:
        ValueError: a choice that contradicts itself or leaves gaps between windows.
    """
    if whole and (window or stride):
        raise ValueError("--whole takes the picture as one window: it goes without --window and --stride")
    for name, sides in (("--window", window), ("--stride", stride)):
        if sides and (len(sides) > 2 or min(sides) < 1):
            raise ValueError(f"{name} takes H W, or one number for both, in px; got {' '.join(map(str, sides))}")
    if whole:
        return dict(mode="whole")
    if not window and test_cfg.get("mode", "whole") != "slide":
        if stride:
            raise ValueError("--stride needs windows: the config has none, and --window gives none")
        return test_cfg
    height, width = (window[0], window[-1]) if window else test_cfg["crop_size"]
    default = (max(2 * height // 3, 1), max(2 * width // 3, 1)) if window else test_cfg["stride"]
    down, across = (stride[0], stride[-1]) if stride else default
    if down > height or across > width:
        raise ValueError(f"windows of {height} x {width} px every {down} x {across} px would leave gaps")
    return dict(mode="slide", crop_size=(height, width), stride=(down, across))


def cut(size: Size, test_cfg: dict) -> Cut:
    """The windows of mmseg's slide inference for a picture of `size`, (H, W) px; one window in `whole` mode."""
    slides = test_cfg.get("mode", "whole") == "slide"
    crops, strides = (test_cfg["crop_size"], test_cfg["stride"]) if slides else (size, size)
    height, width = (min(length, crop) for length, crop in zip(size, crops, strict=True))
    lasts = size[0] - height, size[1] - width
    tops, lefts = (
        [min(index * stride, last) for index in range(-(-last // stride) + 1)]
        for last, stride in zip(lasts, strides, strict=True)
    )
    return Cut(size, (height, width), tops, lefts)


class _Row(NamedTuple):
    """The head's logits, (K, h, w) each, of the windows side by side on the rows `top` to `bottom`."""

    top: int
    bottom: int
    logits: list[Tensor]


def label_map(model: EncoderDecoder, inputs: Tensor, size: Size, **options: Any) -> Tensor:
    """The classes that `model.predict` finds in a picture, (H, W) uint8 on the CPU; keywords: see `logit_bands`."""
    label = torch.empty(size, dtype=torch.uint8)
    for start, logits in logit_bands(model, inputs, size, **options):
        label[start : start + logits.shape[1]] = _classes(model, logits)
    return label


@torch.no_grad()
def logit_bands(
    model: EncoderDecoder,
    inputs: Tensor,
    size: Size,
    *,
    padding: Sequence[int] = (0, 0, 0, 0),
    batch: int = 1,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Iterator[tuple[int, Tensor]]:
    """The logits from which `model.predict` takes its classes: each band's first row and its (K, rows, W).

    Args:
        model: in eval mode; its `test_cfg` says how the picture is cut.
        inputs: the picture as it leaves the model's data preprocessor, (1, 3, H', W').
        size: (H, W) of the result.
        padding: px of `inputs` that are no picture: left, right, top, bottom.
        batch: how many windows the network sees at one time.
        progress: told the windows done and their number.
    """
    left, right, upper, lower = padding
    height, width = inputs.shape[2] - upper - lower, inputs.shape[3] - left - right
    windows = cut((inputs.shape[2], inputs.shape[3]), model.test_cfg)
    resize = Resize((height, width), size, model.align_corners)
    live: list[_Row] = []
    start = 0
    for row, finished in _rows_of_windows(model, inputs, windows, batch, progress):
        live.append(row)
        band = rows_in_band(len(row.logits[0]), (height, width), size)
        while start < size[0]:
            stop = min(start + band, size[0])
            first, end = resize.source(start, stop)
            if end + upper > finished:
                live = [row for row in live if row.bottom > first + upper]
                break
            logits = _average(live, windows, first + upper, end + upper, model.align_corners)
            yield start, resize.rows(logits[..., left : left + width], start, stop)
            start = stop


def rows_in_band(classes: int, before: Size, after: Size) -> int:
    """How many rows of the result, resized from `before` to `after`, come from logits of `BAND_BYTES`."""
    row = 4 * classes * max(after[1], before[1] * math.ceil(before[0] / after[0]))
    return max(BAND_BYTES // row, 1)


def _rows_of_windows(
    model: EncoderDecoder, inputs: Tensor, windows: Cut, batch: int, progress: Callable[[int, int], None]
) -> Iterator[tuple[_Row, int]]:
    """Each row of windows from the top, and the px row up to which no further window will add anything."""
    height, width = windows.window
    count, done = len(windows.tops) * len(windows.lefts), 0
    for top, finished in zip(windows.tops, [*windows.tops[1:], windows.size[0]], strict=True):
        logits: list[Tensor] = []
        for index in range(0, len(windows.lefts), batch):
            lefts = windows.lefts[index : index + batch]
            crops = [inputs[..., top : top + height, left : left + width] for left in lefts]
            logits.extend(_head_logits(model, torch.cat(crops) if len(crops) > 1 else crops[0]))
            done += len(lefts)
            progress(done, count)
        yield _Row(top, top + height, logits), finished


def keeps_head_resolution(model: EncoderDecoder) -> bool:
    """Whether logits are nothing but the head's, enlarged; heads that predict in their own way do as mmseg has them."""
    segmentor, head = type(model), type(model.decode_head)
    return (
        segmentor.encode_decode is EncoderDecoder.encode_decode
        and segmentor.extract_feat is EncoderDecoder.extract_feat
        and head.predict is BaseDecodeHead.predict
        and head.predict_by_feat is BaseDecodeHead.predict_by_feat
    )


def _head_logits(model: EncoderDecoder, crops: Tensor) -> Tensor:
    """Logits at the head's own resolution, (B, K, h, w); at that of `crops` where the head resizes in its own way."""
    if keeps_head_resolution(model):
        return decode(model.decode_head, model.neck if model.with_neck else None, model.backbone(crops))
    return model.encode_decode(crops, [dict(img_shape=crops.shape[2:]) for _ in crops])


def _average(live: list[_Row], windows: Cut, start: int, stop: int, align_corners: bool) -> Tensor:
    """The px rows `start` to `stop` of the logits, (K, rows, W'), averaged over windows, summed in mmseg's order."""
    example = live[0].logits[0]
    enlarge = Resize((example.shape[1], example.shape[2]), windows.window, align_corners)
    total = example.new_zeros(len(example), stop - start, windows.size[1])
    rows, columns = total.new_zeros(stop - start, 1), total.new_zeros(windows.size[1])
    for left in windows.lefts:
        columns[left : left + windows.window[1]] += 1
    for row in live:
        above, below = max(start, row.top), min(stop, row.bottom)
        if above >= below:
            continue
        inside = slice(above - start, below - start)
        rows[inside] += 1
        first, end = enlarge.source(above - row.top, below - row.top)
        for left, logits in zip(windows.lefts, row.logits, strict=True):
            part = enlarge.rows(logits[:, first:end], above - row.top, below - row.top)
            total[:, inside, left : left + windows.window[1]] += part
    return total.div_(rows * columns)


def _classes(model: EncoderDecoder, logits: Tensor) -> Tensor:
    """(K, H, W) logits -> (H, W) classes, as mmseg finds them."""
    if len(logits) == 1:
        return logits[0].sigmoid() > model.decode_head.threshold
    return logits.argmax(0)
