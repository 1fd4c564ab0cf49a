"""Weights in every layout find their place, strictly; the tool converts them."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from published_order import in_published_order

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
    ("change", "message"),
    [
        (lambda s: s.pop("blocks.3.layer.proj_up.weight"), r"1 missing \(blocks.3.layer.proj_up.weight\)"),
        (lambda s: s.update(extra=torch.ones(1)), r"1 without a place \(extra\)"),
        (
            lambda s: s.update({"patch_embed.proj.bias": torch.ones(3)}),
            r"1 of another shape \(patch_embed.proj.bias \(3,\) instead of \(32,\)\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_loaded(change, message: str) -> None:
    state, model = small().state_dict(), VisionLSTM(**{**variant("vil2-tiny"), "dim": 32, "depth": 12, "grid": (4, 4)})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match=f"these are not the weights of this model: {message}"):
        load_weights(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_another_models_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model: 1 block instead of 2 blocks, width 32 instead of width 64$"):
        load_weights(small(depth=2, dim=64), small(depth=1).state_dict())
    ours = r"a 2D grid convolution \(v2\), no biases instead of biases$"
    with pytest.raises(ValueError, match=r"model: a causal convolution \(v1\) instead of " + ours):
        load_weights(small(), small("vil-tiny").state_dict())
    with pytest.raises(ValueError, match=r"model: 2 set\(s\) of weights in a block instead of 1 set"):
        load_weights(small(), small(direction="bi").state_dict())
    with pytest.raises(ValueError, match="not the weights of a ViL: none of the 1 keys"):
        to_own({"layer1.0.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"tensor 'xlstm.blocks.0.xlstm.slstm.weight' has no place in a ViL"):
        to_own({"xlstm.blocks.0.xlstm.slstm.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="'bi-shared' with a grid convolution shared by both passes has no equal"):
        to_own({"xlstm.blocks.0.xlstm.conv1d.weight": torch.ones(8, 1, 3, 3)}, direction="bi-shared")


def convert(*args: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, TOOL, *map(str, args)], capture_output=True, text=True)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_tool_converts(tmp_path: Path, suffix: str) -> None:
    model = small("vil2-tiny", num_classes=5)
    torch.save(dict(state_dict=as_raw(model.state_dict(), TURNED["bi-alternating"])), tmp_path / "raw.th")
    done = convert(tmp_path / "raw.th", tmp_path / f"own{suffix}")
    assert done.returncode == 0, done.stderr
    n = len(model.state_dict())
    assert done.stdout.startswith(f"{n} of {n} tensors (raw layout), {sum(p.numel() for p in model.parameters()):,}")
    for key, value in read_state(tmp_path / f"own{suffix}").items():
        torch.testing.assert_close(value, model.state_dict()[key])


def test_the_tool_says_what_is_wrong_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.th").write_bytes(b"nothing")
    blocks = {key: value for key, value in small().state_dict().items() if not key.startswith("patch_embed")}
    torch.save(blocks, tmp_path / "blocks.th")
    for src, dst, message in (
        ("none.th", "a.pth", "no checkpoint at"),
        ("broken.th", "a.pth", "broken.th"),
        ("blocks.th", "a.pth", "these are not all weights of a ViL, patch_embed.proj.weight missing"),
        ("none.th", "a.onnx", "DST must end in .pth or .safetensors"),
    ):
        done = convert(tmp_path / src, tmp_path / dst)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not (tmp_path / dst).exists()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C\n"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device\n"),
        (RuntimeError("two\nlines"), 2, "error: RuntimeError: two lines (the traceback: --debug)\n"),
    ],
    ids=["Ctrl-C", "disk", "ours"],
)
def test_the_tool_ends_in_one_sentence(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(path: str) -> None:
        raise error

    monkeypatch.setattr(state_files, "read_state", fail)
    monkeypatch.setattr(sys, "argv", ["model_converters/convert_checkpoint.py", "a.th", "a.pth"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert end.value.code == code and capsys.readouterr().err == said
    sys.argv.append("--debug")
    with pytest.raises(type(error)):
        runpy.run_path(str(TOOL), run_name="__main__")
