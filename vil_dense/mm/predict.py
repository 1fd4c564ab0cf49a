"""A trained segmentor on pictures without labels."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path

import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS
from mmengine.utils import track_iter_progress
from mmseg.registry import DATASETS
from PIL import Image, ImageOps

from vil_dense.mm import draw, settle
from vil_dense.mm.safe_load import load_exactly, load_safely, weights_of

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def find_pictures(inputs: Sequence[str]) -> dict[Path, Path]:
    """Every picture of `inputs` -> where its result goes below the output folder, without suffix.

    Raises:
        FileNotFoundError: an input that is not there, or a folder without pictures.
        ValueError: two pictures whose results would have one name.
    """
    found: dict[Path, Path] = {}
    for entry in map(Path, inputs):
        if entry.is_dir():
            inside = sorted(path for path in entry.rglob("*") if path.suffix.lower() in SUFFIXES)
            if not inside:
                raise FileNotFoundError(f"no pictures in {entry} (looked for {' '.join(SUFFIXES)})")
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
    """A picture as mmcv reads it, (H, W, 3) BGR uint8, turned as its EXIF note says. OSError where it is damaged."""
    with Image.open(path) as picture:
        return np.ascontiguousarray(np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))[..., ::-1])


class Predictor:
    """A config's segmentor with the weights of a checkpoint; scales and cuts pictures as the config's test does.

    Raises:
        ValueError, FileNotFoundError: a checkpoint that cannot be used.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str) -> None:
        content = load_safely(checkpoint)
        settle.settle_neck(cfg)
        settle.settle_norm(cfg, world_size=1, cuda=False, weights=weights_of(content))
        dataset = cfg.test_dataloader.dataset
        kind = DATASETS.get(dataset.type)
        self.classes = content.get("meta", {}).get("dataset_meta") or kind.METAINFO
        default = signature(kind).parameters.get("reduce_zero_label")
        self.reduce_zero_label = dataset.get("reduce_zero_label", default.default if default else False)
        steps = [step for step in dataset.pipeline[1:] if step.type != "LoadAnnotations"]
        self.prepare = Compose([dict(type="LoadImageFromNDArray"), *steps])
        self.model = MODELS.build(cfg.model)
        load_exactly(self.model, weights_of(content), checkpoint)
        self.model.to(device).eval()

    def label(self, image: np.ndarray) -> np.ndarray:
        """Class indices, (H, W), of a BGR picture."""
        data = pseudo_collate([self.prepare(dict(img=image))])
        return self.model.test_step(data)[0].pred_sem_seg.data[0].cpu().numpy()

    def write_all(self, pictures: dict[Path, Path], out: Path) -> list[str]:
        """Label and overlay of each picture below `out`; returns the names of those that could not be read."""
        unread = []
        first_id = 1 if self.reduce_zero_label else 0
        for path, name in track_iter_progress(list(pictures.items())):
            try:
                image = read_picture(path)
            except (OSError, SyntaxError, ValueError):
                unread.append(str(path))
                continue
            label = self.label(image)
            draw.save_png(out / "labels" / f"{name}.png", (label + first_id).astype(np.uint8))
            seen = draw.overlay(image[..., ::-1], label, self.classes["palette"])
            draw.save_png(out / "overlays" / f"{name}.png", seen)
        return unread
