"""Tests regions and sparse annotation, from nnU-Net's dataset.json to plan, training, prediction, scores and bundle."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from mmengine.config import Config
from nifti_files import affine, write_nifti

from vil_dense.medical.bundle import configs
from vil_dense.medical.data.plan import make_plan
from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.data.transforms import ToStructuresd
from vil_dense.medical.datalists.datalist import read_datalist
from vil_dense.medical.inference.batch import Folder
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.metrics import score_files
from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.volumes import VolumeDataset, VolumeMetric, VolumeSegmentor

NETWORK = dict(type="ViLUNet3D", channels=(4, 8), depths=(0, 1), deep_supervision=1)
IGNORED = 7


def write_data(root: Path) -> Path:
    """Writes nnU-Net's layout: nested spheres of the values 1, 2 and 4, of which one half is not annotated."""
    for seed in range(5):
        distance = np.linalg.norm(np.indices((16, 16, 16)) - 7.5 - seed % 2, axis=0)
        label = np.select([distance < 3, distance < 5, distance < 7], [4, 2, 1], 0).astype(np.uint8)
        noise = np.random.default_rng(seed).normal(0, 5, label.shape)
        write_nifti(root / f"imagesTr/c{seed}_0000.nii.gz", (40 * label + noise).astype(np.float32), affine())
        label[:, :, 10:] = IGNORED
        write_nifti(root / f"labelsTr/c{seed}.nii.gz", label, affine())
    labels = dict(background=0, whole=[1, 2, 4], core=[2, 4], enhancing=4, ignore=IGNORED)
    meta = dict(channel_names={"0": "MR"}, labels=labels, regions_class_order=[1, 2, 4], file_ending=".nii.gz")
    (root / "dataset.json").write_text(json.dumps(meta))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("regions"))


@pytest.fixture(scope="module")
def plan(data: Path) -> dict:
    small = dict(channels=(4, 8), depths=(0, 1), deep_supervision=1)
    made = make_plan(read_datalist(data), set_values=dict(network=small, patch_vox=[16, 16, 8], batch_size=2))
    assert made["data"]["cases_with_class"] == dict(background=5, whole=5, core=5, enhancing=5)
    return made["plan"]


def test_a_stored_config_keeps_the_order_of_the_regions(plan: dict, tmp_path: Path) -> None:
    assert plan["ignore_label"] == IGNORED and plan["regions_class_order"] == [1, 2, 4]
    Config(dict(plan=plan)).dump(tmp_path / "c.py")  # sorts the names of a dictionary
    again = read_plan(Config.fromfile(tmp_path / "c.py").plan)
    assert list(again["labels"]) == ["background", "whole", "core", "enhancing"]


def test_training_prediction_and_scores_agree(data: Path, plan: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    train = VolumeDataset(str(data), plan, fold=0)
    model = VolumeSegmentor(plan, NETWORK)
    optimizer = torch.optim.AdamW(model.parameters(), 0.02)
    losses = []
    for step in range(25):
        patches = [train[SampleKey(index, 0, step)] for index in range(2)]
        image, label = (torch.stack([patch[key] for patch in patches]) for key in ("image", "label"))
        assert (label[:, 0] > 0).flatten(1).any(1).all()  # each patch lies where annotation is
        loss = model(image, label, mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 1.5
    model.eval()
    cases = read_datalist(data).split(0)[1]
    folder = Folder(tmp_path, [model], plan, {})
    assert not folder.predict_all(folder.survey(cases))
    mask = tmp_path / f"masks/{cases[0].name}.nii.gz"
    assert set(np.unique(nibabel.load(mask).dataobj)) <= {0, 1, 2, 4}  # what is ignored is never predicted
    metric = VolumeMetric(plan)
    metric.process(None, [model.segment(cases[0].name, *own(data, plan))])
    pairs = [(case.name, tmp_path / f"masks/{case.name}.nii.gz", case.label) for case in cases]
    scores = score_files(pairs, plan, metric.scoring)
    assert scores == metric.results[0] and [score.structure for score in scores] == ["whole", "core", "enhancing"]
    assert scores[0].dice is not None and scores[0].dice > 0.6
    report = json.loads((tmp_path / f"reports/{cases[0].name}.json").read_text())["structures"]
    assert [row["structure"] for row in report] == ["whole", "core", "enhancing"]
    assert report[0]["voxels"] >= report[1]["voxels"] >= report[2]["voxels"]


def own(data: Path, plan: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns image, affine and label of the first case to validate, as validation reads it."""
    case = VolumeDataset(str(data), plan, fold=0, train=False)[0]
    return case["image"], case["affine"], case["label"]


def test_the_bundle_trains_and_scores_regions(plan: dict) -> None:
    made = configs.train(plan, {}, SlidingWindow.of(plan))
    assert made["loss"]["loss"]["_target_"] == "vil_dense.medical.losses.PartialLoss"
    assert made["loss"]["loss"]["plan"] == "@plan"
    label = torch.tensor([0, 1, 2, 4, IGNORED], dtype=torch.uint8).reshape(1, 5, 1, 1)
    found = ToStructuresd(("label", "pred"), read_plan(plan))(dict(label=label, pred=torch.full_like(label, 2)))
    assert found["label"].flatten(1).tolist() == [[0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]]
    assert found["pred"].flatten(1).tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
