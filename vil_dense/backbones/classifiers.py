"""Builds classifiers by the name of their variant, for the tables of both networks."""

from typing import Any

from vil_dense.backbones.hierarchical import HIERARCHICAL_VARIANTS, HierViL, hierarchical_variant
from vil_dense.backbones.vision_lstm import VARIANTS, VisionLSTM, variant
from vil_dense.errors import refuse_other


def build_classifier(name: str, **options: Any) -> VisionLSTM | HierViL:
    """Builds the network of a row of `VARIANTS` or `HIERARCHICAL_VARIANTS`; `options` override those of the row.

    Raises:
        ValueError: an unknown name or option.
    """
    if name in HIERARCHICAL_VARIANTS:
        return HierViL(**{**hierarchical_variant(name), **options})
    refuse_other(name, (*VARIANTS, *HIERARCHICAL_VARIANTS), "variant")
    return VisionLSTM(**{**variant(name), **options})
