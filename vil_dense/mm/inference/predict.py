"""Labels pictures with a trained segmentor."""

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image, ImageOps, UnidentifiedImageError

from vil_dense.backbones.memory import GIB, free_memory
from vil_dense.files import describe_skipped, save_png
from vil_dense.mm.datasets.label_ids import save_label
from vil_dense.mm.datasets.label_pairs import loads_labels
from vil_dense.mm.datasets.pictures import FORMATS, SUFFIXES
from vil_dense.mm.datasets.wrappers import config_parts
from vil_dense.mm.engine.failures import RunFault, describe_out_of_memory, is_out_of_memory
from vil_dense.mm.engine.resolve_config import resolve_norm
from vil_dense.mm.engine.resolve_pictures import resolve_from_checkpoint
from vil_dense.mm.inference.memory import estimate
from vil_dense.mm.inference.sliding_window import cut, label_map
from vil_dense.mm.inference.tiled_upernet import Size
from vil_dense.mm.utils.safe_load import load_exactly, load_safely, weights_of
from vil_dense.mm.visualization import draw
from vil_dense.progress import Progress


def find_pictures(inputs: Sequence[str]) -> dict[Path, Path]:
    """Returns the pictures of `inputs`, and for each the path of its result below the output folder, without suffix.

    Raises:
        FileNotFoundError: an input that is not there, or a folder without pictures.
        ValueError: two pictures whose results would have one name.
    """
    found: dict[Path, Path] = {}
    for entry in map(Path, inputs):
        if entry.is_dir():
            inside = sorted(path for path in entry.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
            if not inside:
                raise FileNotFoundError(f"no pictures in {entry} (looked for {' '.join(SUFFIXES)})")
            if skipped := describe_skipped(entry, inside):
                print(f"warning: {skipped}", file=sys.stderr)
            found.update({path: path.relative_to(entry).with_suffix("") for path in inside})
        elif entry.is_file():
            found[entry] = Path(entry.stem)
        else:
            raise FileNotFoundError(f"no picture or folder at {entry}")
    owner: dict[Path, Path] = {}
    for path, name in found.items():
        if owner.setdefault(name, path) != path:
            raise ValueError(f"{owner[name]} and {path} would both be written as {name}.png")
    return found


def read_picture(path: Path) -> np.ndarray:
    """Reads a picture as mmcv does, (H, W, 3) BGR uint8, rotated by its EXIF orientation.

    Raises:
        OSError: it is damaged.
        ValueError: its pixels have more than 8 bits, which Pillow would cut off at 255.
        Image.DecompressionBombError: it is larger than Pillow's limit of 179 million px.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from half the limit on
        picture = Image.open(path, formats=FORMATS)
    with picture:
        if picture.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels are of Pillow's mode {picture.mode}, and 8 bits a channel were expected")
        return np.ascontiguousarray(np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))[..., ::-1])


UNREADABLE = (Image.DecompressionBombError, OSError, SyntaxError, ValueError)
"""Errors of `read_picture`, and of Pillow for some damaged files."""


def _why_unread(path: Path, error: Exception) -> str:
    """Returns the path of a picture and why it cannot be read."""
    if isinstance(error, Image.DecompressionBombError):
        return f"{path} (more than the {2 * (Image.MAX_IMAGE_PIXELS or 0):,} px that Pillow opens)"
    why = f"not one of {', '.join(FORMATS)}" if isinstance(error, UnidentifiedImageError) else error
    return f"{path} ({why})"


def _count_windows(progress: Progress, picture: int, pictures: int, done: int, count: int) -> None:
    """Reports windows of a picture as parts of it."""
    progress(picture + done / count, pictures, f"window {done} of {count}" if count > 1 else "")


class Predictor:
    """Applies the segmentor of a config, with the weights of a checkpoint, to pictures, as the config's test does.

    Args:
        cfg: its `model.test_cfg` says how pictures are cut, see `sliding_window.choose_windows`.
        checkpoint: its weights.
        device: cpu or cuda.
        own_size: leave out the scaling of the config's test.
        batch: how many windows the network sees at one time.

    Raises:
        ValueError, FileNotFoundError: a checkpoint or a config that cannot be used.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str, *, own_size: bool = False, batch: int = 1) -> None:
        if batch < 1:
            raise ValueError(f"--window-batch is at least 1, got {batch}")
        if "decode_head" not in cfg.model:
            raise ValueError(f"{cfg.filename} trains a {cfg.model.type}, which labels no pictures")
        content = load_safely(checkpoint)
        resolve_norm(cfg, world_size=1, cuda=False, weights=weights_of(content))
        resolve_from_checkpoint(cfg, content.get("meta", {}).get("dataset_meta") or {})
        dataset = next(config_parts(cfg.test_dataloader.dataset))
        kind = DATASETS.get(dataset.type)
        self.classes = content.get("meta", {}).get("dataset_meta") or kind.METAINFO
        default = signature(kind).parameters.get("reduce_zero_label")
        reduced = dataset.get("reduce_zero_label", default.default if default else False)
        self.classes = dict(reduce_zero_label=reduced) | self.classes
        steps = [step for step in dataset.pipeline[1:] if not loads_labels(TRANSFORMS.get(step.type))]
        steps = [step for step in steps if not (own_size and step.type == "Resize")]
        self.prepare = Compose([dict(type="LoadImageFromNDArray"), *steps])
        self.model = MODELS.build(cfg.model)
        load_exactly(self.model, weights_of(content), checkpoint)
        self.model.to(device).eval()
        self.device, self.batch = device, batch
        self.largest = 0

    def label(self, image: np.ndarray, progress: Callable[[int, int], None] = lambda done, count: None) -> np.ndarray:
        """Returns the class indices, (H, W) uint8, of a BGR picture; calls `progress` with windows done and of all."""
        if getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"a BGR picture was expected, (H, W, 3) uint8, got {found}")
        data = self.model.data_preprocessor(pseudo_collate([self.prepare(dict(img=image))]), False)
        inputs, meta = data["inputs"], data["data_samples"][0].metainfo
        padding = meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0)))
        size, seen = image.shape[:2], tuple(inputs.shape[2:])
        if size[0] * size[1] > self.largest:
            self.largest = size[0] * size[1]
            self._log_memory(seen, size)
        labels = label_map(self.model, inputs, size, padding=padding, batch=self.batch, progress=progress)
        return labels.numpy()

    def write_all(self, pictures: dict[Path, Path], out: Path) -> list[str]:
        """Writes label and overlay of each picture below `out`; returns the names of those that could not be read.

        Raises:
            RunFault: there is no memory for a picture; what would need less.
        """
        unread = []
        with Progress("pictures") as progress:
            for index, (path, name) in enumerate(pictures.items()):
                try:
                    image = read_picture(path)
                except UNREADABLE as error:
                    unread.append(_why_unread(path, error))
                    progress(index + 1, len(pictures))
                    continue
                try:
                    label = self.label(image, partial(_count_windows, progress, index, len(pictures)))
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    raise RunFault(f"{path}: {describe_out_of_memory(error)}{self._less_memory()}") from error
                save_label(out / "labels" / f"{name}.png", label, self.classes)
                seen = draw.overlay(image[..., ::-1], label.astype(np.int16), self.classes["palette"])
                save_png(out / "overlays" / f"{name}.png", seen)
        return unread

    def _less_memory(self) -> str:
        if self.model.test_cfg.get("mode", "whole") != "slide":
            return "windows need less: --window 512, and no --whole"
        size = " x ".join(map(str, self.model.test_cfg.crop_size))
        fewer = f", or --window-batch of less than {self.batch}" if self.batch > 1 else ""
        return f"a --window smaller than {size} needs less{fewer}"

    def _log_memory(self, inputs: Size, size: Size) -> None:
        """Prints the memory that a picture will take, and a warning if less is free."""
        windows = cut(inputs, self.model.test_cfg)
        count = len(windows.tops) * len(windows.lefts)
        how = f"{count} windows of {windows.window[0]} x {windows.window[1]} px" if count > 1 else "whole"
        print(
            f"largest picture so far (height x width): {size[0]} x {size[1]} px, "
            f"network input {inputs[0]} x {inputs[1]} px, {how}"
        )
        expected = estimate(self.model, inputs, size, self.batch)
        if expected is None:
            print("memory: not estimated (only for a ViL backbone with a standard mmseg head)")
            return
        print(f"memory: {expected}")
        free = free_memory(self.device)
        if free is not None and expected.needed > free:
            print(
                f"warning: {free / GIB:.1f} GiB are free and about {expected.needed / GIB:.1f} GiB more are needed: "
                "smaller --window or --window-batch need less",
                file=sys.stderr,
            )
