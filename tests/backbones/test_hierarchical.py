"""Tests HierViL: four maps of any size in 2D and 3D, controls in the same places, equal forms of the mLSTM."""

import copy

import pytest
import torch
from refusals import raises_one_line
from small_models import assert_close, assert_same, gradients
from torch import nn
from torch.export import Dim

from vil_dense.backbones import HIERARCHICAL_VARIANTS, HierViL, build_classifier, hierarchical_variant
from vil_dense.backbones.checkpoint import load_weights, to_own
from vil_dense.cost.flops import count, total
from vil_dense.layers import SEQUENCE_BLOCKS, AttentionBlock, ConvBlock, GatedConvBlock, ViLBlock
from vil_dense.layers.fused import describe_forms
from vil_dense.ops import cell

SMALL = dict(dims=(8, 8, 16, 16), depths=(1, 1, 2, 1))
SHORT = dict(dims=(8, 16), depths=(1, 1), sequence_strides=(8,))
VOLUME = dict(SMALL, ndim=3, in_channels=1)
PARAMETERS = {
    "hiervil-tiny": 6_456_776,
    "hiervil-small": 23_424_432,
    "hiervil-base": 90_835_728,
    "hiervil3d-tiny": 9_169_736,
    "hiervil3d-small": 34_020_528,
    "hiervil3d-base": 132_763_920,
}
VIL_2 = {"hiervil-tiny": 6_391_528, "hiervil-small": 23_398_696, "hiervil-base": 89_263_528}

each_block = pytest.mark.parametrize("sequence", SEQUENCE_BLOCKS)


def small(**options) -> HierViL:
    """Returns a small network, all parameters moved away from their initial values: gates of weight 0 hide a lot."""
    torch.manual_seed(0)
    model = HierViL(**{**SMALL, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def picture(*size: int, channels: int = 3, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", HIERARCHICAL_VARIANTS)
def test_parameters_of_variants(name: str) -> None:
    with torch.device("meta"):
        found = sum(p.numel() for p in build_classifier(name, num_classes=1000).parameters())
    assert found == PARAMETERS[name]
    if name in VIL_2:
        assert found / VIL_2[name] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (64, 80), (5, 130)])
@pytest.mark.parametrize("sequence_strides", [(16, 32), (8, 16, 32), ()])
def test_maps_of_any_picture(size: tuple[int, int], sequence_strides: tuple[int, ...]) -> None:
    maps = small(sequence_strides=sequence_strides).features(picture(*size))
    grids = [tuple(-(-n // stride) for n in size) for stride in (4, 8, 16, 32)]
    assert [tuple(x.shape) for x in maps] == [(2, dim, *grid) for dim, grid in zip(SMALL["dims"], grids, strict=True)]
    assert all(x.isfinite().all() and x.is_contiguous() for x in maps)


@each_block
def test_maps_of_any_volume(sequence: str) -> None:
    for size in ((17, 9, 40), (1, 1, 1)):
        maps = small(**{**VOLUME, "sequence": sequence}).features(picture(*size, channels=1))
        assert [x.shape[2:] for x in maps] == [tuple(-(-n // s) for n in size) for s in (4, 8, 16, 32)]
        assert all(x.isfinite().all() for x in maps)


def test_logits_vectors_and_single_maps() -> None:
    x = picture(40, 50)
    assert small(num_classes=7)(x).shape == (2, 7) and small()(x).shape == (2, 16)
    model = small()
    maps = model.features(x)
    last, first = model.features(x, (-1, 0))
    assert torch.equal(last, maps[3]) and torch.equal(first, maps[0])


def test_no_size_is_remembered() -> None:
    veteran = small()
    for size in ((32, 32), (64, 16), (40, 24), (32, 32)):
        assert torch.equal(veteran(picture(*size)), small()(picture(*size)))


@each_block
def test_a_control_stands_where_vil_does(sequence: str) -> None:
    """Tests kind and number of blocks in each stage, and that all else has the same parameters."""
    model, kinds = small(sequence=sequence), dict(vil=ViLBlock, attention=AttentionBlock, dwconv=GatedConvBlock)
    for stage, depth, stride in zip(model.stages, SMALL["depths"], model.strides, strict=True):
        kind = kinds.get(sequence, nn.Identity) if stride in (16, 32) else ConvBlock
        assert [isinstance(block, kind) for block in stage.blocks] == [True] * depth
        assert (stage.position is None) == (stride < 16)

    def others(net: HierViL) -> list[str]:
        return [
            name for name, _ in net.named_parameters() if not name.startswith(("stages.2.blocks", "stages.3.blocks"))
        ]

    assert others(model) == others(small())


def test_controls_have_about_the_size_of_vil() -> None:
    sizes = {}
    for sequence in SEQUENCE_BLOCKS:
        with torch.device("meta"):
            model = HierViL(**hierarchical_variant("hiervil-tiny"), sequence=sequence)
        sizes[sequence] = sum(p.numel() for p in model.parameters())
    assert sizes["identity"] < 0.25 * sizes["vil"]
    assert all(sizes[name] / sizes["vil"] == pytest.approx(1, abs=0.06) for name in ("attention", "dwconv"))


@pytest.mark.parametrize("ndim", [2, 3])
def test_blocks_read_all_axes_in_turn(ndim: int) -> None:
    model = small(**{**VOLUME, "ndim": ndim, "depths": (1, 1, 5, 3)})
    orders = [module.layer.orders[0] for module in model.modules() if isinstance(module, ViLBlock)]
    cycle = ["rows", "rows-reversed", "columns", "columns-reversed", "depth", "depth-reversed"][: 2 * ndim]
    assert orders == (cycle * 2)[: 2 * ndim] + cycle[: 8 - 2 * ndim]


def test_how_often_a_block_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that a training step runs the convolution of a ViL block once, and twice where it is to save memory."""
    runs, convolve = [], cell.convolve
    for options in (dict(), dict(recompute=True), dict(with_cp=True)):
        model, found = small(**options).train(), []
        monkeypatch.setattr(cell, "convolve", lambda *args, found=found: found.append(1) or convolve(*args))
        model(picture(32, 32)).sum().backward()
        runs.append(len(found) / 3)
    assert runs == [1, 2, 2]


@pytest.mark.parametrize("options", [SMALL, VOLUME], ids=["2D", "3D"])
def test_the_fused_form_equals_the_plain_one(options: dict) -> None:
    """Tests outputs and gradients of all parameters in float64, on grids of one and of several chunks."""
    fused, plain = (small(**options, backend=name, num_classes=3).double() for name in ("chunkwise", "recurrent"))
    assert describe_forms(fused).startswith("3 of 3") and describe_forms(plain).startswith("0 of 3")
    size = (60, 90) if fused.ndim == 2 else (33, 20, 17)
    x = picture(*size, channels=fused.in_channels, batch=1).double()
    assert_close(fused(x), plain(x), 1e-9)
    found = gradients(fused, x)
    assert_same(found, gradients(plain, x), 1e-8)
    assert set(found) == {name for name, _ in fused.named_parameters()}
    assert all(gradient.abs().max() > 0 for gradient in found.values())


def test_a_place_far_away_changes_vil_and_attention_alone() -> None:
    x = picture(512, 32).double()
    changed = x.clone()
    changed[:, :, :8] += 1
    for sequence, sees in dict(vil=True, attention=True, dwconv=False, identity=False).items():
        model = small(sequence=sequence, dims=(8, 8, 16), depths=(1, 1, 2), sequence_strides=(16,)).double()
        far = (model.features(changed, (2,))[0] - model.features(x, (2,))[0])[:, :, -1].abs().max()
        assert (far > 0) == sees, sequence


@each_block
def test_what_is_computed_again_changes_no_number(sequence: str) -> None:
    x = picture(33, 32)
    kept, again = (gradients(small(sequence=sequence, with_cp=with_cp).train(), x) for with_cp in (False, True))
    assert_same(again, kept, 1e-5)


def test_stochastic_depth_and_layerscale() -> None:
    model = small(drop_path=0.4, layerscale=0.1)
    blocks = [block for stage in model.stages for block in stage.blocks]
    assert [block.residual.rate for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [len(block.layerscale.gamma) for block in blocks] == [8, 8, 16, 16, 16]
    model.train()(picture(32, 32)).sum().backward()


@pytest.mark.slow
def test_compiled_as_one_graph() -> None:
    model, x = small(**SHORT), picture(18, 25)
    torch._dynamo.reset()
    with torch.no_grad():
        assert_close(torch.compile(model, fullgraph=True, dynamic=False, backend="eager")(x), model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_for_all_sizes_with_gradients() -> None:
    model = small(**SHORT)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, dynamic=True, backend="aot_eager")
    for size in ((18, 25), (33, 40), (64, 50)):
        x = picture(*size)
        assert_same(gradients(compiled._orig_mod, x, of=compiled), gradients(model, x))
        assert_close(compiled(x), model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_exported_for_all_sizes() -> None:
    model = small(**SHORT, num_classes=3)
    shapes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
    module = torch.export.export(model, (picture(70, 90),), dynamic_shapes=shapes).module()
    with torch.no_grad():
        for x in (picture(70, 90), picture(64, 96, batch=3), picture(101, 66)):
            assert_close(module(x), model(x))


def test_weights_move_between_classifier_and_backbone() -> None:
    source, target = small(num_classes=4), small(drop_path=0.1)
    state = {f"module.backbone.net.{key}": value for key, value in source.state_dict().items()}
    report = load_weights(target, to_own(state))
    assert "dropped head (2 tensors)" in report
    assert torch.equal(target(picture(32, 32)), source.head_norm(source.features(picture(32, 32))[3].mean((2, 3))))
    with raises_one_line(ValueError, "missing", "stages.2.blocks.0"):
        load_weights(small(), to_own(small(sequence="attention").state_dict()))


def test_multiply_adds_of_the_tiny_variant() -> None:
    with torch.device("meta"):
        model = build_classifier("hiervil-tiny", num_classes=1000).eval()
    part = total(count(model.to_empty(device="cpu"), (1, 3, 224, 224)))
    assert part.parameters == PARAMETERS["hiervil-tiny"] and 1.4e9 < part.macs < 1.8e9


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (dict(sequence="mamba"), ("'mamba'", "dwconv")),
        (dict(backned="auto"), ("backned", "backend")),
        (dict(sequence="identity", backend="auto"), ("backend", "'identity'")),
        (dict(sequence_strides=(64,)), ("64", "4, 8, 16, 32")),
        (dict(depths=(1, 2)), ("dims", "(1, 2)")),
        (dict(dims=(8, 8, 12, 16)), ("8", "12")),
        (dict(ndim=4), ("ndim=4",)),
        (dict(backend="cuda"), ("backend", "'cuda'")),
    ],
)
def test_options_are_refused_in_words(options: dict, names: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *names):
        HierViL(**{**SMALL, **options})


def test_input_and_names_are_refused_in_words() -> None:
    model = small()
    for shape in ((1, 1, 8, 8), (3, 8, 8), (1, 3, 8, 8, 8), (1, 3, 0, 8)):
        with raises_one_line(ValueError, tuple(shape)):
            model(torch.zeros(shape))
    with raises_one_line(ValueError, "stage 4", "4 stages"):
        model.features(torch.zeros(1, 3, 8, 8), (4,))
    with raises_one_line(ValueError, "out_indices"):
        model.features(torch.zeros(1, 3, 8, 8), ())
    for build in (hierarchical_variant, build_classifier):
        with raises_one_line(ValueError, "'hiervil-huge'", "hiervil-tiny"):
            build("hiervil-huge")
