"""Exports a trained segmentor as one file for other runtimes, and writes it only if its results are the same."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from vil_dense.files import check_file, write_whole
from vil_dense.mm.export.check import Agreement, Run, check_sizes, compare, seconds
from vil_dense.mm.export.network import PicturesToClasses, WindowsToLogits
from vil_dense.mm.export.onnx import open_onnx, save_onnx
from vil_dense.mm.export.torch_programs import open_program, open_torchscript, save_program, save_torchscript
from vil_dense.mm.inference.segmentor import Segmentor
from vil_dense.mm.publish.published import KEY, describe, parse
from vil_dense.mm.publish.trained_model import TrainedModel
from vil_dense.mm.utils.heads import last_head

SMALLEST_PX = 128
"""Least size that exports are checked around: half of it still has a place in maps of stride 32."""


class Format(NamedTuple):
    """Stores the ending of a format's files, and the functions that write and open one."""

    suffix: str
    save: Callable[[nn.Module, Tensor, Path, Mapping[str, str], str | None], None]
    open: Callable[[Path], Run]


FORMATS = {
    "onnx": Format(".onnx", save_onnx, open_onnx),
    "pt2": Format(".pt2", save_program, open_program),
    "torchscript": Format(".ts", save_torchscript, open_torchscript),
}
LAYOUTS = ("NHWC", "NCHW")
Network = TypeVar("Network", bound=Run)


class Exported(NamedTuple):
    """Stores the result of an export: size of the file, agreement at each checked size, seconds of the first one."""

    size: int
    agreements: list[Agreement]
    eager_seconds: float
    exported_seconds: float


def export(
    trained: TrainedModel,
    out: str | Path,
    *,
    format: str = "onnx",
    layout: str | None = None,
    name: str = "",
    licence: str = "",
    say: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Writes a trained segmentor to a file whose results are those of the segmentor at five sizes.

    Args:
        trained: the model.
        out, format: a file with the ending of the format, which is one of `FORMATS`.
        layout: of uint8 RGB pictures, `NHWC` or `NCHW`: the file scales them itself and gives classes (B, H, W). None:
            the file maps normalised windows (B, C, H, W), float32, to logits (B, K, H, W).
        name, licence: see `publish`.
        say: receives a text before each step.

    Raises:
        ValueError: the model has a part that cannot be described or exported, or the results differ.
        ImportError: a package of the format is not installed.
    """
    out, kind, found = Path(out), FORMATS[format], list[Exported]()
    if out.suffix != kind.suffix:
        raise ValueError(f"a file of --format {format} ends in {kind.suffix}, got {out}")
    check_file(out)
    content = describe(trained, name, licence)
    parse(json.dumps(content))  # what could not be read again is not written
    segmentor = Segmentor(trained, device="cpu")
    network = _with_preprocessing(WindowsToLogits(segmentor.model), segmentor, layout)
    texts = _texts(content, segmentor, layout)
    inputs = [_example(segmentor, layout, *size) for size in check_sizes(*_crop(trained))]

    def save(part: Path) -> None:
        say(f"exporting as {format}, which takes minutes for 24 blocks")
        kind.save(network, inputs[1], part, texts, layout)
        say("loading the exported file")
        run, reference = kind.open(part), _reference(segmentor, layout)
        agreements = compare(run, reference, inputs, say)
        say("timing")
        found.append(Exported(part.stat().st_size, agreements, seconds(reference, inputs[0]), seconds(run, inputs[0])))

        say(f"writing {out}")

    write_whole(out, save)
    return found[0]


def _crop(trained: TrainedModel) -> tuple[int, int]:
    """Returns (H, W) of the windows of the test, or of the crops of the training."""
    model = trained.cfg.model
    size = (model.get("test_cfg") or {}).get("crop_size") or model.data_preprocessor.get("size") or (512, 512)
    return max(int(size[0]), SMALLEST_PX), max(int(size[1]), SMALLEST_PX)


def _example(segmentor: Segmentor, layout: str | None, batch: int, height: int, width: int) -> Tensor:
    """Returns random windows, or random pictures of blocks of 8 px."""
    generator = torch.Generator().manual_seed(batch * height + width)
    channels = segmentor.format.channels
    if layout is None:
        return torch.randn(batch, channels, height, width, generator=generator)
    blocks = torch.randint(256, (batch, channels, height // 8 + 1, width // 8 + 1), generator=generator)
    pictures = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)[..., :height, :width].to(torch.uint8)
    return pictures.permute(0, 2, 3, 1).contiguous() if layout == "NHWC" else pictures.contiguous()


def _with_preprocessing(network: Network, segmentor: Segmentor, layout: str | None) -> Network | PicturesToClasses:
    """Returns a network of windows as one of pictures in `layout`; None leaves it as it is."""
    if layout is None:
        return network
    if layout not in LAYOUTS:
        raise ValueError(f"--with-preprocessing takes {' or '.join(LAYOUTS)}, got {layout}")
    if segmentor.format.load is not None and segmentor.format.deep:
        raise ValueError(
            "--with-preprocessing takes pictures of 8 bits, and the model was trained on all bits of its files"
        )
    head, scaling = last_head(segmentor.model.decode_head), _scaling(segmentor)
    return PicturesToClasses(
        network,
        torch.tensor(scaling.mean).view(-1, 1, 1),
        torch.tensor(scaling.std).view(-1, 1, 1),
        channels_last=layout == "NHWC",
        bgr=scaling.bgr,
        threshold=head.threshold if head.out_channels == 1 else None,
    ).eval()


class _Scaling(NamedTuple):
    """Stores how pictures are scaled: (pixel - mean) / std for each channel, in the order blue, green, red if `bgr`."""

    mean: list[float]
    std: list[float]
    bgr: bool


def _scaling(segmentor: Segmentor) -> _Scaling:
    cfg, channels = segmentor.trained.cfg.model.data_preprocessor, segmentor.format.channels
    converted = bool(cfg.get("bgr_to_rgb") or cfg.get("rgb_to_bgr"))
    mean, std = (list(cfg.get(key) or [value] * channels) for key, value in (("mean", 0.0), ("std", 1.0)))
    return _Scaling(mean, std, bgr=channels == 3 and segmentor.format.bgr != converted)


def _reference(segmentor: Segmentor, layout: str | None) -> Run:
    """Returns the segmentor itself, without what is replaced for an export."""

    def logits(inputs: Tensor) -> Tensor:
        return segmentor.model.encode_decode(inputs, [dict(img_shape=inputs.shape[2:])] * len(inputs))

    return _with_preprocessing(logits, segmentor, layout)


def _texts(content: dict[str, Any], segmentor: Segmentor, layout: str | None) -> dict[str, str]:
    """Returns the metadata: the description for this package, and its main parts as JSON for other readers."""
    mean, std, bgr = _scaling(segmentor)
    preprocessing = dict(
        mean=mean,
        std=std,
        channels="BGR" if bgr else "RGB" if segmentor.format.channels == 3 else str(segmentor.format.channels),
        layout=layout or "NCHW",
        inside=layout is not None,
    )
    return {
        KEY: json.dumps(content),
        "classes": json.dumps(content["data"]["classes"]),
        "palette": json.dumps(content["data"]["palette"]),
        "ids": json.dumps(segmentor.ids.tolist()),
        "preprocessing": json.dumps(preprocessing),
        "version": content["version"],
    }
