"""Defines what a segmentor finds in an image, how it is shown and written, and how lists of images are labelled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vil_dense.files import save_png, write_whole
from vil_dense.mm.inference.image_format import ImageLike, name_of, named_errors
from vil_dense.mm.inference.sliding_window import cut
from vil_dense.mm.inference.tiled_upernet import Size
from vil_dense.mm.visualization import draw

if TYPE_CHECKING:
    from vil_dense.mm.inference.segmentor import Segmentor

WAITING = 4
"""Bounds the images of other sizes that wait for their batch: this many batches."""


class Prepared(NamedTuple):
    """Stores an image as the network sees it.

    `inputs` is (1, C, H', W'), scaled, normalised and padded; `padding` of it is left, right, top, bottom in px. `size`
    is (H, W) of the image, and `image` is the image to look at, (H, W, 3) RGB uint8.
    """

    inputs: Tensor
    padding: Sequence[int]
    size: Size
    image: np.ndarray
    name: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """Stores the classes of the pixels of one image.

    Attributes:
        mask: (H, W) uint8, the ids of the data set's own label files (those of ADE20K begin at 1), in the size of the
            image. An image with an EXIF orientation is upright here.
        ids: the id in `mask` of each class, K numbers.
        classes: names of the K classes.
        palette: colour of each class, K times (R, G, B).
        image: (H, W, 3) RGB uint8, to look at.
        name: of the files that `save` writes: that of the image's file without ending, or a number.
        probabilities: (K, H, W) float32, the sum over the classes is 1; None unless asked for.
    """

    mask: np.ndarray = field(repr=False)
    ids: np.ndarray
    classes: tuple[str, ...]
    palette: Sequence[Sequence[int]] = field(repr=False)
    image: np.ndarray = field(repr=False)
    name: str
    probabilities: np.ndarray | None = field(default=None, repr=False)

    def class_indices(self) -> np.ndarray:
        """Returns the index of the class of each pixel, (H, W) int16, counted from 0."""
        table = np.full(max(256, int(self.ids.max()) + 1), -1, np.int16)
        table[self.ids] = np.arange(len(self.ids))
        return table[self.mask]

    def overlay(self, opacity: float = 0.5, legend: bool = True) -> Image.Image:
        """Returns the image with the colours of its classes over it.

        Args:
            opacity: of the colours, 0 to 1. Classes whose colour is black, as a background often is, show the image.
            legend: add a column on the right with the names of the classes that occur.

        Raises:
            ValueError: the opacity is not in 0..1.
        """
        indices = self.class_indices()
        shown = draw.overlay(self.image, indices, self.palette, opacity)
        return Image.fromarray(draw.add_legend(shown, indices, self.classes, self.palette) if legend else shown)

    def save(self, path: str | Path, *, opacity: float = 0.5) -> None:
        """Writes the mask to a `.png` file; or to a folder the mask, the overlay and the probabilities if there are.

        The PNG holds the ids and a palette, so that programs show it in colours. A folder gets `labels/NAME.png`,
        `overlays/NAME.png` and `probabilities/NAME.npy`.

        Raises:
            ValueError: a file of another kind, or an opacity that is not in 0..1.
            OSError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".png":
            draw.save_labels(path, self.mask, self.ids, self.palette)
            return
        if path.is_file() or path.suffix.lower() in Image.registered_extensions():
            raise ValueError(f"a mask is written to a .png file or to a folder, got {path}")
        overlay = np.asarray(self.overlay(opacity))
        draw.save_labels(path / "labels" / f"{self.name}.png", self.mask, self.ids, self.palette)
        save_png(path / "overlays" / f"{self.name}.png", overlay)
        probabilities = self.probabilities
        if probabilities is not None:
            write_whole(path / "probabilities" / f"{self.name}.npy", lambda part: np.save(part, probabilities))


def predict_list(
    segmentor: "Segmentor", images: Sequence[ImageLike], probabilities: bool, batch_size: int
) -> list[Prediction]:
    """Returns the prediction of each image, in the order of the list; see `Segmentor.predict`."""
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, got {batch_size}")
    names = [name_of(image) or f"{number:04d}" for number, image in enumerate(images)]
    if len(set(names)) < len(names):
        names = [f"{number:04d}_{name}" for number, name in enumerate(names)]
    found: dict[int, Prediction] = {}
    waiting: dict[tuple[int, ...], dict[int, Prepared]] = {}

    def run(shape: tuple[int, ...]) -> None:
        group = waiting.pop(shape)
        found.update(zip(group, run_together(segmentor, list(group.values()), probabilities), strict=True))

    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        with named_errors(image, f"image {index} of the list"):
            prepared = segmentor.prepare(image, name)
        shape = tuple(prepared.inputs.shape)
        waiting.setdefault(shape, {})[index] = prepared
        if len(waiting[shape]) == batch_size:
            run(shape)
        elif sum(map(len, waiting.values())) >= WAITING * batch_size:
            run(max(waiting, key=lambda key: len(waiting[key])))
    for shape in [*waiting]:
        run(shape)
    return [found[index] for index in range(len(images))]


@torch.no_grad()
def run_together(segmentor: "Segmentor", batch: Sequence[Prepared], probabilities: bool = False) -> list[Prediction]:
    """Returns the predictions of images whose `inputs` have one shape; in one run of the network for single windows."""
    windows = cut((batch[0].inputs.shape[2], batch[0].inputs.shape[3]), segmentor.model.test_cfg)
    if len(batch) == 1 or len(windows.tops) * len(windows.lefts) > 1:
        return [segmentor.run(prepared, probabilities) for prepared in batch]
    logits = segmentor.logits(torch.cat([prepared.inputs for prepared in batch]))
    return [
        segmentor.run(prepared, probabilities, logits=lambda _, one=one: one[None])  # type: ignore[misc]
        for prepared, one in zip(batch, logits, strict=True)
    ]
