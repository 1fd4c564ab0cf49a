"""What is wrong with the files of a data list, said before the first step: one sentence a fault, the case named."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from vil_dense.medical.datalist import Case

SHOWN = 5
TOLERANCE_VOX = 0.05
"""By so much of a voxel may the corners of an image and its label lie apart."""


def read_volume(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of a NIfTI file as it stores them, scaled by its slope, and its affine (4, 4) in mm.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no NIfTI, truncated, or an affine that is singular or not finite; in one sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        image = nib.load(path)
        voxels = np.asanyarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=float)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise ValueError(f"{path} is no NIfTI file: {str(error).splitlines()[0]}") from None
    except (EOFError, OSError, ValueError, zlib.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is truncated or damaged: {first}") from None
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError(
            f"{path} has an affine that is singular or not finite: its header does not say where voxels lie"
        )
    return voxels, affine


def faults_of(case: Case, channels: int, labels: Sequence[int]) -> Iterator[str]:
    """Sentences, none for a sound case.

    Args:
        channels: number of input channels.
        labels: values that a label may have.
    """
    try:
        images = [read_volume(path) for path in case.images]
        label = read_volume(case.label) if case.label is not None else None
    except (FileNotFoundError, ValueError) as error:
        yield f"case {case.name}: {error}"
        return
    count = 0
    for path, (voxels, _) in zip(case.images, images, strict=True):
        count += voxels.shape[3] if voxels.ndim == 4 else 1
        if voxels.ndim not in (3, 4):
            yield f"case {case.name}: {path.name} has {voxels.ndim} axes, a volume has 3 (4 with channels)"
            return
        if voxels.dtype.kind not in "biuf":
            yield f"case {case.name}: {path.name} holds {voxels.dtype}, expected real numbers"
            return
        bad = int(voxels.size - np.isfinite(voxels).sum())
        if bad:
            yield f"case {case.name}: {path.name} has {bad} voxels that are NaN or infinite"
    if count != channels:
        yield f"case {case.name}: {count} channels, the plan has {channels}"
    parts = [(path.name, voxels, affine) for path, (voxels, affine) in zip(case.images, images, strict=True)]
    if label is not None and case.label is not None:
        yield from _label_faults(case.name, case.label.name, label[0], labels)
        parts.append((case.label.name, *label))
    yield from _grid_faults(case.name, parts)


def _label_faults(case: str, file: str, voxels: np.ndarray, labels: Sequence[int]) -> Iterator[str]:
    if voxels.ndim != 3:
        yield f"case {case}: the label {file} has {voxels.ndim} axes, expected 3"
        return
    values = np.unique(voxels)
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        odd = next(value for value in values if not np.isfinite(value) or value != np.rint(value))
        yield f"case {case}: the label {file} holds {odd:g}, labels are whole numbers"
    elif unknown := [f"{value:g}" for value in values if int(value) not in labels]:
        known = ", ".join(map(str, labels))
        yield f"case {case}: the label {file} holds {', '.join(unknown[:3])}, the plan's labels are {known}"


def _grid_faults(case: str, parts: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Iterator[str]:
    first, voxels, affine = parts[0]
    for name, other, other_affine in parts[1:]:
        if other.shape[:3] != voxels.shape[:3]:
            yield f"case {case}: {name} has the shape {other.shape[:3]}, {first} {voxels.shape[:3]}"
            continue
        apart = np.linalg.inv(affine) @ other_affine @ _corners(voxels.shape[:3]) - _corners(voxels.shape[:3])
        if abs(apart[:3]).max() > TOLERANCE_VOX:
            yield f"case {case}: {name} lies up to {abs(apart[:3]).max():.3g} voxels from {first}: affines differ"


def _corners(shape: Sequence[int]) -> np.ndarray:
    """The corner voxels of a volume in homogeneous coordinates, (4, 8)."""
    ends = np.stack(np.meshgrid(*[(0, length - 1) for length in shape], indexing="ij")).reshape(3, -1)
    return np.vstack([ends, np.ones(8)])


def check_cases(
    cases: Sequence[Case],
    channels: int,
    labels: Sequence[int],
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Reads every file of `cases` once.

    Args:
        report: called with the number of cases done and of all.

    Raises:
        ValueError: the first faults, a sentence each, and how many cases have one.
    """
    faults: list[str] = []
    faulty = 0
    for done, case in enumerate(cases, 1):
        found = list(faults_of(case, channels, labels))
        faults += found
        faulty += bool(found)
        if report:
            report(done, len(cases))
    if faults:
        more = f"; {len(faults) - SHOWN} more faults" if len(faults) > SHOWN else ""
        raise ValueError(f"{faulty} of {len(cases)} cases cannot be used: {'; '.join(faults[:SHOWN])}{more}")
