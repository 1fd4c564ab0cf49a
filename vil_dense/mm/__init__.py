"""OpenMMLab adapters: `custom_imports=dict(imports=["vil_dense.mm"])` in a config registers them all."""

try:
    import mmengine  # noqa: F401
    import mmseg  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"vil_dense.mm needs mmengine and mmsegmentation: pip install 'vil_dense[seg]' ({error})"
    ) from error

from vil_dense.mm.backbone import ViL
from vil_dense.mm.datasets import CamVidDataset, CheckedADE20KDataset, SampleDataset
from vil_dense.mm.distributed import MeanLossHook, ShardedRunner
from vil_dense.mm.hooks import OverlayHook, ReportHook
from vil_dense.mm.layer_decay import ViLLayerDecay
from vil_dense.mm.metrics import ClassIoUMetric
from vil_dense.mm.transforms import ColorJitter
from vil_dense.mm.tta import MeanTTAModel

__all__ = [
    "CamVidDataset",
    "CheckedADE20KDataset",
    "ClassIoUMetric",
    "ColorJitter",
    "MeanLossHook",
    "MeanTTAModel",
    "OverlayHook",
    "ReportHook",
    "SampleDataset",
    "ShardedRunner",
    "ViL",
    "ViLLayerDecay",
]
