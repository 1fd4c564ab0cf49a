"""Tests exported segmentors: the file gives the masks of the run, and a hostile one is refused in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import assert_error_line, raises_one_line
from run_command import run_command
from sliding_models import segmentor, slide, small_config, write_run

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vil_dense[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'vil_dense[onnx]'")

import onnx
from onnx import TensorProto, helper, numpy_helper

from vil_dense.mm import Segmentor
from vil_dense.mm.export.check import check_sizes, compare
from vil_dense.mm.export.write import FORMATS, LAYOUTS, export
from vil_dense.mm.publish.published import KEY, describe
from vil_dense.mm.publish.trained_model import load_trained

WINDOWS = slide((64, 64), (43, 43))
WEIGHT = np.random.default_rng(0).standard_normal((5, 3, 1, 1)).astype(np.float32)
SEGFORMER = dict(
    type="SegformerHead", in_channels=[32] * 4, in_index=[0, 1, 2, 3], channels=16, num_classes=5,
    norm_cfg=dict(type="BN"), align_corners=False,
)  # fmt: skip
MASKFORMER = dict(
    type="MaskClassificationHead", in_channels=[32] * 4, channels=16, num_classes=5, num_queries=7, num_layers=3,
    num_heads=2, norm_cfg=dict(type="GN", num_groups=4),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", small_config(WINDOWS), segmentor(WINDOWS))


@pytest.fixture(scope="module")
def description(run: Path) -> str:
    return json.dumps(describe(load_trained(run), "", ""))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)


def write_graph(path: Path, text: str | None, output: str = "logits", classes: int = 5) -> "onnx.ModelProto":
    """Writes a graph of one convolution, which needs no export."""
    shapes = [[("b"), channels, "h", "w"] for channels in (3, classes)]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("inputs", output), shapes, strict=True)
    ]
    node = helper.make_node("Conv", ["inputs", "weight"], [output])
    weight = numpy_helper.from_array(WEIGHT[:classes], "weight")
    graph = helper.make_graph([node], "graph", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if text is not None:
        helper.set_model_props(model, {KEY: text})
    onnx.save(model, path)
    return model


def test_a_file_has_the_same_api(description: str, tmp_path: Path, image: np.ndarray) -> None:
    """Tests windows, their average and the masks on a graph of one convolution, whose result is known."""
    write_graph(tmp_path / "a.onnx", description)
    loaded = Segmentor.load(tmp_path / "a.onnx")
    prediction = loaded.predict(image, probabilities=True)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    logits = ((image - mean) / std) @ WEIGHT[..., 0, 0].T
    assert (prediction.class_indices() == logits.argmax(2)).mean() > 0.999
    assert prediction.probabilities is not None and prediction.probabilities.shape == (5, 70, 80)
    with raises_one_line(ValueError, "a.onnx"):
        loaded.save_pretrained(tmp_path / "b.safetensors")
    with raises_one_line(ValueError, "a.onnx", "bfloat16"):
        Segmentor.load(tmp_path / "a.onnx", dtype=torch.bfloat16)


def test_files_that_are_refused(description: str, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with raises_one_line(FileNotFoundError, path):
        Segmentor.load(path)
    model = write_graph(path, None)
    with raises_one_line(ValueError, path, "export_onnx"):
        Segmentor.load(path)
    write_graph(path, description.replace("EncoderDecoder", "os.system"))
    with raises_one_line(ValueError, path, "os.system"):
        Segmentor.load(path)
    write_graph(path, description, output="classes")
    with raises_one_line(ValueError, path, "--with-preprocessing"):
        Segmentor.load(path)
    write_graph(path, description, classes=4)
    with raises_one_line(ValueError, path, "4", "5"):
        Segmentor.load(path)
    model = write_graph(path, description)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with raises_one_line(ValueError, path):
        Segmentor.load(path)
    model.graph.node[0].op_type = "Unknown"
    path.write_bytes(model.SerializeToString())
    with raises_one_line(ValueError, path, "Unknown"):
        Segmentor.load(path)
    model = write_graph(path, description)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    path.write_bytes(model.SerializeToString())
    with raises_one_line(ValueError, path, "other files"):
        Segmentor.load(path)


def test_other_commands_refuse_the_file(
    description: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    write_graph(tmp_path / "a.onnx", description)
    assert run_command(f"publish_model {tmp_path}/a.onnx --out {tmp_path}/b.safetensors", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, "a.onnx", "predict.py")
    assert run_command(f"export_onnx {tmp_path}/a.onnx --out {tmp_path}/b.onnx", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, "a.onnx", "predict.py")


def test_what_differs_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = load_trained(run)
    broken = FORMATS["pt2"]._replace(
        save=lambda network, example, path, texts, layout: path.write_bytes(b"x"),
        open=lambda path: lambda inputs: torch.zeros(len(inputs), 5, *inputs.shape[2:]),
    )
    monkeypatch.setitem(FORMATS, "pt2", broken)
    with raises_one_line(ValueError, "differs"):
        export(trained, tmp_path / "a.pt2", format="pt2")
    assert not [*tmp_path.iterdir()]
    with raises_one_line(ValueError, ".onnx", "a.pt2"):
        export(trained, tmp_path / "a.pt2")
    sizes = check_sizes(64, 64)
    assert len(set(sizes)) == 5 and len({size[0] for size in sizes}) == 2
    assert any(length % 2 for size in sizes for length in size[1:])
    with raises_one_line(ValueError, "(1, 5, 8, 8)"):
        compare(lambda x: x[:, :1], lambda x: x, [torch.randn(1, 5, 8, 8)])
    assert [*FORMATS] == ["onnx", "pt2", "torchscript"] and LAYOUTS == ("NHWC", "NCHW")


@pytest.mark.slow
@pytest.mark.parametrize("head", [{}, SEGFORMER, MASKFORMER], ids=["UPerHead", "SegformerHead", "MaskClassification"])
def test_onnx_gives_the_masks_of_the_run(head: dict, tmp_path: Path, image: np.ndarray) -> None:
    cfg = small_config(WINDOWS)
    if head:
        cfg.model.decode_head = head
    torch.manual_seed(0)
    from mmengine.registry import MODELS

    model = MODELS.build(cfg.model).eval()
    decides = ("conv_seg.weight", "classify.weight", "embed_pixels.weight")
    for name, weight in model.decode_head.named_parameters():
        if name.endswith(decides):
            torch.nn.init.normal_(weight)
    run = write_run(tmp_path / "run", cfg, model)
    steps: list[str] = []
    exported = export(load_trained(run), tmp_path / "a.onnx", say=steps.append)
    assert len(exported.agreements) == 5
    assert [step.split()[0] for step in steps] == ["exporting", "loading", *["checking"] * 5, "timing", "writing"]
    expected, found = (
        Segmentor.load(source, device="cpu").predict(image, probabilities=True) for source in (run, tmp_path / "a.onnx")
    )
    assert expected.probabilities.std((1, 2)).max() > 1e-3  # they differ from place to place
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    assert (expected.mask == found.mask).mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_to_classes(layout: str, run: Path, tmp_path: Path) -> None:
    exported = export(load_trained(run), tmp_path / "a.onnx", layout=layout)
    assert all(agreement.same > 0.999 for agreement in exported.agreements)
    model = onnx.load(tmp_path / "a.onnx")
    texts = {entry.key: json.loads(entry.value) for entry in model.metadata_props if entry.key == "preprocessing"}
    assert texts["preprocessing"]["layout"] == layout and texts["preprocessing"]["inside"]


@pytest.mark.slow
def test_a_program_of_torch_export(run: Path, tmp_path: Path) -> None:
    assert len(export(load_trained(run), tmp_path / "a.pt2", format="pt2").agreements) == 5
