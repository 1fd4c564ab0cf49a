"""OpenMMLab adapters: `custom_imports=dict(imports=["vil_dense.mm"])` in a config registers them all."""

try:
    import mmengine  # noqa: F401
    import mmseg  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"vil_dense.mm needs mmengine and mmsegmentation: pip install 'vil_dense[seg]' ({error})"
    ) from error

from vil_dense.mm.augment import (
    FlipPicture,
    LoadPicture,
    PackPicture,
    PictureJitter,
    RandomResizedCrop,
    ResizeCentreCrop,
    ThreeAugment,
)
from vil_dense.mm.backbone import ViL
from vil_dense.mm.checkpoints import SafeCheckpointHook
from vil_dense.mm.classifier import ImageClassifier
from vil_dense.mm.datasets import CamVidDataset, CheckedADE20KDataset, SampleDataset
from vil_dense.mm.deterministic import DeterministicHook
from vil_dense.mm.distributed import MeanLossHook, ShardedRunner
from vil_dense.mm.epochs import EpochLoop
from vil_dense.mm.hooks import ClassReportHook, CompileHook, OverlayHook, ReportHook
from vil_dense.mm.imagenet import LabelledPictures
from vil_dense.mm.layer_decay import ViLLayerDecay
from vil_dense.mm.metrics import ClassIoUMetric, TopAccuracy
from vil_dense.mm.mixing import PicturePreprocessor
from vil_dense.mm.schedule import WarmupCosineLR
from vil_dense.mm.seeding import KeyedInfiniteSampler, KeyedSampler, SeedSample, StepSeedHook
from vil_dense.mm.stop import StopHook
from vil_dense.mm.transforms import ColorJitter
from vil_dense.mm.tta import MeanTTAModel
from vil_dense.mm.watch import LabelledAccuracyHook, WatchHook

__all__ = [
    "CamVidDataset",
    "CheckedADE20KDataset",
    "ClassIoUMetric",
    "ClassReportHook",
    "ColorJitter",
    "CompileHook",
    "DeterministicHook",
    "EpochLoop",
    "FlipPicture",
    "ImageClassifier",
    "KeyedInfiniteSampler",
    "KeyedSampler",
    "LabelledAccuracyHook",
    "LabelledPictures",
    "LoadPicture",
    "MeanLossHook",
    "MeanTTAModel",
    "OverlayHook",
    "PackPicture",
    "PictureJitter",
    "PicturePreprocessor",
    "RandomResizedCrop",
    "ReportHook",
    "ResizeCentreCrop",
    "SafeCheckpointHook",
    "SampleDataset",
    "SeedSample",
    "ShardedRunner",
    "StepSeedHook",
    "StopHook",
    "ThreeAugment",
    "TopAccuracy",
    "ViL",
    "ViLLayerDecay",
    "WarmupCosineLR",
    "WatchHook",
]
