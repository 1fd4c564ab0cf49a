"""Registers volumes with MMEngine: segmentor, data set, metric, report; `custom_imports` of volume configs names this.

No other part of `vil_dense.mm` imports MONAI, so that pictures are segmented without it.
"""

from vil_dense.mm.volumes.class_prior_hook import VolumeClassPriorHook
from vil_dense.mm.volumes.dataset import UnlabelledVolumes, VolumeDataset
from vil_dense.mm.volumes.masked_pretraining import MaskedVolumeModel
from vil_dense.mm.volumes.metric import VolumeMetric
from vil_dense.mm.volumes.predictor import load_predictor
from vil_dense.mm.volumes.report_hook import VolumeReportHook
from vil_dense.mm.volumes.segmentor import VolumeSegmentor

__all__ = [
    "MaskedVolumeModel",
    "UnlabelledVolumes",
    "VolumeClassPriorHook",
    "VolumeDataset",
    "VolumeMetric",
    "VolumeReportHook",
    "VolumeSegmentor",
    "load_predictor",
]
