"""Averages the predictions of several configurations, whose networks may see other grids, patches and orientations.

The networks of one configuration, as those of the folds of a cross-validation, see the same grid: their logits are
averaged there (`volume_predictor.predict`). Configurations are averaged on the grid of the file: each gives its class
probabilities in 16 bits, and the mean of these decides. So each configuration counts the same, however many networks it
has. The probabilities are files on the disk, of 2 bytes for each class and voxel of each configuration, and go when the
case is done.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from vil_dense.cost.memory import GIB
from vil_dense.medical.data.plan_schema import LABEL_KEYS, Plan
from vil_dense.medical.inference.uncertainty import uncertainty_maps
from vil_dense.medical.inference.volume_predictor import PROBABILITY_STEPS, predict
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.label_map import LabelMap

SLAB_BYTES = 2**27
"""Most bytes of the sums of a slab."""


class Configuration(NamedTuple):
    """Stores the networks of one plan, in eval mode, and the windows in which they see a volume.

    Networks of the second stage of a `cascade` hold those of their first stage as `first_stage`, each with its `plan`
    and `windows`.
    """

    networks: Sequence[nn.Module]
    plan: Plan
    windows: SlidingWindow

    @property
    def first_stage(self) -> "Configuration | None":
        """Returns the networks of the first stage, whose mean gives the mask that the second sees; None without."""
        if "first_stage" not in self.plan:
            return None
        held: list[Any] = [first for network in self.networks for first in getattr(network, "first_stage", ())]
        return Configuration(held, held[0].plan, held[0].windows) if held else None

    @property
    def stages(self) -> "list[Configuration]":
        """Lists the configurations that see a volume one after another."""
        first = self.first_stage
        return [self] if first is None else [first, self]


def check_configurations(configurations: Sequence[Configuration]) -> None:
    """Checks that configurations see the same channels and tell the same classes.

    Raises:
        ValueError: they do not.
    """
    first = configurations[0].plan
    for other in configurations[1:]:
        if (wanted := list(first["channels"])) != (got := list(other.plan["channels"])):
            raise ValueError(f"predictions are averaged over equal channels, got {wanted} and {got}")
        if LabelMap.of(first) != LabelMap.of(other.plan):
            labels = [
                {key: plan[key] for key in ("labels", *LABEL_KEYS) if key in plan} for plan in (first, other.plan)
            ]
            raise ValueError(f"predictions are averaged over equal labels, got {labels[0]} and {labels[1]}")


def predict_mean(
    configurations: Sequence[Configuration],
    image: np.ndarray,
    affine: np.ndarray,
    *,
    mirror: bool = False,
    device: torch.device | str = "cpu",
    probabilities: np.ndarray | None = None,
    uncertainty: np.ndarray | None = None,
    scratch: Path | None = None,
    done: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Returns the mask, (I, J, K) uint8 (uint16 with values above 255), on the grid of the image.

    Args:
        configurations: see `check_configurations`; a single one is predicted as it is.
        image, affine, mirror, probabilities, uncertainty, done: see `volume_predictor.predict`; the uncertainty of
            several configurations is that of their probabilities.
        scratch: folder for the probabilities of the configurations.

    Raises:
        OSError: the disk is full.
    """

    def run(configuration: Configuration, filled: np.ndarray | None, maps: np.ndarray | None = None) -> np.ndarray:
        options: dict[str, Any] = dict(mirror=mirror, device=device, done=done)
        if first := configuration.first_stage:
            mask = predict(first.networks, image, affine, first.plan, first.windows, **options)
            options["first_stage"] = mask
        options |= dict(probabilities=filled, uncertainty=maps)
        return predict(configuration.networks, image, affine, configuration.plan, configuration.windows, **options)

    if len(configurations) == 1:
        return run(configurations[0], probabilities, uncertainty)
    known = LabelMap.of(configurations[0].plan)
    shape = (*image.shape[1:], len(known.outputs))
    with ExitStack() as files:
        parts = [files.enter_context(scratch_array(shape, scratch)) for _ in configurations]
        for configuration, part in zip(configurations, parts, strict=True):
            run(configuration, part)
        return mean_mask(parts, known, probabilities, uncertainty)


def mean_mask(
    parts: Sequence[np.ndarray],
    known: LabelMap,
    probabilities: np.ndarray | None = None,
    uncertainty: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the mask of mean probabilities, (I, J, K) uint8 or uint16.

    Args:
        parts: (I, J, K, outputs) uint16 each, see `volume_predictor.PROBABILITY_STEPS`.
        probabilities: an array of this form to fill with the mean.
        uncertainty: an array (I, J, K, maps) float32 to fill with the maps of `uncertainty.measure_names` of the parts.
    """
    *shape, classes = parts[0].shape
    mask = np.zeros(shape, known.mask_dtype)
    step = max(1, SLAB_BYTES // (4 * math.prod(shape[:2]) * classes))
    for start in range(0, shape[2], step):
        place = np.s_[:, :, start : start + step]
        total = np.zeros(parts[0][place].shape, np.uint32)
        for part in parts:
            total += part[place]
        mask[place] = known.mask(np.moveaxis(total, -1, 0), len(parts) * PROBABILITY_STEPS / 2)
        if probabilities is not None:
            probabilities[place] = np.round(total / len(parts))
        if uncertainty is not None:
            members = (torch.from_numpy(np.divide(part[place], PROBABILITY_STEPS, dtype=np.float32)) for part in parts)
            maps = uncertainty_maps([member.movedim(-1, 0) for member in members], known.regions)
            uncertainty[place] = maps.movedim(0, -1).numpy()
    return mask


@contextmanager
def scratch_array(shape: Sequence[int], folder: Path | None, dtype: type = np.uint16) -> Iterator[np.ndarray]:
    """Gives an array in a file that has no name, and so is gone when the process ends in whatever way.

    Raises:
        OSError: the disk of `folder` (default: that of temporary files) has no room for it.
    """
    folder, size = folder or Path(tempfile.gettempdir()), np.dtype(dtype).itemsize * math.prod(shape)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            # a full disk says so here, not by a signal when the pages are written
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise OSError(
                f"{folder} has no room for {size / GIB:.2f} GiB of temporary data: {error.strerror}"
            ) from None
        yield np.memmap(file, dtype, "r+", shape=tuple(shape), order="F")
