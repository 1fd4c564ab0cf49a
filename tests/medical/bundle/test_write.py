"""Tests the bundle by MONAI's own verbs, without a network connection."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch
import torch.distributed as dist
from bundle_cases import NETWORK, PLAN, WARNINGS, write_boxes
from monai.bundle import ConfigParser
from monai.transforms import Compose, RandFlipd
from nifti_files import affine, write_nifti
from refusals import raises_one_line

from vil_dense.medical import VolumePredictor, build_network
from vil_dense.medical.bundle import write_bundle
from vil_dense.medical.data.cases import read_case
from vil_dense.medical.datalists.datalist import Case, read_datalist
from vil_dense.medical.inference.volume_predictor import predict
from vil_dense.medical.io.volumes import read_image
from vil_dense.medical.metrics import score_case

pytestmark = WARNINGS


@pytest.fixture(scope="module")
def weights() -> dict:
    torch.manual_seed(0)
    return build_network(PLAN, **NETWORK).state_dict()


@pytest.fixture(scope="module")
def written(weights: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written") / "bundle"
    network = build_network(PLAN, **NETWORK)
    network.load_state_dict(weights)
    training = dict(fold=1, augment=dict(flip_axes=(0, 2)))
    said = write_bundle(out, PLAN, NETWORK, network, training=training, texts={"docs/README.md": "a card\n"})
    assert said == "TorchScript for any batch and size: models/model.ts"
    return out


@pytest.fixture
def bundle(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a copy, which is the current folder, as for the commands of the documentation."""
    shutil.copytree(written, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_boxes(tmp_path / "data", 6)


def test_what_is_in_it(bundle: Path) -> None:
    configs = (
        *("evaluate.json", "inference.json", "logging.conf", "metadata.json", "multi_gpu_evaluate.json"),
        *("multi_gpu_train.json", "onnx_export.json", "schema.json", "train.json"),
    )
    files = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    docs = ["docs/README.md", "docs/data_license.txt", "models/model.pt", "models/model.ts"]
    assert files == [*(f"configs/{name}" for name in configs), *docs]
    inference = json.loads((bundle / "configs/inference.json").read_text())
    assert inference["network_def"]["_target_"] == "vil_dense.medical.ViLUNet3D"


def test_metadata_pass_monais_schema(bundle: Path) -> None:
    verify = dict(meta_file="configs/metadata.json", filepath="configs/schema.json")
    monai.bundle.verify_metadata(**verify)
    content = json.loads((bundle / "configs/metadata.json").read_text())
    assert content["version"] in content["changelog"]
    del content["task"]
    (bundle / "configs/metadata.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="'task' is a required property"):
        monai.bundle.verify_metadata(**verify)


@pytest.mark.parametrize("n", [1, 2])
def test_the_network_is_what_the_metadata_say(bundle: Path, n: int) -> None:
    files = dict(meta_file="configs/metadata.json", config_file="configs/inference.json")
    monai.bundle.verify_net_in_out(net_id="network_def", device="cpu", n=n, **files)
    content = json.loads((bundle / "configs/metadata.json").read_text())
    content["network_data_format"]["outputs"]["pred"]["num_channels"] = 5
    (bundle / "configs/metadata.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="output channel number `2` doesn't match: `5`"):
        monai.bundle.verify_net_in_out(net_id="network_def", device="cpu", n=n, **files)


def test_training_and_evaluation(bundle: Path, data: Path, weights: dict) -> None:
    train = "configs/train.json"
    monai.bundle.run(config_file=train, dataset_dir=str(data), **{"train#trainer#max_epochs": 2})
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    assert state.keys() == weights.keys()
    assert any(not torch.equal(state[name], weights[name]) for name in weights)
    monai.bundle.run(config_file=[train, "configs/evaluate.json"], dataset_dir=str(data))
    (line,) = (bundle / "eval/metrics.csv").read_text().splitlines()
    assert line.split(",")[0] == "val_mean_dice" and (bundle / "eval/val_mean_dice_raw.csv").is_file()
    network = build_network(PLAN, **NETWORK).eval()
    network.load_state_dict(state)
    assert float(line.split(",")[1]) == pytest.approx(np.mean([own_dice(network, case) for case in held_out(data)]))


def held_out(data: Path) -> list[Case]:
    return read_datalist(data).split(1)[1]


def own_dice(network: torch.nn.Module, case: Case) -> float:
    """Scores the mask of a case on the grid of its file."""
    image, label, grid = read_case(case, 1, (0, 1))
    mask = predict([network], image, grid.affine, PLAN)
    (score,) = score_case("a", mask, label, classes=dict(organ=1), spacing_mm=grid.spacing_mm)
    assert score.outcome == "both"
    return score.dice


def test_inference_gives_our_masks(bundle: Path, data: Path, weights: dict, tmp_path: Path) -> None:
    """Compares voxel by voxel, also for an oblique volume of thick slices."""
    images, out = data / "imagesTr", tmp_path / "masks"
    voxels = np.random.default_rng(0).integers(0, 300, (18, 20, 9)).astype(np.int16)
    write_nifti(images / "oblique.nii.gz", voxels, affine("oblique", (0.8, 1.3, 2.5)))
    monai.bundle.run(config_file="configs/inference.json", dataset_dir=str(images), output_dir=str(out))
    names = [*(f"c{number}" for number in range(6)), "oblique"]
    assert sorted(path.name for path in out.iterdir()) == [f"{name}_seg.nii.gz" for name in names]
    network = build_network(PLAN, **NETWORK).eval()
    network.load_state_dict(weights)
    for name in names:
        image, grid = read_image([images / f"{name}.nii.gz"])
        ours = predict([network], image, grid.affine, PLAN)
        theirs = nibabel.load(out / f"{name}_seg.nii.gz")
        np.testing.assert_allclose(theirs.affine, grid.affine, atol=1e-5)
        np.testing.assert_array_equal(theirs.dataobj, ours)
        assert len(np.unique(ours)) == 2


def test_it_runs_as_monai_label_runs_bundles(bundle: Path, data: Path, weights: dict) -> None:
    """Takes the chains of transforms apart and adds the axis of the batch by hand, as its `BundleInferTask` does."""
    file = data / "imagesTr/c0.nii.gz"
    parser = ConfigParser(ConfigParser.load_config_files("configs/inference.json"))
    chains = [parser.get_parsed_content(key) for key in ("preprocessing", "postprocessing")]
    assert all(isinstance(chain, Compose) for chain in chains)
    assert [type(transform).__name__ for transform in chains[1].transforms] == ["SaveImaged"]
    case: dict = dict(image=str(file))
    for transform in chains[0].transforms:
        case = transform(case)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(weights)
    found = parser.get_parsed_content("inferer")(case["image"][None], network)[0]
    image, grid = read_image([file])
    np.testing.assert_array_equal(found[0].numpy(), predict([network], image, grid.affine, PLAN))
    np.testing.assert_allclose(found.affine, grid.affine, atol=1e-5)


def test_a_bundle_predicts_from_python(bundle: Path, data: Path, weights: dict) -> None:
    """Tests that its network, weights and windows are used, and that no code runs that its config may name."""
    predictor = VolumePredictor.load(bundle)
    network = build_network(PLAN, **NETWORK).eval()
    network.load_state_dict(weights)
    image, grid = read_image([data / "imagesTr/c3.nii.gz"])
    found = np.asarray(predictor.predict(data / "imagesTr/c3.nii.gz").mask.dataobj)
    np.testing.assert_array_equal(found, predict([network], image, grid.affine, PLAN))
    assert found.max() == 1
    path = bundle / "configs/inference.json"
    content = json.loads(path.read_text())
    for changed in (
        dict(network_def={"_target_": "os.system", "command": "touch run"}),
        dict(plan=3),
        dict(inferer={}),
    ):
        path.write_text(json.dumps(content | changed))
        with raises_one_line(ValueError, path):
            VolumePredictor.load(bundle)
    assert not Path("run").exists()
    path.write_text(json.dumps(content | dict(network_def=content["network_def"] | dict(channels=(8, 8, 16)))))
    with raises_one_line(ValueError, bundle / "models/model.pt", path):
        VolumePredictor.load(bundle)


def test_a_file_for_each_channel(tmp_path: Path) -> None:
    """Tests nnU-Net's names, of which two files are one case."""
    plan = {**PLAN, "channels": ["T1", "T2"], "intensity": PLAN["intensity"] * 2}
    write_bundle(tmp_path / "bundle", plan, NETWORK, build_network(plan, **NETWORK))
    for name in ("x_0000", "x_0001", "y_0000", "y_0001"):
        write_nifti(tmp_path / f"in/{name}.nii.gz", np.random.default_rng(0).integers(0, 9, (18, 20, 17), np.int16))
    folders = dict(dataset_dir=str(tmp_path / "in"), output_dir=str(tmp_path / "out"))
    config = str(tmp_path / "bundle/configs/inference.json")
    monai.bundle.run(config_file=config, bundle_root=str(tmp_path / "bundle"), **folders)
    masks = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in masks] == ["x_seg.nii.gz", "y_seg.nii.gz"], "named after cases, not channels"
    assert [nibabel.load(path).shape for path in masks] == [(18, 20, 17)] * 2


def test_several_processes(bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the multi-GPU configs as far as a CPU goes: samplers, wrapped network, handlers, in a group of one."""
    monkeypatch.setenv("LOCAL_RANK", "0")  # as torchrun does
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        options = {"device": "$torch.device('cpu')", "network#device_ids": "$None", "initialize": [], "finalize": []}
        options |= {"dataset_dir": str(data), "train#trainer#max_epochs": 1}
        files = ["configs/train.json", "configs/multi_gpu_train.json"]
        monai.bundle.run(config_file=files, **options)
        monai.bundle.run(
            config_file=["configs/train.json", "configs/evaluate.json", "configs/multi_gpu_evaluate.json"], **options
        )
    finally:
        dist.destroy_process_group()
    assert (bundle / "eval/metrics.csv").is_file()


def test_nothing_stays_of_a_bundle_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vil_dense.medical.bundle.write.save_torchscript", fail)
    with raises_one_line(OSError, "No space left"):
        write_bundle(tmp_path / "bundle", PLAN, NETWORK, build_network(PLAN, **NETWORK))
    assert not list(tmp_path.iterdir())


def test_it_trains_as_the_run_did_and_caches(bundle: Path, data: Path) -> None:
    """Tests that fold and mirroring are the run's, and that only what is random happens at each draw."""
    parser = monai.bundle.ConfigParser()
    parser.read_config(bundle / "configs/train.json")
    parser["dataset_dir"] = str(data)
    train, val = parser.get_parsed_content("cases")
    assert [train, val] == list(read_datalist(data).split(1))
    cached = parser.get_parsed_content("train#dataset")
    flips = [step.flipper.spatial_axis for step in cached.transform.transforms if isinstance(step, RandFlipd)]
    assert flips == [0, 2]
    assert all(isinstance(item["image"], torch.Tensor) and item["image"].shape[0] == 1 for item in cached._cache)
    (patch,) = cached[0]
    assert patch.keys() == {"image", "label"} and patch["image"].shape == patch["label"].shape == (1, 16, 16, 16)


@pytest.mark.slow
def test_the_command_line(bundle: Path, data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    folders = ["--dataset_dir", str(data / "imagesTr"), "--output_dir", str(tmp_path / "masks")]
    done = subprocess.run([*command, *folders], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "masks").iterdir())) == 6
