"""Lists the forms of a mask in DICOM."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vil_dense.medical.io.dicom.rtstruct import write_rtstruct
from vil_dense.medical.io.dicom.seg import write_dicom_seg
from vil_dense.medical.io.grid import Grid

DICOM_MASKS: dict[str, Callable[[Path, np.ndarray, Grid, Mapping[str, Any]], None]] = {
    "dicom_seg": write_dicom_seg,
    "rtstruct": write_rtstruct,
}
"""Writers by the name of the form, which is that of the folder in a folder of predictions."""
