"""Tests uncertainty: entropies by their formula, networks that agree and differ, on the grid of the file."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nifti_files import affine
from torch import Tensor, nn

from vil_dense.medical.inference.ensemble import Configuration, predict_mean
from vil_dense.medical.inference.predictor import VolumePredictor
from vil_dense.medical.inference.uncertainty import entropy, summarise_maps, uncertainty_maps
from vil_dense.medical.inference.volume_predictor import PROBABILITY_STEPS
from vil_dense.medical.inference.volume_windows import SlidingWindow

PLAN = dict(
    channels=["MR"], labels=dict(background=0, organ=1, vessel=2), orientation="RAS", spacing_mm=(1.2, 1.0, 2.2),
    patch_vox=(8, 8, 8), intensity=[dict(rule="zscore")],
)  # fmt: skip
IMAGE = np.random.default_rng(0).random((1, 11, 9, 13)).astype(np.float32)
AFFINE = affine("LPS", (1.0, 1.0, 2.0))


def convolution(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Conv3d(1, 3, 3, padding=1)
    nn.init.normal_(network.weight)
    return network.eval()


def test_entropies_of_known_probabilities() -> None:
    sure, half, even = torch.tensor([1.0, 0, 0]), torch.tensor([0.5, 0.5, 0]), torch.full((3,), 1 / 3)
    found = [float(entropy(p, regions=False)) for p in (sure, half, even)]
    assert found == pytest.approx([0, math.log(2) / math.log(3), 1])
    # regions: each its own yes or no, in bits, and their mean
    assert float(entropy(torch.tensor([0.5, 1.0]), regions=True)) == pytest.approx(0.5)
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert float(entropy(torch.tensor([0.25]), regions=True)) == pytest.approx(quarter)


def test_mutual_information_is_what_the_members_disagree_on() -> None:
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert uncertainty_maps([one, other], regions=False).tolist() == pytest.approx([1, 1]), (
        "each is sure of something else"
    )
    even = torch.tensor([0.5, 0.5])
    assert uncertainty_maps([even, even], regions=False).tolist() == pytest.approx([1, 0]), "both are unsure, and agree"
    assert uncertainty_maps([even], regions=False).shape == (1,)


def shares_of(networks: list[nn.Module]) -> np.ndarray:
    """Returns the probabilities that `predict_mean` writes, (I, J, K, classes)."""
    filled = np.zeros((*IMAGE.shape[1:], 3), np.uint16)
    predict_mean([Configuration(networks, PLAN, SlidingWindow.of(PLAN))], IMAGE, AFFINE, probabilities=filled)
    return filled / PROBABILITY_STEPS


def entropy_of(shares: np.ndarray) -> np.ndarray:
    return -(shares * np.log(np.maximum(shares, 1e-12))).sum(-1) / math.log(3)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_single_network(mirror: bool) -> None:
    """Compares with the entropy of the written probabilities, for a resampled volume of another orientation."""
    maps = np.zeros((*IMAGE.shape[1:], 1), np.float32)
    filled = np.zeros((*IMAGE.shape[1:], 3), np.uint16)
    one = [Configuration([convolution(0)], PLAN, SlidingWindow.of(PLAN))]
    mask = predict_mean(one, IMAGE, AFFINE, mirror=mirror, probabilities=filled, uncertainty=maps)
    np.testing.assert_allclose(maps[..., 0], entropy_of(filled / PROBABILITY_STEPS), atol=1e-3)
    np.testing.assert_array_equal(mask, predict_mean(one, IMAGE, AFFINE, mirror=mirror))
    assert maps.std() > 0.01


def test_networks_of_one_configuration_and_of_several(tmp_path: Path) -> None:
    """Compares both ways to average with the maps of the members' own probabilities; masks do not change."""
    networks = [convolution(seed) for seed in range(3)]
    each = [shares_of([network]) for network in networks]
    mean, own = entropy_of(np.mean(each, axis=0)), np.mean([entropy_of(shares) for shares in each], axis=0)
    windows = SlidingWindow.of(PLAN)
    groups = [Configuration(networks, PLAN, windows)], [Configuration([net], PLAN, windows) for net in networks]
    for configurations in groups:
        maps = np.zeros((*IMAGE.shape[1:], 2), np.float32)
        mask = predict_mean(configurations, IMAGE, AFFINE, uncertainty=maps, scratch=tmp_path)
        np.testing.assert_allclose(maps[..., 0], mean, atol=1e-3)
        np.testing.assert_allclose(maps[..., 1], mean - own, atol=1e-3)
        np.testing.assert_array_equal(mask, predict_mean(configurations, IMAGE, AFFINE, scratch=tmp_path))
    assert maps[..., 1].max() > 0.05 and (maps >= 0).all()


class Unsure(nn.Module):
    """Gives each class the same score in the right half of the patient, and is sure in the left half."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), 3, *x.shape[2:])
        logits[:, 1] = 100 * (x[:, 0] > 0)
        return logits


def test_python_gives_maps_on_the_grid_of_the_image() -> None:
    voxels = np.zeros((10, 8, 8), np.float32)
    voxels[:5] = 1
    plan = PLAN | dict(spacing_mm=(1.0, 1.0, 2.0))
    found = VolumePredictor([Unsure()], plan).predict((voxels, AFFINE), uncertainty=True)
    assert [*found.uncertainty] == ["entropy"]
    map_ = found.uncertainty["entropy"]
    assert map_.get_data_dtype() == np.float32
    np.testing.assert_array_equal(map_.affine, found.mask.affine)
    np.testing.assert_allclose(map_.get_fdata()[:5], 0, atol=1e-6)
    np.testing.assert_allclose(map_.get_fdata()[5:], 1, atol=1e-6)
    assert VolumePredictor([Unsure()], plan).predict((voxels, AFFINE)).uncertainty == {}


def test_the_number_of_a_case_is_of_its_mask() -> None:
    maps = np.zeros((2, 2, 1, 2), np.float32)
    maps[0, 0], maps[0, 1], maps[1] = (0.2, 0.1), (0.6, 0.3), (1.0, 1.0)
    mask = np.array([[[1], [2]], [[0], [0]]])
    assert summarise_maps(maps, mask) == pytest.approx(dict(entropy=0.4, mutual_information=0.2))
    assert summarise_maps(maps[..., :1], mask) == pytest.approx(dict(entropy=0.4))
    assert summarise_maps(maps, np.zeros_like(mask)) is None
