"""Labels lists of images; those that are one window of the same size for the network run together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vil_dense.mm.inference.image_format import ImageLike, name_of, named_errors
from vil_dense.mm.inference.prediction import Prediction, Prepared
from vil_dense.mm.inference.sliding_window import cut

if TYPE_CHECKING:
    from vil_dense.mm.inference.segmentor import Segmentor

WAITING = 4
"""Bounds the images of other sizes that wait for their batch: this many batches."""


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
