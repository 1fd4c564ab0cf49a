"""Tests bundles for other programs: TorchScript and ONNX with metadata, MONAI's `ConfigWorkflow` and its model zoo."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import monai.bundle
import pytest
import torch
from bundle_cases import NETWORK, OF_MONAI, PLAN, WARNINGS, small_bundle, write_boxes
from monai.bundle import ConfigWorkflow
from monai.data import load_net_with_metadata
from monai.inferers import sliding_window_inference
from refusals import raises_one_line
from torch import nn
from unpacked import unpacked

from vil_dense.medical import ViLUNet3D, build_network
from vil_dense.medical.bundle.torchscript import save_torchscript

pytestmark = [*WARNINGS, pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")]
SHAPES = [(1, 1, 16, 16, 16), (3, 1, 9, 20, 33), (2, 1, 1, 1, 1)]
DIVIDED = "any batch and sizes that the strides of the network divide"
SMALL = dict(type="ViLUNet3D", channels=(8, 8), depths=(0, 1))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("written") / "bundle"
    model, said = small_bundle(out)
    assert said == "TorchScript for any batch and size: models/model.ts"
    return out, model


def assert_equal_networks(found: nn.Module, expected: nn.Module, shapes: list = SHAPES) -> None:
    for shape in shapes:
        x = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(found(x), expected(x), rtol=1e-4, atol=1e-5)


def test_torchscript_of_any_batch_and_size_with_metadata(written: tuple[Path, nn.Module]) -> None:
    bundle, model = written
    network, metadata, more = load_net_with_metadata(
        str(bundle / "models/model.ts"), more_extra_files=["inference.json"]
    )
    assert metadata == json.loads((bundle / "configs/metadata.json").read_text())
    assert json.loads(more["inference.json"]) == json.loads((bundle / "configs/inference.json").read_text())
    assert_equal_networks(network, model)
    assert str(Path(torch.__file__).parents[1]).encode() not in unpacked(bundle / "models/model.ts")
    x = torch.randn(1, 1, 40, 24, 20)
    options = dict(roi_size=(16, 16, 16), sw_batch_size=4, overlap=0.5)
    with torch.no_grad():
        ours, theirs = (sliding_window_inference(x, predictor=net, **options) for net in (model, network))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


def test_monais_export_with_defaults(
    written: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests that it scripts the network, and reads weights, network and metadata from the bundle."""
    bundle, model = written
    monkeypatch.chdir(bundle)
    monai.bundle.ckpt_export(config_file="configs/inference.json", filepath=str(tmp_path / "model.ts"))
    network, metadata, _ = load_net_with_metadata(str(tmp_path / "model.ts"))
    assert metadata["version"] == "0.1.0"
    assert_equal_networks(network, model)


def test_training_mode_is_not_scripted() -> None:
    with raises_one_line(RuntimeError, "network.eval()"):
        torch.jit.script(ViLUNet3D(channels=(8, 8), depths=(0, 1)).train())


@pytest.mark.parametrize(
    "network",
    [
        SMALL,
        pytest.param({**SMALL, "conv": "causal", "conv_kernel": 4}, marks=pytest.mark.slow),
        pytest.param({**SMALL, "backend": "parallel"}, marks=pytest.mark.slow),
        {**SMALL, "block": "attention"},
        pytest.param(dict(type="ViLUNETR3D", channels=(8, 8), dim=8, depth=4, grid=(2, 2, 2)), marks=pytest.mark.slow),
    ],
    ids=lambda network: " ".join(str(value) for value in network.values() if isinstance(value, str)),
)
def test_a_script_runs_where_its_input_is(network: dict) -> None:
    """Runs a script of the CPU on tensors without memory, which no other device's may be mixed with."""
    model = build_network(PLAN, **network).eval()
    script = torch.jit.script(model)
    assert_equal_networks(script, model, SHAPES[:2])
    traced = torch.jit.script(model)
    assert 'value="cpu"' not in str(traced.inlined_graph)
    for part in traced.modules():
        for name, value in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            part._c.setattr(name, value.to("meta"))
    assert traced(torch.randn(1, 1, 16, 16, 16).to("meta")).is_meta


def test_a_script_of_more_chunks_than_a_chunk_has_tokens() -> None:
    """Tests 17^3 tokens, 77 chunks of 64: more than those of the trace."""
    torch.manual_seed(0)
    model = ViLUNet3D(channels=(8, 8), depths=(1, 0)).eval()
    assert_equal_networks(torch.jit.script(model), model, [(1, 1, 18, 18, 18)])


def test_a_script_that_differs_is_not_written(tmp_path: Path) -> None:
    class Random(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.rand_like(x)

    said = save_torchscript(Random().eval(), (1, 1, 4, 4, 4), tmp_path / "model.ts", {}, {})
    assert said.startswith("no TorchScript") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "patch", "sizes"),
    [
        ("SegResNet", 16, DIVIDED),
        ("DynUNet", 16, DIVIDED),
        ("MedNeXt", 16, DIVIDED),
        ("UNETR", 32, "windows of 32 x 32 x 32"),
        pytest.param("SwinUNETR", 64, "windows of 64 x 64 x 64", marks=pytest.mark.slow),
    ],
)
def test_a_bundle_of_monais_networks(name: str, patch: int, sizes: str, tmp_path: Path) -> None:
    plan = {**PLAN, "patch_vox": (patch,) * 3}
    model, said = small_bundle(tmp_path / "bundle", dict(type=name, **OF_MONAI[name]), plan)
    assert said == f"TorchScript for {sizes}: models/model.ts"
    parser = monai.bundle.ConfigParser()
    parser.read_config(tmp_path / "bundle/configs/inference.json")
    network = parser.get_parsed_content("network_def")
    assert type(network) is type(model)
    network.load_state_dict(torch.load(tmp_path / "bundle/models/model.pt", weights_only=True))
    parser.read_config(tmp_path / "bundle/configs/train.json")
    logits = network.train()(torch.randn(1, 1, *plan["patch_vox"]))
    loss = parser.get_parsed_content("loss")(logits, torch.ones(1, 1, *plan["patch_vox"]))
    assert torch.isfinite(loss)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_of_any_batch_and_size(
    written: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module, reason=f"{module} is missing: pip install '.[bundle]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install '.[bundle]'")
    bundle, model = written
    monkeypatch.chdir(bundle)
    path = str(tmp_path / "model.onnx")
    monai.bundle.onnx_export(args_file="configs/onnx_export.json", filepath=path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in SHAPES[:2]:
        x = torch.randn(shape)
        (found,) = session.run(["pred"], {"image": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=1e-3, atol=1e-4)


def test_the_network_is_scripted_alone(written: tuple[Path, nn.Module]) -> None:
    """Tests that scripting leaves the network as it was, to be trained on."""
    _, model = written
    before = list(model.state_dict())
    torch.jit.script(model)
    assert list(model.state_dict()) == before and NETWORK["type"] == type(model).__name__


ZOO = "MONAI_MODEL_ZOO"


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (("train",), "train"),
        (("train", "evaluate"), "train"),
        (("train", "evaluate"), "eval"),
        (("inference",), "infer"),
    ],
)
def test_the_properties_that_monai_asks_for(
    files: tuple[str, ...], kind: str, written: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    bundle, _ = written
    data = write_boxes(tmp_path, 6)
    workflow = ConfigWorkflow(
        config_file=[str(bundle / f"configs/{name}.json") for name in files],
        workflow_type=kind,
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(data / "imagesTr" if kind == "infer" else data),
        cache_rate=0.0,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.version == "0.1.0"


@pytest.mark.slow
def test_the_check_of_monais_model_zoo(written: tuple[Path, nn.Module], tmp_path: Path) -> None:
    """Runs `ci/verify_bundle.py` of a clone of github.com/Project-MONAI/model-zoo, in all modes."""
    zoo = os.environ.get(ZOO)
    if not zoo or not Path(zoo, "ci/verify_bundle.py").is_file():
        pytest.skip(f"set {ZOO} to the folder of a clone of Project-MONAI/model-zoo for its checks")
    models = tmp_path / "models"
    shutil.copytree(written[0], models / "small")
    (models / "model_info.json").write_text("{}")
    (models / "small/eval").mkdir()
    shutil.copy(written[0] / "configs/schema.json", models / "small/eval/schema.json")  # or it would be downloaded
    command = [sys.executable, "ci/verify_bundle.py", "-b", "small", "-p", str(models), "-m", "full"]
    done = subprocess.run(command, cwd=zoo, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "Provided TorchScript module is verified correctly." in done.stdout
