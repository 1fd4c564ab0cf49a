"""Writes a trained network as a MONAI bundle, which `python -m monai.bundle run` trains, evaluates and runs.

The configs name classes and functions of vil_dense, so that reader, preprocessing, network and sliding window are those
of training and prediction; a loader needs vil_dense installed, or takes the traced `models/model.ts`.
"""

from vil_dense.medical.bundle.write import write_bundle

__all__ = ["write_bundle"]
