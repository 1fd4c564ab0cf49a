"""Names the files that are written for pictures, so that pictures of one name in several folders do not collide."""

import os
from pathlib import Path

from torch.utils.data import Dataset

from vil_dense.mm.datasets.wrappers import parts


def output_name(path: str, dataset: Dataset) -> str:
    """Returns the path of a picture below the folder of its data set, without its ending.

    With several data sets it is below the folder that they share; elsewhere the name alone.
    """
    folders = [os.path.abspath(folder) for folder in picture_folders(dataset)]
    root = os.path.commonpath(folders) if folders else ""
    name = Path(os.path.abspath(path))
    return str(name.relative_to(root).with_suffix("")) if root and name.is_relative_to(root) else name.stem


def picture_folders(dataset: Dataset) -> list[str]:
    """Returns the folders of pictures of a data set, as mmseg names them; empty for others."""
    prefixes = (getattr(part, "data_prefix", {}).get("img_path") for part in parts(dataset))
    return [prefix for prefix in prefixes if prefix]
