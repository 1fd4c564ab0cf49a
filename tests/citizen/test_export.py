"""Tests torch.export and ONNX with a dynamic batch and dynamic sizes: plain operators, eager values."""

import io
from pathlib import Path

import pytest
import torch
from refusals import raises_one_line
from small_models import MODELS, PATCH, assert_close, build, picture
from torch.export import Dim

# of torch itself, in run_decompositions and in loading
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")

SIZES = {2: [(20, 20), (16, 16), (33, 41), (8, 64), (36, 40)], 3: [(12, 16, 20), (8, 12, 16), (9, 5, 17)]}


def axes(ndim: int) -> dict[int, object]:
    """Returns the dynamic axes: the batch and every spatial axis."""
    return {axis: Dim.AUTO for axis in (0, *range(2, 2 + ndim))}


def exported(model: torch.nn.Module, name: str) -> torch.export.ExportedProgram:
    return torch.export.export(model, (picture(name),), dynamic_shapes=(axes(model.ndim),))


@pytest.mark.parametrize(
    ("name", "depth", "times"), [("v2", 1, 1), *(pytest.param(name, 2, 2, marks=pytest.mark.slow) for name in MODELS)]
)
def test_dynamic_batch_and_sizes(name: str, depth: int, times: int) -> None:
    """Exports twice in one process, the second time after passes of the first."""
    model = build(name, depth=depth)
    for _ in range(times):
        program = exported(model, name)
        targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
        assert not [target for target in targets if "vil_dense" in target], "runs only where this package is"
        placeholder = next(node for node in program.graph.nodes if node.name == program.graph_signature.user_inputs[0])
        shape = placeholder.meta["val"].shape
        fixed = [axis for axis in axes(model.ndim) if isinstance(shape[axis], int)]
        assert not fixed, f"axes {fixed} are no longer dynamic"
        module = program.module()
        with torch.no_grad():
            for batch in (2, 3):
                for size in SIZES[model.ndim]:
                    x = torch.randn(batch, 3, *size)
                    assert_close(module(x), model(x), name=f"{batch} x {size}")


@pytest.mark.slow
def test_an_exported_program_is_saved_and_loaded() -> None:
    model, x = build("v2"), picture(batch=3, grid=(3, 7))
    torch.export.save(exported(model, "v2"), buffer := io.BytesIO())
    loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    assert_close(loaded(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_core_operators(name: str) -> None:
    """Tests that `run_decompositions`, with which every runtime starts, keeps the values."""
    model, x = build(name), picture(name, 3)
    program = exported(model, name).run_decompositions()
    assert_close(program.module()(x), model(x))


def test_an_export_for_training() -> None:
    model, x = build("v2", depth=1).train(), picture(batch=3)
    y = exported(model, "v2").module()(x)
    assert y.requires_grad
    assert_close(y, model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_onnx_with_dynamic_axes(name: str, tmp_path: Path) -> None:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    import onnxruntime

    model, path = build(name), str(tmp_path / "model.onnx")
    torch.onnx.export(
        model, (picture(name),), path, dynamo=True, dynamic_shapes=(axes(model.ndim),), verbose=False, input_names=["x"]
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        for batch in (2, 1):
            for size in SIZES[model.ndim]:
                x = torch.randn(batch, 3, *size)
                (found,) = session.run(None, {"x": x.numpy()})
                assert_close(torch.from_numpy(found), model(x), 1e-3, f"{batch} x {size}")


def test_sizes_are_patches_that_end_and_do_not() -> None:
    assert {bool(length % PATCH) for size in SIZES[2] for length in size} == {False, True}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_exporter_of_old_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is missing: pip install onnx onnxscript onnxruntime")
    with raises_one_line(RuntimeError, "VisionLSTM", "dynamo=False"):
        torch.onnx.export(build("v2"), (picture("v2"),), str(tmp_path / "a.onnx"), dynamo=False)
