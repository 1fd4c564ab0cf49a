"""Tests that weights in every layout find their place, strictly, and that the tool converts them."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from published_order import in_published_order
from refusals import assert_one_line, raises_one_line

from vil_dense import state_files
from vil_dense.backbones import VisionLSTM, variant
from vil_dense.backbones.checkpoint import infer_options, layout_of, load_weights, to_own
from vil_dense.state_files import read_state

TOOL = Path(__file__).parents[2] / "tools/model_converters/convert_checkpoint.py"


def small(name: str = "vil2-tiny", **options) -> VisionLSTM:
    torch.manual_seed(0)
    model = VisionLSTM(**{**variant(name), "dim": 32, "depth": 12, "grid": (4, 4), **options}).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def as_raw(state: dict[str, torch.Tensor], turned: set[tuple[int, int]]) -> dict[str, torch.Tensor]:
    """Returns our layout in the published form, written out by hand once more; `turned`: reversed (block, scan)."""
    heads = {"post_norm.": "xlstm.post_blocks_norm.", "head_norm.": "head.0.", "head.": "head.1."}
    raw = {}
    for key, value in in_published_order(state).items():
        name = next((new + key.removeprefix(old) for old, new in heads.items() if key.startswith(old)), key)
        if key.startswith("blocks."):
            _, block, rest = key.split(".", 2)
            for scan, suffix in enumerate(("", "_rev", "_du", "_ud")):
                if f"scans.{scan}." in rest:
                    part = rest.removeprefix(f"layer.scans.{scan}.")
                    head, _, tail = part.partition(".")
                    conv = "conv." if value.ndim == 3 or "conv.weight" not in key else ""
                    rest = {
                        "skip": f"xlstm.learnable_skip{suffix}",
                        "conv": f"xlstm.conv1d{suffix}.{conv}{tail}",
                        "igate": f"xlstm.mlstm_cell{suffix}.{part}",
                        "fgate": f"xlstm.mlstm_cell{suffix}.{part}",
                        "outnorm": f"xlstm.mlstm_cell{suffix}.{part}",
                    }.get(head, f"xlstm.{head}{suffix}.{tail}")
                    break
            rest = rest.replace("layer.", "xlstm.", 1) if rest.startswith("layer.") else rest
            name = f"xlstm.blocks.{block}." + ("xlstm_" + rest if rest.startswith("norm.") else rest)
            if key.endswith("conv.weight") and value.ndim == 4 and (int(block), int(key.split(".")[4])) in turned:
                value = value.flip(2, 3)
        if key.endswith(("outnorm.weight", "post_norm.weight")) or (key.startswith("blocks") and ".norm.weight" in key):
            value = value - 1
        raw[name] = value
    return raw


TURNED = {"bi-alternating": {(block, 0) for block in range(1, 12, 2)}, "bi": {(block, 1) for block in range(12)}}


@pytest.mark.parametrize("name", ["vil-tiny", "vil2-tiny"])
@pytest.mark.parametrize("direction", ["uni", "bi-alternating", "bi", "quad"])
def test_raw_layout_comes_back(name: str, direction: str) -> None:
    """Tests twelve blocks: block 1 and blocks 10 and 11 must not be mixed up."""
    if name == "vil2-tiny" and direction == "quad":
        pytest.skip("the official code has no grid convolution in this design")
    model = small(name, direction=direction, num_classes=5)
    turned = TURNED.get(direction, set())
    raw = as_raw(model.state_dict(), turned)
    assert layout_of(raw) == "raw"
    # of a design with several sets of weights nothing need be said
    said = {} if direction in ("bi", "quad", "bi-alternating") else dict(direction=direction)
    own = to_own({**raw, "xlstm.blocks.0.xlstm.mlstm_cell.causal_mask": torch.ones(1)}, **said)
    assert set(own) == set(model.state_dict())
    for key, value in model.state_dict().items():
        torch.testing.assert_close(own[key], value, msg=lambda text, key=key: f"{key}: {text}")
    twin = VisionLSTM(**infer_options(own, direction)).eval()
    assert load_weights(twin, own) == f"{len(own)} of {len(own)} tensors"
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(twin(x), model(x))


@pytest.mark.parametrize("name", ["vil-tiny", "vil2-tiny"])
def test_weights_of_earlier_versions_are_brought_into_todays_order(name: str) -> None:
    model = small(name, depth=2)
    earlier = in_published_order(model.state_dict())
    assert earlier["blocks.0.layer.scans.0.q_proj.weight"].shape == (16, 4, 4)
    for key, value in to_own(earlier).items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_report_says_what_was_resized_and_dropped() -> None:
    source = small(num_classes=5).state_dict()
    dense = small(pooling=None, post_norm=False, head_norm=False, grid=(3, 6))
    report = load_weights(dense, source)
    expected = f"{len(source) - 6} of {len(source)} tensors, pos_embed 4x4 -> 3x6, "
    assert report == expected + "dropped head, head_norm, post_norm (6 tensors)"
    assert "head.weight" in source and source["pos_embed.embed"].shape == (1, 4, 4, 32), "the caller's dict was changed"


def test_weights_of_a_whole_segmentor_are_its_backbones() -> None:
    model = small(pooling=None, post_norm=False, head_norm=False)
    wrapped = {f"module.backbone.net.{key}": value for key, value in model.state_dict().items()}
    own = to_own({**wrapped, "module.decode_head.conv_seg.weight": torch.ones(1)})
    assert load_weights(model, own) == f"{len(own)} of {len(own)} tensors"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda s: s.pop("blocks.3.layer.proj_up.weight"), ("1 missing", "blocks.3.layer.proj_up.weight")),
        (lambda s: s.update(extra=torch.ones(1)), ("1 ", "extra")),
        (
            lambda s: s.update({"patch_embed.proj.bias": torch.ones(3)}),
            ("1 ", "patch_embed.proj.bias", "(3,)", "(32,)"),
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_loaded(change, names: tuple[str, ...]) -> None:
    state, model = small().state_dict(), VisionLSTM(**{**variant("vil2-tiny"), "dim": 32, "depth": 12, "grid": (4, 4)})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    change(state)
    with raises_one_line(ValueError, *names):
        load_weights(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_another_models_weights_are_refused() -> None:
    with raises_one_line(ValueError, "1 block", "2 blocks", "32", "64"):
        load_weights(small(depth=2, dim=64), small(depth=1).state_dict())
    with raises_one_line(ValueError, "causal", "grid", "biases"):
        load_weights(small(), small("vil-tiny").state_dict())
    with raises_one_line(ValueError, "2 set", "1 set"):
        load_weights(small(), small(direction="bi").state_dict())
    with raises_one_line(ValueError, "1 keys"):
        to_own({"layer1.0.weight": torch.ones(1)})
    with raises_one_line(ValueError, "'xlstm.blocks.0.xlstm.slstm.weight'"):
        to_own({"xlstm.blocks.0.xlstm.slstm.weight": torch.ones(1)})
    with raises_one_line(ValueError, "'bi-shared'"):
        to_own({"xlstm.blocks.0.xlstm.conv1d.weight": torch.ones(8, 1, 3, 3)}, direction="bi-shared")


def convert(monkeypatch: pytest.MonkeyPatch, *args: object) -> None:
    """Runs the tool in this process."""
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, args)])
    runpy.run_path(str(TOOL), run_name="__main__")


def test_the_tool_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    model = small("vil2-tiny", num_classes=5)
    torch.save(dict(state_dict=as_raw(model.state_dict(), TURNED["bi-alternating"])), tmp_path / "raw.th")
    n = len(model.state_dict())
    for suffix in (".pth", ".safetensors"):
        convert(monkeypatch, tmp_path / "raw.th", tmp_path / f"own{suffix}")
        said = capsys.readouterr().out
        assert said.startswith(f"{n} of {n} tensors (raw layout), {sum(p.numel() for p in model.parameters()):,}")
        state = read_state(tmp_path / f"own{suffix}")
        assert len(state) == n
        for key, value in state.items():
            torch.testing.assert_close(value, model.state_dict()[key])


def test_the_tool_says_what_is_wrong_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "broken.th").write_bytes(b"nothing")
    blocks = {key: value for key, value in small().state_dict().items() if not key.startswith("patch_embed")}
    torch.save(blocks, tmp_path / "blocks.th")
    for src, dst, name in (
        ("none.th", "a.pth", "none.th"),
        ("broken.th", "a.pth", "broken.th"),
        ("blocks.th", "a.pth", "patch_embed.proj.weight"),
        ("none.th", "a.onnx", ".safetensors"),
    ):
        with pytest.raises(SystemExit, match=r"^2$"):
            convert(monkeypatch, tmp_path / src, tmp_path / dst)
        assert_one_line(capsys.readouterr().err, name)
        assert not (tmp_path / dst).exists()


@pytest.mark.parametrize(
    ("error", "code", "names"),
    [
        (KeyboardInterrupt(), 130, ("Ctrl-C",)),
        (OSError(28, "No space left on device"), 2, ("error: ", "No space left on device")),
        (RuntimeError("two\nlines"), 2, ("error: ", "RuntimeError: two lines", "--debug")),
    ],
    ids=["Ctrl-C", "disk", "ours"],
)
def test_the_tool_ends_in_one_line(
    error: BaseException,
    code: int,
    names: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    def fail(path: str) -> None:
        raise error

    monkeypatch.setattr(state_files, "read_state", fail)
    monkeypatch.setattr(sys, "argv", ["model_converters/convert_checkpoint.py", "a.th", "a.pth"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert end.value.code == code
    assert_one_line(capsys.readouterr().err, *names)
    sys.argv.append("--debug")
    with pytest.raises(type(error)):
        runpy.run_path(str(TOOL), run_name="__main__")
