"""Segments volumes from Python: a file, an array with its affine, or a nibabel image."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import nn

from vil_dense.files import read_json, write_whole
from vil_dense.medical.data.plan_schema import Plan, read_plan
from vil_dense.medical.inference.ensemble import Configuration, check_configurations, predict_mean
from vil_dense.medical.inference.probabilities import Probabilities
from vil_dense.medical.inference.report import describe_mask
from vil_dense.medical.inference.uncertainty import measure_names
from vil_dense.medical.inference.volume_predictor import PROBABILITY_STEPS
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.io.dicom.masks import DICOM_MASKS
from vil_dense.medical.io.geometry import voxel_ml
from vil_dense.medical.io.grid import Grid, move_slices, move_slices_back, new_grid
from vil_dense.medical.io.volumes import at_frame, mask_image, read_grid, read_grids
from vil_dense.medical.label_map import LabelMap, written_labels
from vil_dense.medical.networks.nets import NETWORKS, target
from vil_dense.medical.postprocess import Steps, check_steps, largest_alone, postprocess
from vil_dense.state_files import read_state

Volume = str | PathLike[str] | Sequence[str | PathLike[str]] | tuple[Any, Any] | nibabel.spatialimages.SpatialImage
"""A file (or one for each channel), an array (I, J, K) or (I, J, K, C) with its affine (4, 4), or a nibabel image."""


@dataclass(frozen=True)
class VolumePrediction:
    """Holds the mask of a volume on the grid of the input.

    Args:
        mask: (I, J, K) uint8 (uint16 with values above 255) with the affine and orientation of the input.
        labels: value of each class in the mask by its name, or the values of a region.
        volumes_ml: volume of each class but the background by its name, ml.
        grid: of the input.
        probabilities: (I, J, K, classes) float32, if they were requested.
        uncertainty: maps (I, J, K) float32 from 0 to 1 by their name, see `uncertainty`, if they were requested.
    """

    mask: nibabel.Nifti1Image
    labels: dict[str, Any]
    volumes_ml: dict[str, float]
    grid: Grid = field(repr=False)
    probabilities: nibabel.Nifti1Image | None = None
    uncertainty: dict[str, nibabel.Nifti1Image] = field(default_factory=dict)

    def save(self, path: str | PathLike[str], *, dicom: str = "dicom_seg") -> None:
        """Writes the mask: NIfTI for `.nii` and `.nii.gz`; for `.dcm`, if the input was DICOM, a form of `DICOM_MASKS`.

        Args:
            path: the file.
            dicom: `dicom_seg`, a segmentation, or `rtstruct`, a structure set.

        Raises:
            ValueError: another ending or form, or `.dcm` for an input that was not DICOM.
            OSError: it could not be written; no partial file is left.
        """
        path = Path(path)
        if path.name.endswith(".dcm"):
            if dicom not in DICOM_MASKS:
                raise ValueError(f"a mask in DICOM is {' or '.join(DICOM_MASKS)}, got {dicom!r}")
            DICOM_MASKS[dicom](path, move_slices(np.asarray(self.mask.dataobj), self.grid), self.grid, self.labels)
        elif path.name.endswith((".nii", ".nii.gz")):
            write_whole(path, lambda part: nibabel.save(self.mask, part))
        else:
            raise ValueError(f"{path}: a mask is saved as .nii, .nii.gz or, for DICOM input, .dcm")


class VolumePredictor:
    """Segments volumes of any size, orientation and spacing by trained networks.

    Args:
        networks: in eval mode on `device`, see `volume_predictor.predict`.
        plan: see `plan_schema`.
        windows: default: the plan's patch, overlapping by half.
        others: further configurations, whose probabilities are averaged with those of `networks`.
        mirror, largest: average over mirror images; keep the largest component of each structure.
        steps: of `postprocess`, instead of `largest`.

    Raises:
        ValueError: the configurations differ in channels or classes, or the steps do not fit the plan.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        plan: Plan,
        windows: SlidingWindow | None = None,
        *,
        others: Sequence[Configuration] = (),
        device: torch.device | str = "cpu",
        mirror: bool = False,
        largest: bool = False,
        steps: Steps | None = None,
    ) -> None:
        self.configurations = [Configuration(networks, plan, windows or SlidingWindow.of(plan)), *others]
        check_configurations(self.configurations)
        self.plan, self.device, self.mirror = plan, device, mirror
        self.written = written_labels(plan)
        self.steps = largest_alone(self.written) if largest else steps or {}
        check_steps(self.steps, self.written)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names the maps of uncertainty that `segment` can fill, see `uncertainty`."""
        several = len(self.configurations) > 1
        return measure_names(len(self.configurations if several else self.configurations[0].networks))

    @classmethod
    def load(
        cls, bundle: str | PathLike[str], *, device: torch.device | str = "cpu", **options: Any
    ) -> "VolumePredictor":
        """Returns the predictor of a bundle that `tools/volumes/export_bundle.py` wrote; runs no code of the bundle.

        `vil_dense.mm.volumes.predictor.load_predictor` does the same for the work folder of a training, and for a
        config with its checkpoints.

        Args:
            bundle: folder with `configs/inference.json` and `models/model.pt`.
            options: `mirror`, `largest` and `steps` of the constructor.

        Raises:
            FileNotFoundError: the folder is no bundle.
            ValueError: its config or weights have another form.
        """
        folder = Path(bundle)
        config = folder / "configs/inference.json"
        if not config.is_file():
            raise FileNotFoundError(
                f"no bundle at {folder}: {config} is missing; the work folder of a training, or a config with its "
                "checkpoints, is loaded by vil_dense.mm.volumes.predictor.load_predictor"
            )
        content = read_json(config)
        try:
            plan, inferer = read_plan(content["plan"]), content["inferer"]
            network = dict(content["network_def"])
            kind, known = network.pop("_target_"), {target(name): name for name in NETWORKS}
            windows = SlidingWindow.of(plan, inferer["overlap"], inferer["window_batch"])
            if kind not in known:
                raise ValueError(f"its network is {kind}; known: {', '.join(known)}")
            model = NETWORKS[known[kind]](**network)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{config} is no config of a bundle of ours ({type(error).__name__}: {error})") from None
        weights = folder / "models/model.pt"
        try:
            model.load_state_dict(read_state(weights))
        except RuntimeError:
            raise ValueError(f"{weights} holds the weights of another network than {config}") from None
        return cls([model.to(device).eval()], plan, windows, device=device, **options)

    def predict(
        self,
        volume: Volume,
        *,
        probabilities: bool | str | Sequence[str] = False,
        uncertainty: bool = False,
        frame: int | None = None,
    ) -> VolumePrediction:
        """Segments a volume.

        Args:
            volume: see `Volume`. A path is a file of any format of `io.volumes`, or the folder of a DICOM series.
            probabilities: True for those of all classes, or the names of classes.
            uncertainty: whether to measure it, see `uncertainty`.
            frame: index of the fourth axis that is read; None reads all as channels.

        Warns if the file contradicts itself, or leaves the sides of the patient unsure.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the volume is not 3D, has no affine, another number of channels or NaN, or its file is damaged.
        """
        grids = [at_frame(grid, frame) for grid in grids_of(volume)]
        labels = self.written
        for each in grids:
            if each.warning:
                warnings.warn(f"{each.path}: {each.warning}", stacklevel=2)
        image, grid = read_grids(grids, len(self.plan["channels"]), self.plan.get("nan_background"))
        names = [probabilities] if isinstance(probabilities, str) else probabilities
        classes = Probabilities(() if isinstance(names, bool) else tuple(names)).classes(self.plan)
        filled = (
            np.zeros((*grid.shape, len(LabelMap.of(self.plan).outputs)), np.uint16, order="F")
            if probabilities
            else None
        )
        maps = np.zeros((*grid.shape, len(self.measures)), np.float32) if uncertainty else None
        mask = self.segment(image, grid, filled, uncertainty=maps)
        image_of_mask = mask_image(mask, grid)
        shares = None
        if filled is not None:
            values = move_slices_back(filled[..., classes], grid) / np.float32(PROBABILITY_STEPS)
            shares = nibabel.Nifti1Image(values, image_of_mask.affine)
        rows = describe_mask(mask, labels, grid)
        return VolumePrediction(
            image_of_mask,
            labels,
            {row["structure"]: row["ml"] for row in rows},
            grid,
            shares,
            {} if maps is None else {name: mask_image(maps[..., n], grid) for n, name in enumerate(self.measures)},
        )

    def segment(
        self,
        image: np.ndarray,
        grid: Grid,
        probabilities: np.ndarray | None = None,
        *,
        uncertainty: np.ndarray | None = None,
        scratch: Path | None = None,
        done: Callable[[], None] = lambda: None,
    ) -> np.ndarray:
        """Returns the mask (I, J, K) of an image (C, I, J, K) float32 on `grid`; see `ensemble.predict_mean`."""
        mask = predict_mean(
            self.configurations,
            image,
            grid.affine,
            mirror=self.mirror,
            device=self.device,
            probabilities=probabilities,
            uncertainty=uncertainty,
            scratch=scratch,
            done=done,
        )
        mask = move_slices(move_slices_back(mask, grid), grid)  # nothing is found beside the slices of a tilted gantry
        postprocess(mask, self.steps, LabelMap.of(self.plan), voxel_ml(grid.affine))
        return mask


def grids_of(volume: Volume) -> list[Grid]:
    """Returns the grids of the files, the array or the nibabel image of `Volume`.

    Raises:
        ValueError: it is none of them.
        FileNotFoundError, ValueError: see `volumes.read_grid` and `grid.check_volume`.
    """
    if isinstance(volume, str | PathLike):
        return [read_grid(Path(volume))]
    if isinstance(volume, nibabel.spatialimages.SpatialImage):
        if volume.affine is None:
            raise ValueError("the image has no affine: give it one, voxels to mm in RAS directions")
        name = Path(volume.get_filename() or "the image")
        kind, affine = volume.get_data_dtype(), volume.affine
        grid = _in_memory(name, volume.shape, kind, affine, lambda: np.asanyarray(volume.dataobj))
        # a mask has the form codes and units of a NIfTI image
        return [replace(grid, header=volume.header.copy()) if isinstance(volume, nibabel.Nifti1Image) else grid]
    if isinstance(volume, tuple) and len(volume) == 2 and not isinstance(volume[1], str | PathLike):
        array, affine = np.asarray(volume[0]), np.asarray(volume[1])
        if affine.shape != (4, 4):
            raise ValueError(f"an affine is (4, 4), voxels to mm; got one of shape {affine.shape}")
        return [_in_memory(Path("the array"), array.shape, array.dtype, affine, lambda: array)]
    if isinstance(volume, Sequence) and volume and all(isinstance(path, str | PathLike) for path in volume):
        return [read_grid(Path(path)) for path in volume]
    what = f"an array {np.shape(volume)} alone" if isinstance(volume, np.ndarray) else f"a {type(volume).__name__}"
    raise ValueError(
        f"a volume is a path, a list of a path for each channel, (array, affine) or a nibabel image; got {what}: "
        "without an affine (4, 4), voxels to mm, the size and orientation of its voxels are unknown"
        + "; of a MetaTensor x of one channel (x[0].numpy(), x.affine)"
        * hasattr(volume, "affine")
    )


def _in_memory(
    name: Path, shape: Sequence[int], dtype: np.dtype, affine: np.ndarray, voxels: Callable[[], np.ndarray]
) -> Grid:
    dtype = np.dtype(np.uint8) if dtype == np.bool_ else dtype
    return new_grid(name, tuple(map(int, shape)), dtype, affine, lambda grid: voxels())
