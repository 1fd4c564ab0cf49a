"""Tests the network: no size is remembered, counts are the paper's, wrong input is refused in words."""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from refusals import raises_one_line

from vil_dense.backbones import DIRECTIONS, VARIANTS, VisionLSTM, variant
from vil_dense.backbones.checkpoint import infer_options, load_weights, to_own
from vil_dense.layers.pool import CLS_POOLINGS, POOLINGS
from vil_dense.ops import cell

SMALL = dict(dim=32, depth=4, patch_size=4, grid=(4, 4))


def small(name: str = "vil2-tiny", **options) -> VisionLSTM:
    torch.manual_seed(0)
    heads = dict(num_heads=4) if name.startswith("deit3") else {}
    return VisionLSTM(**{**variant(name), **SMALL, **heads, **options}).eval()


# Parameters with 1000 classes at 224 px in the published layout, and of the directions in ViL-T (paper, tables 1, 2).
COUNTS = {
    "vil-tiny": 6_088_360,
    "vil-tinyplus": 7_277_840,
    "vil-small": 22_792_360,
    "vil-smallplus": 24_628_664,
    "vil-base": 88_050_856,
    "vil-large": 308_282_728,
    "vil2-tiny": 6_391_528,
    "vil2-small": 23_398_696,
    "vil2-base": 89_263_528,
    "deit3-tiny": 5_722_216,
    "deit3-small": 22_060_264,
    "deit3-base": 86_586_856,
}
TENSORS = {"vil-tiny": 344, "vil-tinyplus": 414, "vil-smallplus": 372, "vil-large": 680, "vil2-tiny": 513}
DIRECTION_COUNTS = {
    "uni": 6_088_360, "bi": 6_484_840, "bi-shared": 6_088_360, "bi-alternating": 6_088_360, "quad": 7_277_800,
    "quad-shared": 6_088_360, "quad-alternating": 6_088_360,
}  # fmt: skip


def count(**options) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in VisionLSTM(num_classes=1000, **options).parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_of_variants(name: str) -> None:
    assert count(**variant(name)) == COUNTS[name]
    if not name.startswith("deit3"):
        without = count(**variant(name), **{("post_norm" if name.startswith("vil-") else "head_norm"): False})
        width = variant(name)["dim"] * (1 if name.startswith("vil-") else 4)
        assert without == COUNTS[name] - width
    if name in TENSORS:
        with torch.device("meta"):
            assert len(list(VisionLSTM(num_classes=1000, **variant(name)).parameters())) == TENSORS[name]


def test_parameters_of_vil2_large() -> None:
    """Tests a size without published weights against a count by the authors' code."""
    assert count(**{**variant("vil2-tiny"), "dim": 1024, "depth": 48}) == 310_489_448


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_parameters_of_directions(direction: str) -> None:
    assert count(**{**variant("vil-tiny"), "direction": direction}) == DIRECTION_COUNTS[direction]


@pytest.mark.parametrize("name", ["vil-tiny", "vil2-tiny", "deit3-tiny"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("size", [(12, 20), (13, 7), (1, 1), (17, 16)])
def test_any_size_in_any_direction(name: str, direction: str, size: tuple[int, int]) -> None:
    model = small(name, direction=direction, pooling=None)
    maps = model.features(torch.randn(2, 3, *size), (0, -1))
    grid = tuple(-(-length // 4) for length in size)
    assert [tuple(x.shape) for x in maps] == [(2, 32, *grid)] * 2
    assert all(x.isfinite().all() for x in maps)


@pytest.mark.parametrize("size", [(512, 683), (33, 47)])
def test_odd_pictures_at_full_patch_size(size: tuple[int, int]) -> None:
    (x,) = small(patch_size=16, grid=(14, 14), pooling=None).features(torch.randn(1, 3, *size), (-1,))
    assert x.shape == (1, 32, -(-size[0] // 16), -(-size[1] // 16)) and x.isfinite().all()


@pytest.mark.parametrize("name", ["vil-tiny", "vil2-tiny"])
def test_no_size_is_remembered(name: str) -> None:
    """Tests that a model which has seen other sizes gives what a new model gives."""
    # the second of each has as many tokens as the first, in another shape
    sizes = [(16, 16), (32, 8), (20, 8), (12, 28), (16, 16)]
    volumes = [(8, 16, 12), (16, 8, 12), (4, 8, 20), (9, 7, 5), (8, 16, 12)]
    for options, inputs in (({}, sizes), (dict(grid=(2, 4, 3)), volumes)):
        veteran = small(name, num_classes=5, **options)
        for x in [torch.randn(1, 3, *size) for size in inputs]:
            assert torch.equal(veteran(x), small(name, num_classes=5, **options)(x))


def test_a_step_in_the_picture_stays_where_it_is() -> None:
    """Tests that padding goes to the right and the bottom, where it does not move the rest of the grid."""
    model = small(pooling=None, direction="uni", conv="causal", conv_kernel=4)
    picture = torch.randn(1, 3, 10, 16)
    (cut,) = model.features(picture, (-1,))
    (padded,) = model.features(torch.nn.functional.pad(picture, (0, 0, 0, 2)), (-1,))
    torch.testing.assert_close(cut, padded)


@pytest.mark.parametrize("name", ["vil-tiny", "vil2-tiny"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_volume_one_voxel_deep_equals_the_picture(name: str, direction: str) -> None:
    flat = small(name, direction=direction, pooling=None)
    deep = small(name, direction=direction, pooling=None, patch_size=(1, 4, 4), grid=(1, 4, 4))
    state = flat.state_dict()
    for key, value in deep.state_dict().items():
        if key == "patch_embed.proj.weight":
            state[key] = state[key][:, :, None]
        elif key == "pos_embed.embed":
            state[key] = state[key][:, None]
        elif key.endswith("conv.weight") and value.ndim == 5:
            state[key] = torch.nn.functional.pad(state[key][:, :, None], (0, 0, 0, 0, 1, 1))
    deep.load_state_dict(state)
    x = torch.randn(1, 3, 15, 22)
    torch.testing.assert_close(deep(x[:, :, None])[:, 0], flat(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vil-tiny", "vil2-tiny", "deit3-tiny"])
def test_volumes_of_any_size(name: str) -> None:
    model = small(name, in_channels=1, patch_size=(2, 4, 4), grid=(2, 3, 3), pooling=None)
    for size in ((5, 9, 13), (2, 4, 4), (1, 1, 1)):
        (x,) = model.features(torch.randn(1, 1, *size), (-1,))
        assert x.shape == (1, 32, *(-(-length // p) for length, p in zip(size, (2, 4, 4), strict=True)))
        assert x.isfinite().all()


def test_overlapping_patches_give_729_tokens() -> None:
    model = VisionLSTM(dim=32, depth=1, stride=8)
    assert model(torch.randn(1, 3, 224, 224)).shape == (1, 27, 27, 32)
    assert model.pos_embed.embed.shape == (1, 14, 14, 32)
    assert model(torch.randn(1, 3, 33, 17)).shape == (1, 4, 2, 32)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_classification_designs(pooling: str) -> None:
    model = small("vil-tiny", pooling=pooling, num_classes=7)
    assert model(torch.randn(2, 3, 13, 16)).shape == (2, 7)
    assert (model.cls_token is not None) == (pooling in CLS_POOLINGS)
    assert not model.head.bias.any() and model.head.weight.std().item() == pytest.approx(2e-5, rel=0.3)


@pytest.mark.parametrize("pooling", [None, "middle-cls"])
def test_the_residual_stream_is_float32_under_autocast(pooling: str | None) -> None:
    model, x = small("vil-tiny", pooling=pooling), torch.randn(1, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.features(x, (0,))[0].dtype == torch.float32
    assert model.half().features(x.half(), (0,))[0].dtype == torch.float16


def test_what_is_computed_again_changes_no_number() -> None:
    x = torch.randn(1, 3, 16, 16)
    gradients = []
    for options in (dict(recompute=False), dict(), dict(with_cp=True)):
        model = small(num_classes=3, **options).train()
        model(x).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for kept, *others in zip(*gradients, strict=True):
        torch.testing.assert_close(others, [kept] * 2)


@pytest.mark.parametrize("training", [True, False])
def test_how_often_a_layer_is_computed(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that the backward pass repeats the convolution once, with `with_cp` too, and not if all is saved."""
    runs, convolve = [], cell.convolve
    for options in (dict(), dict(recompute=False), dict(with_cp=True)):
        model, found = small(num_classes=3, **options).train(training), []
        monkeypatch.setattr(cell, "convolve", lambda *args, found=found: found.append(1) or convolve(*args))
        model(torch.randn(1, 3, 16, 16)).sum().backward()
        runs.append(len(found) / len(model.blocks))
    assert runs == [2, 1, 2]


def test_segments_have_the_same_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests what a compiled function makes a new graph for: whole segments and padded ones differ in no stride."""
    strides = set()

    def record(function, axes):
        def call(*args):
            if function is cell._segment:
                strides.add(tuple(x.stride()[2:] for x in args[:3]))
            return function(*args)

        return call

    monkeypatch.setattr(cell, "compiled", record)
    monkeypatch.setattr(cell, "segment_tokens", lambda: 100)
    model = small().eval().compile_blocks()
    for grid in ((9, 8), (29, 27), (16, 16)):
        model(torch.randn(1, 3, *(4 * axis for axis in grid)))
    assert strides == {((128, 1), (64, 1), (128, 1))}


def test_stochastic_depth_rises_over_single_blocks() -> None:
    model = small(depth=5, drop_path=0.2, drop_path_decay=True)
    assert [block.residual.rate for block in model.blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert [block.residual.rate for block in small(drop_path=0.2).blocks] == [0.2] * 4


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (dict(direction="spiral"), ("direction", "'spiral'", "bi-shared")),
        (dict(pooling="max"), ("pooling", "'max'", "middle-patch")),
        (dict(pooling=None, num_classes=3), ("num_classes=3", "pooling")),
        (dict(block="mamba"), ("block", "'mamba'", "attention")),
        (dict(colour="red"), ("colour", "'vil'", "backend")),
        (dict(orders=("columns",)), ("orders", "'vil'")),
        (dict(block="attention", num_heads=4, conv="grid"), ("conv", "'attention'", "known")),
        (dict(grid=(4,)), ("(2)", "(3)")),
        (dict(patch_size=(4, 4, 4)), ("patch_size", "2 axes")),
        (dict(pooling="middle-cls"), ("conv='causal'", "conv='grid'")),
    ],
)
def test_options_are_refused_in_words(options: dict, names: tuple[str, ...]) -> None:
    base = {"dim": 32, "depth": 1} if options.get("block") == "attention" else {**variant("vil2-tiny"), **SMALL}
    with raises_one_line(ValueError, *names):
        VisionLSTM(**{**base, **options})


def test_input_is_refused_in_words() -> None:
    model = small()
    for shape in ((1, 1, 8, 8), (3, 8, 8), (1, 3, 8, 8, 8), (1, 3, 0, 8)):
        with raises_one_line(ValueError, tuple(shape)):
            model(torch.zeros(shape))
    with raises_one_line(ValueError, "block 4", "4 blocks"):
        model.features(torch.zeros(1, 3, 8, 8), (4,))
    with raises_one_line(ValueError, "'vil3-tiny'", "vil-tiny"):
        variant("vil3-tiny")


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch):
    """Yields the authors' stand-alone package from a clone of NX-AI/vision-lstm."""
    clone = os.environ.get("VIL_DENSE_OFFICIAL")
    if not clone or not (Path(clone) / "vision_lstm").is_dir():
        pytest.skip("set VIL_DENSE_OFFICIAL to a clone of NX-AI/vision-lstm to compare with the official code")
    if find_spec("einops") is None:
        pytest.skip("the official code needs einops: pip install einops")
    monkeypatch.syspath_prepend(clone)
    yield import_module("vision_lstm.vision_lstm"), import_module("vision_lstm.vision_lstm2")
    for name in [name for name in sys.modules if name.startswith("vision_lstm")]:
        del sys.modules[name]


@pytest.mark.filterwarnings("ignore:You are using an old version of VisionLSTM:UserWarning")
@pytest.mark.parametrize("version", [1, 2])
def test_one_model_equals_official_models_built_for_each_size(official, version: int) -> None:
    def theirs(size: tuple[int, int]) -> torch.nn.Module:
        options = dict(dim=64, input_shape=(3, *size), output_shape=(10,), legacy_norm=True)
        if version == 1:
            return official[0].VisionLSTM(depth=4, **options)
        return official[1].VisionLSTM2(depth=2, **options)

    torch.manual_seed(0)
    source = theirs((224, 224)).double()
    for parameter in source.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    own = to_own(source.state_dict())
    eps = {} if version == 1 else dict(post_norm_eps=1e-6, head_norm_eps=1e-5)
    ours = VisionLSTM(**infer_options(own), **eps).double().eval()
    load_weights(ours, own)
    for size in ((224, 224), (80, 64), (96, 128), (512, 688)):
        reference = theirs(size).double().eval()
        reference.load_state_dict({key: value.clone() for key, value in source.state_dict().items()})
        x = torch.randn(1, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(ours(x), reference(x), rtol=1e-9, atol=1e-9)
