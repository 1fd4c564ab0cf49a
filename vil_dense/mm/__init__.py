"""Registers the OpenMMLab adapters; configs import it with `custom_imports=dict(imports=["vil_dense.mm"])`.

What a config names by its `type` is registered when its module is imported; `__all__` is for programs.
"""

from vil_dense.mm.utils.quiet_imports import quiet_imports

try:
    with quiet_imports():
        import mmengine  # noqa: F401
        import mmseg.datasets
        import mmseg.models  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"vil_dense.mm needs mmengine and mmsegmentation: pip install 'vil_dense[seg]' ({error})"
    ) from error

from vil_dense.mm.datasets import class_folders, public_sets, seeding, unlabelled  # noqa: F401
from vil_dense.mm.datasets.folders import masks  # noqa: F401
from vil_dense.mm.datasets.folders.dataset import PictureFolder
from vil_dense.mm.datasets.segmentation import CheckedDataset
from vil_dense.mm.datasets.transforms import color_jitter, imagenet, raster  # noqa: F401
from vil_dense.mm.engine import checkpoints, distributed  # noqa: F401
from vil_dense.mm.engine.hooks import (  # noqa: F401
    class_prior,
    deterministic,
    nan_guard,
    preemption,
    probes,
    reconstructions,
    reports,
)
from vil_dense.mm.engine.loops import epoch_loop  # noqa: F401
from vil_dense.mm.engine.optim import cpu_amp, layer_decay, schedules  # noqa: F401
from vil_dense.mm.engine.runner import ViLRunner
from vil_dense.mm.evaluation import metrics, protocols  # noqa: F401
from vil_dense.mm.inference.prediction import Prediction
from vil_dense.mm.inference.segmentor import Segmentor
from vil_dense.mm.models import data_preprocessor, initializers, losses, mask_head, masked_pretraining  # noqa: F401
from vil_dense.mm.models.backbone import HierViLBackbone, ViL
from vil_dense.mm.models.classifier import ImageClassifier

__all__ = [
    "CheckedDataset",
    "HierViLBackbone",
    "ImageClassifier",
    "PictureFolder",
    "Prediction",
    "Segmentor",
    "ViL",
    "ViLRunner",
]
