"""Writes the left atria of the 2018 challenge as NIfTI files that two CPU cores can train on.

Command: python tools/dataset_converters/make_left_atrium.py SOURCE [--out DIR] [--spacing MM]

SOURCE is the folder `data` of a clone of yulequan/UA-MT: 100 MR volumes of 0.625 mm, normalised and cropped around the
left atrium, with the lists of 80 cases to train and 20 to test. A voxel of the result is the mean of the source voxels
that it covers, and is labelled where at least half of them are. Writes DIR/imagesTr, DIR/labelsTr, `dataset.json`,
`splits_final.json`, whose fold 0 holds the lists, and `unlabelled.json`, the 80 images for pretraining. Needs h5py.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from vil_dense.command_line import at_least, plain_parser

if TYPE_CHECKING:
    import numpy as np

SOURCE_MM = 0.625
"""Voxel size of the source (MICCAI 2019, arXiv 1907.07034, section 3): its files store none."""


def read_list(path: Path) -> list[str]:
    """Returns the names of cases in a list, one on a line."""
    if not path.is_file():
        raise FileNotFoundError(f"no list of cases at {path}: SOURCE is the folder `data` of a clone of yulequan/UA-MT")
    return path.read_text().split()


def find_volume(source: Path, name: str) -> Path:
    """Returns the file of a case."""
    found = next(source.glob(f"*/{name}/mri_norm2.h5"), None)
    if found is None:
        raise FileNotFoundError(f"no volume of the listed case {name}: {source}/*/{name}/mri_norm2.h5 was expected")
    return found


def coarsen(volume: "np.ndarray", spacing_mm: float) -> tuple["np.ndarray", "np.ndarray"]:
    """Returns the means of a volume (X, Y, Z) over voxels of about `spacing_mm`, float32, and the affine in mm."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    size = tuple(max(1, round(count * SOURCE_MM / spacing_mm)) for count in volume.shape)
    tensor = torch.from_numpy(np.ascontiguousarray(volume, np.float32))
    coarse = F.adaptive_avg_pool3d(tensor[None, None], size)[0, 0].numpy()
    voxel_mm = SOURCE_MM * np.divide(volume.shape, size)
    affine = np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = (voxel_mm - SOURCE_MM) / 2  # the centre of the first voxel
    return coarse, affine


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("source", type=Path, help="folder with train.list, test.list and the volumes")
    parser.add_argument("--out", type=Path, default=Path("data/left_atrium"), help="folder to write (data/left_atrium)")
    parser.add_argument("--spacing", type=at_least(SOURCE_MM, float), default=2.0, help="voxel size in mm (2)")
    args = parser.parse_args()

    import nibabel
    import numpy as np

    from vil_dense.files import save_json, whole_folder
    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.progress import Progress

    with report_errors(args.debug), Progress("volumes") as progress:
        try:
            import h5py
        except ImportError as error:
            raise ImportError("the volumes are HDF5 files, and h5py is not installed: pip install h5py") from error

        train, test = (read_list(args.source / f"{split}.list") for split in ("train", "test"))
        names = sorted([*train, *test])
        with whole_folder(args.out) as part:
            for number, name in enumerate(names, 1):
                with h5py.File(find_volume(args.source, name)) as file:
                    image, affine = coarsen(file["image"][:], args.spacing)
                    labelled, _ = coarsen(file["label"][:], args.spacing)  # fraction of each voxel
                for folder, voxels in (("imagesTr", image), ("labelsTr", (labelled >= 0.5).astype(np.uint8))):
                    path = part / folder / f"{name}.nii.gz"
                    path.parent.mkdir(exist_ok=True)
                    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
                progress(number, len(names))
            entries = [dict(image=f"imagesTr/{name}.nii.gz", label=f"labelsTr/{name}.nii.gz") for name in names]
            labels = {"0": "background", "1": "Left atrium"}
            save_json(
                part / "dataset.json",
                dict(name="left atrium", modality={"0": "MRI"}, labels=labels, training=entries),
            )
            save_json(part / "splits_final.json", [dict(train=sorted(train), val=sorted(test))])
            images = [dict(image=f"imagesTr/{name}.nii.gz") for name in sorted(train)]
            save_json(part / "unlabelled.json", dict(training=images))
        print(f"left atria: {len(train)} cases to train, {len(test)} to test in {args.out}")


if __name__ == "__main__":
    main()
