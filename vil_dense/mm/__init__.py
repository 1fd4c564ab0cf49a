"""Registers the OpenMMLab adapters; configs import it with `custom_imports=dict(imports=["vil_dense.mm"])`."""

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

from vil_dense.mm.datasets.class_folders import LabelledPictures
from vil_dense.mm.datasets.folders.dataset import PictureFolder
from vil_dense.mm.datasets.folders.masks import LoadMask
from vil_dense.mm.datasets.public_sets import (
    CheckedCityscapesDataset,
    CheckedCOCOStuffDataset,
    CheckedISPRSDataset,
    CheckedLoveDADataset,
    CheckedPascalContextDataset,
    CheckedPascalVOCDataset,
    CheckedPotsdamDataset,
)
from vil_dense.mm.datasets.seeding import KeyedInfiniteSampler, KeyedSampler, SeedSample, StepSeedHook
from vil_dense.mm.datasets.segmentation import CamVidDataset, CheckedADE20KDataset, CheckedDataset, SampleDataset
from vil_dense.mm.datasets.transforms.color_jitter import ColorJitter
from vil_dense.mm.datasets.transforms.imagenet import (
    FlipPicture,
    LoadPicture,
    PackPicture,
    PictureJitter,
    RandomResizedCrop,
    ResizeCentreCrop,
    ThreeAugment,
)
from vil_dense.mm.datasets.transforms.raster import LoadRasterAnnotations, LoadRasterFromFile
from vil_dense.mm.datasets.unlabelled import UnlabelledPictures
from vil_dense.mm.engine.checkpoints import SafeCheckpointHook
from vil_dense.mm.engine.distributed import MeanLossHook
from vil_dense.mm.engine.hooks.deterministic import DeterministicHook
from vil_dense.mm.engine.hooks.nan_guard import LabelledAccuracyHook, NaNGuardHook
from vil_dense.mm.engine.hooks.preemption import PreemptionHook
from vil_dense.mm.engine.hooks.probes import ProbeHook
from vil_dense.mm.engine.hooks.reconstructions import ReconstructionHook
from vil_dense.mm.engine.hooks.reports import ClassReportHook, CompileHook, OverlayHook, ReportHook
from vil_dense.mm.engine.loops.epoch_loop import EpochLoop
from vil_dense.mm.engine.optim.cpu_amp import CPUAmpOptimWrapper
from vil_dense.mm.engine.optim.layer_decay import ViLLayerDecay
from vil_dense.mm.engine.optim.schedules import WarmupCosineLR
from vil_dense.mm.engine.runner import ViLRunner
from vil_dense.mm.evaluation.metrics import ClassIoUMetric, TopAccuracy
from vil_dense.mm.inference.prediction import Prediction
from vil_dense.mm.inference.segmentor import Segmentor
from vil_dense.mm.models.backbone import ViL
from vil_dense.mm.models.band_preprocessor import BandPreprocessor
from vil_dense.mm.models.classifier import ImageClassifier
from vil_dense.mm.models.data_preprocessor import PicturePreprocessor
from vil_dense.mm.models.hierarchical import HierViLBackbone
from vil_dense.mm.models.initializers import NormalConvs
from vil_dense.mm.models.losses import KervadecBoundaryLoss, PortableFocalLoss, WeightedCrossEntropyLoss
from vil_dense.mm.models.mask_head import MaskClassificationHead
from vil_dense.mm.models.masked_pretraining import MaskedImageModel
from vil_dense.mm.models.tta import MeanTTAModel

__all__ = [
    "BandPreprocessor",
    "CPUAmpOptimWrapper",
    "CamVidDataset",
    "CheckedADE20KDataset",
    "CheckedCOCOStuffDataset",
    "CheckedCityscapesDataset",
    "CheckedDataset",
    "CheckedISPRSDataset",
    "CheckedLoveDADataset",
    "CheckedPascalContextDataset",
    "CheckedPascalVOCDataset",
    "CheckedPotsdamDataset",
    "ClassIoUMetric",
    "ClassReportHook",
    "ColorJitter",
    "CompileHook",
    "DeterministicHook",
    "EpochLoop",
    "FlipPicture",
    "HierViLBackbone",
    "ImageClassifier",
    "KervadecBoundaryLoss",
    "KeyedInfiniteSampler",
    "KeyedSampler",
    "LabelledAccuracyHook",
    "LabelledPictures",
    "LoadMask",
    "LoadPicture",
    "LoadRasterAnnotations",
    "LoadRasterFromFile",
    "MaskClassificationHead",
    "MaskedImageModel",
    "MeanLossHook",
    "MeanTTAModel",
    "NaNGuardHook",
    "NormalConvs",
    "OverlayHook",
    "PackPicture",
    "PictureFolder",
    "PictureJitter",
    "PicturePreprocessor",
    "PortableFocalLoss",
    "Prediction",
    "PreemptionHook",
    "ProbeHook",
    "RandomResizedCrop",
    "ReconstructionHook",
    "ReportHook",
    "ResizeCentreCrop",
    "SafeCheckpointHook",
    "SampleDataset",
    "SeedSample",
    "Segmentor",
    "StepSeedHook",
    "ThreeAugment",
    "TopAccuracy",
    "UnlabelledPictures",
    "ViL",
    "ViLLayerDecay",
    "ViLRunner",
    "WarmupCosineLR",
    "WeightedCrossEntropyLoss",
]
