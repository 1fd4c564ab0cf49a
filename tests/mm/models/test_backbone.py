"""Tests ViL in MMEngine: found from every child, maps of the right shape and place, wrong options and weights."""

from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS
from mmseg.registry import MODELS as SEG_MODELS
from pickle_trap import Trap
from published_order import in_published_order
from refusals import assert_one_line, raises_one_line

import vil_dense.mm  # noqa: F401
from vil_dense.backbones import VARIANTS, VisionLSTM, variant
from vil_dense.layers import FusedViLLayer
from vil_dense.mm.engine.hooks.reports import CompileHook
from vil_dense.mm.models import backbone
from vil_dense.ops.compiled import compiler_problem
from vil_dense.state_files import write_state

SMALL = dict(type="ViL", variant="vil2-tiny", dim=32, depth=4, grid=(4, 4), out_indices=(0, 1, -1))


def build(**options):
    torch.manual_seed(0)
    return SEG_MODELS.build({**SMALL, **options})


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_found_from_the_root_and_from_mmseg(name: str) -> None:
    with torch.device("meta"):
        depth = variant(name)["depth"]
        for registry in (MODELS, SEG_MODELS):
            model = registry.build(dict(type="ViL", variant=name, out_indices=(0, depth - 1)))
    assert model.out_channels == (variant(name)["dim"],) * 2
    assert model.strides == (16, 16)


def test_the_log_names_the_size_that_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that options which override a variant are not logged under its name."""
    lines: list[str] = []
    monkeypatch.setattr(backbone, "print_log", lambda line, *_: lines.append(line))
    build()
    assert_one_line(lines[0], "4 blocks of 32 channels")
    assert "vil2-tiny" not in lines[0]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 47), (80, 64), (1, 1)])
@pytest.mark.parametrize("out_norm", [False, True])
def test_taps(height: int, width: int, out_norm: bool) -> None:
    model = build(out_norm=out_norm)
    maps = model(torch.randn(2, 3, height, width))
    assert isinstance(maps, tuple)
    assert [tuple(x.shape) for x in maps] == [(2, 32, -(-height // 16), -(-width // 16))] * 3
    if out_norm:
        for x in maps:
            torch.testing.assert_close(x.mean(1), torch.zeros_like(x.mean(1)), rtol=0, atol=1e-5)


def test_taps_are_the_raw_outputs_of_the_blocks() -> None:
    model = build().eval()
    x = torch.randn(1, 3, 64, 48)
    tokens = model.net.pos_embed(model.net.patch_embed(x))
    for index, feature_map in zip((0, 1, 2, 3), (0, 1, None, 2), strict=True):
        tokens = model.net.blocks[index](tokens)
        if feature_map is not None:
            assert torch.equal(model(x)[feature_map], tokens.movedim(-1, 1))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (dict(variant="vil3-tiny"), ("variant", "'vil3-tiny'", "vil-tinyplus")),
        (dict(direction="spiral"), ("direction", "'spiral'")),
        (dict(backend="cuda"), ("backend", "'cuda'")),
        (dict(colour="red"), ("colour",)),
        (dict(out_indices=(7,)), ("block 7", "4 blocks")),
        (dict(pooling="max"), ("pooling", "'max'")),
        (dict(post_norm=True), ("post_norm", "out_norm=True")),
        (dict(out_indices=()), ("out_indices",)),
        (dict(frozen_stages=9), ("frozen_stages", "-1 to 4")),
    ],
)
def test_unknown_options_are_refused_by_name(options: dict, names: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *names):
        build(**options)


def test_frozen_stages() -> None:
    model = build(frozen_stages=2).train()
    model(torch.randn(1, 3, 32, 32))[-1].sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {
        name for name, _ in model.named_parameters() if name.startswith(("net.blocks.2.", "net.blocks.3."))
    }
    assert not model.net.blocks[0].training and model.net.blocks[2].training
    assert all(p.requires_grad for p in build(frozen_stages=-1).parameters())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pretrained_weights_are_placed_and_reported(tmp_path: Path, suffix: str, caplog) -> None:
    source = VisionLSTM(**{**variant("vil2-tiny"), "dim": 32, "depth": 4, "grid": (6, 6)}, num_classes=3)
    write_state(source.state_dict(), tmp_path / f"w{suffix}")
    model = build(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / f"w{suffix}")))
    model.init_weights()
    assert torch.equal(model.net.blocks[3].layer.proj_up.weight, source.blocks[3].layer.proj_up.weight)
    assert model.net.pos_embed.embed.shape == (1, 4, 4, 32)
    before = model.net.blocks[0].layer.proj_up.weight.clone()
    model.init_weights()
    assert torch.equal(model.net.blocks[0].layer.proj_up.weight, before)


@pytest.mark.parametrize("direction", ["uni", "bi-alternating"])
def test_published_kernels_are_turned_as_the_direction_says(tmp_path: Path, direction: str) -> None:
    source = VisionLSTM(**{**variant("vil2-tiny"), "dim": 32, "depth": 4, "grid": (4, 4), "direction": direction})
    own = source.state_dict()
    stand_alone = {}
    for key, value in in_published_order(own).items():
        key = key.replace("post_norm.", "norm.").replace("head_norm.", "legacy_norm.")
        if key.startswith("blocks."):
            _, block, rest = key.split(".", 2)
            rest = rest.replace("layer.scans.0.skip", "layer.learnable_skip").replace("layer.scans.0.", "layer.")
            for part in ("igate", "fgate", "outnorm"):
                rest = rest.replace(f"layer.{part}", f"layer.mlstm_cell.{part}")
            if rest == "layer.conv.weight" and direction == "bi-alternating" and int(block) % 2:
                value = value.flip(2, 3)
            if rest in ("norm.weight", "layer.mlstm_cell.outnorm.weight"):
                value = value - 1
            key = f"blocks.{int(block) // 2}.rowwise_from_{('top_left', 'bot_right')[int(block) % 2]}.{rest}"
        stand_alone[key] = value - 1 if key == "norm.weight" else value
    write_state(stand_alone, tmp_path / "v2.pth")
    model = build(direction=direction, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "v2.pth")))
    model.init_weights()
    for key, value in model.net.state_dict().items():
        torch.testing.assert_close(value, own[key], msg=lambda text, key=key: f"{key}: {text}")


def test_a_runs_checkpoint_gives_its_backbone(tmp_path: Path) -> None:
    """Stores the log history, as MMEngine does, beside the weights, and a head that has no place here."""
    trained = build(out_norm=True)
    weights = {f"backbone.{key}": value + 1 for key, value in trained.state_dict().items()}
    history = HistoryBuffer()
    history.update(0.5)
    content = dict(message_hub=dict(log_scalars=dict(loss=history)), meta={})
    torch.save(
        dict(content, state_dict={**weights, "decode_head.conv_seg.weight": torch.ones(1)}), tmp_path / "run.pth"
    )
    build(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "run.pth"))).init_weights()
    model = build(out_norm=True, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "run.pth")))
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[f"backbone.{key}"]), key


def test_init_cfg_runs_no_code_and_refuses_in_words(tmp_path: Path) -> None:
    torch.save(dict(state_dict=Trap(tmp_path / "ran")), tmp_path / "evil.pth")
    with raises_one_line(ValueError, "evil.pth", "mkdir"):
        build(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "evil.pth"))).init_weights()
    assert not (tmp_path / "ran").exists()
    for wrong in (dict(type="Xavier"), dict(type="Pretrained"), [dict(type="Pretrained", checkpoint="w.pth")]):
        with raises_one_line(ValueError, "init_cfg"):
            build(init_cfg=wrong).init_weights()
    other = VisionLSTM(**{**variant("vil-tiny"), "dim": 32, "depth": 4})
    write_state(other.state_dict(), tmp_path / "other.pth")
    with raises_one_line(ValueError, "weights of this model"):
        build(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "other.pth"))).init_weights()


class FakeRunner:
    """Has a model and a log, all that the hook asks of a runner."""

    def __init__(self) -> None:
        self.model, self.logger, self.said = build(), self, []

    def info(self, text: str) -> None:
        self.said.append(text)

    warning = info


def test_compiling_falls_back_with_a_line_in_the_log(monkeypatch) -> None:
    monkeypatch.setattr("vil_dense.backbones.vision_lstm.compiler_problem", lambda device: "no C++ compiler")
    runner = FakeRunner()
    CompileHook().before_train(runner)
    assert_one_line(*runner.said, "not compiled", "cpu", "no C++ compiler")
    assert not any(module.compiled for module in runner.model.modules() if isinstance(module, FusedViLLayer))


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # dynamo's own look
def test_compiling_is_a_hook_of_any_model() -> None:
    if problem := compiler_problem("cpu"):
        pytest.skip(f"nothing can be compiled here ({problem})")
    runner, x = FakeRunner(), torch.randn(1, 3, 32, 32)
    CompileHook().before_train(runner)
    assert runner.said == ["blocks: compiled in the first steps, which take minutes"]
    assert all(module.compiled for module in runner.model.modules() if isinstance(module, FusedViLLayer))
    for found, expected in zip(runner.model(x), build()(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_blocks_behind_the_last_map_are_frozen() -> None:
    """Freezes what no loss depends on: DDP would end at the second step, and weight decay would shrink them."""
    model = build(out_indices=(0, 1)).train()
    learns = [any(p.requires_grad for p in block.parameters()) for block in model.net.blocks]
    assert learns == [True, True, *[False] * (len(learns) - 2)] and len(learns) > 2
