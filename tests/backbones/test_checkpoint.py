"""Weights in every layout find their place, strictly; a stranger's file runs no code."""

import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from published_order import in_published_order

from vil_dense.backbones import VisionLSTM, checkpoint, variant
from vil_dense.backbones.checkpoint import infer_options, layout_of, load_weights, read_state, to_own, write_state

TOOL = Path(__file__).parents[2] / "tools/convert_checkpoint.py"


def small(name: str = "vil2-tiny", **options) -> VisionLSTM:
    torch.manual_seed(0)
    model = VisionLSTM(**{**variant(name), "dim": 32, "depth": 12, "grid": (4, 4), **options}).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def as_raw(state: dict[str, torch.Tensor], turned: set[tuple[int, int]]) -> dict[str, torch.Tensor]:
    """Returns weights of ours in the layout of the published files; `turned` lists reversed pairs (block, scan).

    The layout is written out by hand, apart from the code that is tested.
    """
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
    """Tests that `to_own` undoes `as_raw`; with twelve blocks, as 1, 10 and 11 could be mixed up."""
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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_written_files_come_back_and_leave_nothing_beside(tmp_path: Path, suffix: str) -> None:
    state = small(num_classes=2).state_dict()
    write_state(state, tmp_path / f"new/w{suffix}")
    back = read_state(tmp_path / f"new/w{suffix}")
    assert all(torch.equal(back[key], value) for key, value in state.items()) and len(back) == len(state)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"w{suffix}"]


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: dict(state_dict=x), lambda x: dict(state_dict={}, extra=x)])
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, wrap, writer: str) -> None:
    path, ran = tmp_path / "weights.th", tmp_path / "ran"
    if writer == "torch":
        torch.save(wrap(Malicious(ran)), path)
    else:
        path.write_bytes(pickle.dumps(wrap(Malicious(ran))))
    with pytest.raises(ValueError, match=r"holds objects other than tensors and plain values, which could run code"):
        read_state(path)
    assert not ran.exists()


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.pth"):
        read_state(tmp_path / "none.pth")
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"cut{suffix}"
        write_state(small().state_dict(), path)
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ValueError, match=r"is not a whole checkpoint|or it is damaged"):
            read_state(path)
        path.write_bytes(b"")
        with pytest.raises(ValueError, match=r"is not a whole checkpoint|or it is damaged"):
            read_state(path)
    torch.save(dict(epoch=3), tmp_path / "plain.pth")
    with pytest.raises(ValueError, match="holds no tensors; expected a state dict"):
        read_state(tmp_path / "plain.pth")


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

    monkeypatch.setattr(checkpoint, "read_state", fail)
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", "a.th", "a.pth"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert end.value.code == code and capsys.readouterr().err == said
    sys.argv.append("--debug")
    with pytest.raises(type(error)):
        runpy.run_path(str(TOOL), run_name="__main__")
