"""Provides networks, data lists, plans, checks, transforms and predictions for volumes in MONAI workflows.

Array axes are (I, J, K) of the file; affines and distances are in mm.
"""

try:
    import monai  # noqa: F401
    import nibabel  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"vil_dense.medical needs monai and nibabel: pip install 'vil_dense[medical]' ({error})"
    ) from error

from vil_dense.layers import SEQUENCE_BLOCKS
from vil_dense.medical.inference.predictor import VolumePrediction, VolumePredictor
from vil_dense.medical.networks.nets import NETWORKS, build_network
from vil_dense.medical.networks.sequence import sequence_share
from vil_dense.medical.networks.vil_unet import ViLUNet3D
from vil_dense.medical.networks.vil_unetr import ViLUNETR3D

__all__ = [
    "NETWORKS",
    "SEQUENCE_BLOCKS",
    "ViLUNETR3D",
    "ViLUNet3D",
    "VolumePrediction",
    "VolumePredictor",
    "build_network",
    "sequence_share",
]
