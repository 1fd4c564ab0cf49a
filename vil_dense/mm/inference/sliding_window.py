"""Computes class maps of pictures of any size: the results of mmseg's slide and whole inference with less memory.

mmseg stores the logits of all classes at full resolution, once in the size of the network's input and once in that of
the picture: 10 GB each for 150 classes of 4096 x 4096 px. This module stores them at the resolution of the head, and
only for the rows of windows that are still needed. Each band of rows is enlarged, averaged where windows overlap,
resized to the picture and converted to classes. A whole picture is one window.

Logits are (K, H, W) with K classes. Ranges of rows exclude their end.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from vil_dense.mm.inference.tiled_upernet import Resize, Size, decode
from vil_dense.mm.utils.heads import last_head

BAND_BYTES = 2**25
"""Size of the logits of a band. A few arrays of this size are live at one time."""


LogitsAt: TypeAlias = Callable[[int, Sequence[int]], Tensor]
"""Gives the logits (B, K, h, w) of the windows that begin at a px row and at each of some px columns."""


class Cut(NamedTuple):
    """Stores windows of `window` px, (h, w), that begin at each of `tops` and `lefts` in a picture of `size`."""

    size: Size
    window: Size
    tops: list[int]
    lefts: list[int]


def choose_windows(
    test_cfg: dict, *, whole: bool = False, window: Sequence[int] | int = (), stride: Sequence[int] | int = ()
) -> dict:
    """Returns the `test_cfg` for the options of a command line: unchanged, whole pictures, or windows.

    `window` and `stride` are (h, w) in px, or one number for both. The default stride is two thirds of the window.

    Raises:
        ValueError: options contradict each other, or there would be gaps between windows.
    """
    window, stride = ((sides,) if isinstance(sides, int) else sides for sides in (window, stride))
    if whole and (window or stride):
        raise ValueError("--whole runs the picture as one window: it excludes --window and --stride")
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
    """Returns the windows of mmseg's slide inference for a picture of `size`, (H, W) px; one window in `whole` mode."""
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
    """Stores the logits of the head, (K, h, w) each, of the windows on the px rows `top` to `bottom`."""

    top: int
    bottom: int
    logits: list[Tensor]


def label_map(model: EncoderDecoder, inputs: Tensor, size: Size, **options: Any) -> Tensor:
    """Returns the classes that `model.predict` finds, (H, W) uint8 on the CPU; keywords: see `logit_bands`."""
    label = torch.empty(size, dtype=torch.uint8)
    for start, logits in logit_bands(model, inputs, size, **options):
        label[start : start + logits.shape[1]] = classes_of(model, logits)
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
    run: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yields the logits of `model.predict` in bands: the first row of a band and its logits (K, rows, W).

    Args:
        model: in eval mode; its `test_cfg` defines the windows.
        inputs: output of the model's data preprocessor, (1, 3, H', W').
        size: (H, W) of the result.
        padding: px of `inputs` that are padding: left, right, top, bottom.
        batch: windows that run at one time.
        progress: called with the number of finished windows and of all windows.
        run: gives the logits (B, K, h, w) of windows (B, 3, H, W) in place of the model's backbone and head.
    """
    run = run or (lambda crops: head_logits(model, crops))
    left, right, upper, lower = padding
    height, width = inputs.shape[2] - upper - lower, inputs.shape[3] - left - right
    windows = cut((inputs.shape[2], inputs.shape[3]), model.test_cfg)
    resize = Resize((height, width), size, model.align_corners)

    def logits_at(top: int, lefts: Sequence[int]) -> Tensor:
        rows = slice(top, top + windows.window[0])
        crops = [inputs[..., rows, left : left + windows.window[1]] for left in lefts]
        return run(torch.cat(crops) if len(crops) > 1 else crops[0])

    live: list[_Row] = []
    start = 0
    for row, finished in _rows_of_windows(logits_at, windows, batch, progress):
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


@torch.no_grad()
def window_bands(
    logits_at: LogitsAt,
    windows: Cut,
    *,
    align_corners: bool,
    tapered: bool = False,
    batch: int = 1,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Iterator[tuple[int, Tensor]]:
    """Yields the averaged logits of windows that are read when they run, in bands: the first row, and (K, rows, W).

    Args:
        logits_at: gives the logits of windows.
        windows: where they are; their own pixels are those of the result.
        align_corners: how the logits of a window are enlarged.
        tapered: weight windows by `taper`, so that no edge shows; otherwise all pixels count alike, as in mmseg.
        batch: windows that run at one time.
        progress: called with the number of finished windows and of all windows.
    """
    weights = (taper(windows.window[0]), taper(windows.window[1])) if tapered else None
    live: list[_Row] = []
    start = 0
    for row, finished in _rows_of_windows(logits_at, windows, batch, progress):
        live.append(row)
        band = rows_in_band(len(row.logits[0]), windows.size, windows.size)
        while start < finished:
            stop = min(start + band, finished)
            yield start, _average(live, windows, start, stop, align_corners, weights)
            start = stop
        live = [row for row in live if row.bottom > start]


def taper(length: int) -> Tensor:
    """Returns weights that fall linearly from the middle of a window to its ends, (length,), all above 0, at most 1."""
    steps = torch.arange(1, length + 1)
    return torch.minimum(steps, length + 1 - steps) / ((length + 1) // 2)


def rows_in_band(classes: int, before: Size, after: Size) -> int:
    """Returns how many rows of the result, resized from `before` to `after`, need logits of `BAND_BYTES`."""
    row = 4 * classes * max(after[1], before[1] * math.ceil(before[0] / after[0]))
    return max(BAND_BYTES // row, 1)


def _rows_of_windows(
    logits_at: LogitsAt,
    windows: Cut,
    batch: int,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[_Row, int]]:
    """Yields each row of windows from the top, and the px row above which all windows have run."""
    height = windows.window[0]
    count, done = len(windows.tops) * len(windows.lefts), 0
    for top, finished in zip(windows.tops, [*windows.tops[1:], windows.size[0]], strict=True):
        logits: list[Tensor] = []
        for index in range(0, len(windows.lefts), batch):
            lefts = windows.lefts[index : index + batch]
            logits.extend(logits_at(top, lefts))
            done += len(lefts)
            progress(done, count)
        yield _Row(top, top + height, logits), finished


def keeps_head_resolution(model: EncoderDecoder) -> bool:
    """Returns whether the logits are those of the head, only enlarged: neither model nor head overrides prediction."""
    segmentor, head = type(model), type(model.decode_head)
    return (
        segmentor.encode_decode is EncoderDecoder.encode_decode
        and segmentor.extract_feat is EncoderDecoder.extract_feat
        and head.predict is BaseDecodeHead.predict
        and head.predict_by_feat is BaseDecodeHead.predict_by_feat
    )


def head_logits(model: EncoderDecoder, crops: Tensor) -> Tensor:
    """Returns logits (B, K, h, w) at the resolution of the head; of `crops` if the head has its own prediction."""
    if keeps_head_resolution(model):
        return decode(model.decode_head, model.neck if model.with_neck else None, model.backbone(crops))
    return model.encode_decode(crops, [dict(img_shape=crops.shape[2:]) for _ in crops])


def _average(
    live: list[_Row],
    windows: Cut,
    start: int,
    stop: int,
    align_corners: bool,
    weights: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Averages the logits of windows on the px rows `start` to `stop`, (K, rows, W'); sums in mmseg's order.

    `weights` are those of the rows and of the columns of a window; without them each pixel has weight 1.
    """
    example = live[0].logits[0]
    enlarge = Resize((example.shape[1], example.shape[2]), windows.window, align_corners)
    total = example.new_zeros(len(example), stop - start, windows.size[1])
    rows, columns = total.new_zeros(stop - start, 1), total.new_zeros(windows.size[1])
    down, across = (part.to(total) for part in weights or map(torch.ones, windows.window))
    for left in windows.lefts:
        columns[left : left + windows.window[1]] += across
    for row in live:
        above, below = max(start, row.top), min(stop, row.bottom)
        if above >= below:
            continue
        inside = slice(above - start, below - start)
        weight = down[above - row.top : below - row.top, None]
        rows[inside] += weight
        first, end = enlarge.source(above - row.top, below - row.top)
        for left, logits in zip(windows.lefts, row.logits, strict=True):
            part = enlarge.rows(logits[:, first:end], above - row.top, below - row.top)
            total[:, inside, left : left + windows.window[1]] += part if weights is None else part * (weight * across)
    return total.div_(rows * columns)


def classes_of(model: EncoderDecoder, logits: Tensor) -> Tensor:
    """Returns the classes (H, W) of logits (K, H, W), as mmseg does."""
    if len(logits) == 1:
        return logits[0].sigmoid() > last_head(model.decode_head).threshold
    return logits.argmax(0)


def probabilities_of(logits: Tensor) -> Tensor:
    """Returns the probabilities (K, H, W) of logits (K, H, W); of two classes for a single logit."""
    if len(logits) == 1:
        second = logits[0].sigmoid()
        return torch.stack([1 - second, second])
    return logits.softmax(0)
