"""Tests averages over configurations whose networks see other grids, held to the mean of their probabilities."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nifti_files import affine
from refusals import raises_one_line
from torch import nn

from vil_dense.medical.data.preprocess import PlanGrid
from vil_dense.medical.inference.ensemble import Configuration, check_configurations, mean_mask, predict_mean
from vil_dense.medical.inference.volume_predictor import PROBABILITY_STEPS, predict
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.label_map import LabelMap


def configuration(seed: int, orientation: str, spacing: tuple[float, ...], **changes: object) -> Configuration:
    plan = dict(
        channels=["MR"], labels=dict(background=0, organ=1, vessel=2), orientation=orientation, spacing_mm=spacing,
        patch_vox=(8, 8, 8), intensity=[dict(rule="zscore")],
    )  # fmt: skip
    torch.manual_seed(seed)
    return Configuration([nn.Conv3d(1, 3, 3, padding=1)], plan | changes, SlidingWindow((8, 8, 8), 0.25))


IMAGE = np.random.default_rng(0).random((1, 11, 9, 13)).astype(np.float32)
AFFINE = affine("LPS", (1.0, 1.0, 2.0))


def test_the_mean_of_probabilities_decides(tmp_path: Path) -> None:
    """Tests two networks of one plan, one configuration, beside one of another spacing and orientation."""
    first, second = configuration(0, "RAS", (1.0, 1.0, 2.0)), configuration(1, "PSR", (1.5, 1.2, 1.4))
    first = first._replace(networks=[*first.networks, *configuration(2, "RAS", (1.0, 1.0, 2.0)).networks])
    given = (IMAGE, AFFINE)
    shares = []
    for networks, plan, windows in (first, second):
        shares.append(np.zeros((*IMAGE.shape[1:], 3), np.uint16))
        predict(networks, *given, plan, windows, probabilities=shares[-1])
    counted = []
    filled = np.zeros_like(shares[0])
    mask = predict_mean(
        [first, second], *given, probabilities=filled, scratch=tmp_path / "new", done=lambda: counted.append(1)
    )
    mean = (shares[0].astype(float) + shares[1]) / 2
    np.testing.assert_array_equal(mask, mean.argmax(-1))
    np.testing.assert_allclose(filled, mean, atol=0.5)
    np.testing.assert_allclose(filled.sum(-1) / PROBABILITY_STEPS, 1, atol=1e-4)
    masks = [share.argmax(-1) for share in shares]
    assert all((mask != own).any() for own in masks), "it is neither of the two"
    grids = (PlanGrid.over(IMAGE.shape[1:], AFFINE, plan) for _, plan, _ in (first, second))
    assert len(counted) == sum(first.windows.count(grid.shape) for grid in grids)
    assert not list((tmp_path / "new").iterdir()), "no file is left"


def test_one_configuration_is_predicted_as_it_is() -> None:
    one = configuration(0, "RAS", (1.0, 1.0, 2.0))
    np.testing.assert_array_equal(
        predict_mean([one], IMAGE, AFFINE), predict(one.networks, IMAGE, AFFINE, one.plan, one.windows)
    )


def test_slabs_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [np.random.default_rng(seed).integers(0, 65535, (4, 5, 7, 3)).astype(np.uint16) for seed in (0, 1, 2)]
    known = LabelMap(dict(a=(0,), b=(1,), c=(2,)), (0, 1, 2))
    whole = mean_mask(parts, known)
    monkeypatch.setattr("vil_dense.medical.inference.ensemble.SLAB_BYTES", 4 * 4 * 5 * 3 * 2)
    np.testing.assert_array_equal(mean_mask(parts, known), whole)
    np.testing.assert_array_equal(whole, np.sum(parts, axis=0, dtype=np.int64).argmax(-1))


def test_other_classes_are_refused() -> None:
    first = configuration(0, "RAS", (1.0, 1.0, 2.0))
    for key, value in dict(channels=["CT"], labels=dict(background=0, vessel=1, organ=2)).items():
        with raises_one_line(ValueError, key, value):
            check_configurations([first, configuration(0, "RAS", (1.0, 1.0, 2.0), **{key: value})])
