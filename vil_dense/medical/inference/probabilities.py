"""Writes class probabilities as a NIfTI file: filled slab by slab on the disk, then chosen, rounded and compressed."""

import glob
import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vil_dense.files import write_whole
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.inference.ensemble import scratch_array
from vil_dense.medical.inference.volume_predictor import PROBABILITY_STEPS
from vil_dense.medical.io.grid import Grid, move_slices_back
from vil_dense.medical.io.volumes import mask_header
from vil_dense.medical.label_map import LabelMap

GZIP_LEVEL = 1
"""Higher levels take several times as long and save a few percent."""
SLICES = 16
"""Slices that are compressed at a time."""


@dataclass(frozen=True)
class Probabilities:
    """Chooses which probabilities are written.

    Args:
        names: classes in the order of the file's fourth axis; empty: all of the plan.
        bits: 8, in steps of 0.4 %, or 16.

    Raises:
        ValueError: another number of bits.
    """

    names: Sequence[str] = ()
    bits: int = 16

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise ValueError(f"probabilities are stored in 8 or 16 bits, got {self.bits}")

    def classes(self, plan: Plan) -> list[int]:
        """Returns the chosen outputs of the network.

        Raises:
            ValueError: the plan has no such class.
        """
        outputs = LabelMap.of(plan).outputs
        if unknown := [name for name in self.names if name not in outputs]:
            raise ValueError(f"no class {unknown[0]!r} for probabilities; known: {', '.join(outputs)}")
        return [outputs.index(name) for name in self.names or outputs]


@contextmanager
def probability_file(path: Path, grid: Grid, plan: Plan, chosen: Probabilities) -> Iterator[np.ndarray]:
    """Gives an array (I, J, K, classes) uint16 of all classes of the plan, and writes the chosen ones after the block.

    The array is a temporary file, as it may be larger than memory.

    Args:
        path: ends in `.nii.gz`. Its header scales the voxels to 0 to 1.

    Raises:
        OSError: it could not be written; no partial file is left.
    """
    shape = (*grid.shape, len(LabelMap.of(plan).outputs))
    for left in path.parent.glob(f".part-*-{glob.escape(path.name)}*"):  # by a process that was killed
        left.unlink()
    with scratch_array(shape, path.parent) as array:
        yield array
        classes = chosen.classes(plan)
        write_whole(path, lambda part: _compress(part, array, grid, classes, chosen.bits))


def _compress(path: Path, array: np.ndarray, grid: Grid, classes: Sequence[int], bits: int) -> None:
    """Writes the classes of an array (I, J, K, classes) uint16 in 8 or 16 bits, in the order of NIfTI's voxels."""
    dtype = np.dtype(f"u{bits // 8}")
    header = mask_header(grid, dtype, len(classes))
    header.extensions.clear()
    header.set_data_offset(header.single_vox_offset)
    header.set_slope_inter(1 / np.iinfo(dtype).max, 0)
    stored = dtype.newbyteorder(header.endianness)
    with gzip.open(path, "wb", GZIP_LEVEL) as file:
        header.write_to(file)
        file.write(b"\0" * (header.single_vox_offset - file.tell()))
        for value in classes:
            for k in range(0, grid.shape[2], SLICES):
                block = move_slices_back(array[:, :, k : k + SLICES, value], grid, k)
                if bits == 8:
                    block = np.rint(block * np.float32(255 / PROBABILITY_STEPS))
                file.write(block.astype(stored).tobytes(order="F"))
