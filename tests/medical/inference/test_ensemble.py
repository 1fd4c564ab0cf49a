"""Tests averages over networks and configurations, and their uncertainty, on the grid of the file."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nifti_files import affine
from refusals import raises_one_line
from torch import Tensor, nn
from volume_plans import small_plan

from vil_dense.medical.data.preprocess import PlanGrid
from vil_dense.medical.inference.ensemble import Configuration, check_configurations, mean_mask, predict_mean
from vil_dense.medical.inference.predictor import VolumePredictor
from vil_dense.medical.inference.uncertainty import entropy, summarise_maps, uncertainty_maps
from vil_dense.medical.inference.volume_predictor import PROBABILITY_STEPS, predict
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.label_map import LabelMap

PLAN = small_plan("organ", "vessel", spacing_mm=(1.2, 1.0, 2.2))
IMAGE = np.random.default_rng(0).random((1, 11, 9, 13)).astype(np.float32)
AFFINE = affine("LPS", (1.0, 1.0, 2.0))


def configuration(seed: int, orientation: str, spacing: tuple[float, ...], **changes: object) -> Configuration:
    plan = PLAN | dict(orientation=orientation, spacing_mm=spacing) | changes
    torch.manual_seed(seed)
    return Configuration([nn.Conv3d(1, 3, 3, padding=1)], plan, SlidingWindow((8, 8, 8), 0.25))


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
