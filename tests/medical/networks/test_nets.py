"""Tests volume networks: any size, any spacing, every block; what strides, padding and inflation mean."""

import pytest
import torch
from bundle_cases import OF_MONAI
from monai.losses import DiceCELoss
from monai.utils import optional_import
from refusals import raises_one_line

from vil_dense.backbones import VisionLSTM
from vil_dense.layers import ViLBlock
from vil_dense.medical import NETWORKS, SEQUENCE_BLOCKS, ViLUNet3D, ViLUNETR3D, build_network, sequence_share
from vil_dense.medical.networks.nets import logits_of
from vil_dense.medical.networks.sequence import AXIS_ORDERS, SequenceStage, load_picture_blocks
from vil_dense.medical.networks.topology import crop, pad, padded_size, topology, total_stride
from vil_dense.ops import ORDERS

SMALL = {
    "ViLUNet3D": dict(channels=(4, 8, 16), depths=(0, 1, 2)),
    "ViLUNETR3D": dict(channels=(4, 8), dim=16, depth=4),
    "DynUNet": dict(kernel_size=[3] * 3, strides=[1, 2, 2], upsample_kernel_size=[2] * 2, filters=[4, 8, 16]),
    **{name: OF_MONAI[name] for name in ("SegResNet", "MedNeXt", "SwinUNETR", "UNETR")},
}
PLAN = dict(channels=["a", "b"], labels=dict(no=0, x=1, y=2), spacing_mm=(1, 1, 1), patch_vox=(16, 16, 16))

each_block = pytest.mark.parametrize("block", SEQUENCE_BLOCKS)
ours = pytest.mark.parametrize("name", ["ViLUNet3D", "ViLUNETR3D"])


def test_every_network_has_a_small_form() -> None:
    assert {*SMALL} == {*NETWORKS}


@each_block
@ours
def test_two_sizes_on_one_model(name: str, block: str) -> None:
    """Tests odd, thin and tiny volumes, and that what the first call leaves behind does not change the second."""
    torch.manual_seed(0)
    net = build_network(PLAN, name, **SMALL[name], block=block).eval()
    volumes = [torch.randn(1, 2, *size) for size in ((16, 8, 8), (9, 13, 5), (1, 1, 1), (7, 2, 19))]
    with torch.no_grad():
        first = [net(volume) for volume in volumes]
        again = [net(volume) for volume in reversed(volumes)][::-1]
    for volume, logits, repeated in zip(volumes, first, again, strict=True):
        assert logits.shape == (1, 3, *volume.shape[2:])
        assert torch.isfinite(logits).all()
        torch.testing.assert_close(logits, repeated)


@each_block
@ours
def test_every_parameter_learns(name: str, block: str) -> None:
    torch.manual_seed(0)
    net = build_network(PLAN, name, **SMALL[name], block=block, deep_supervision=2).train()
    outputs = net(torch.randn(1, 2, 10, 8, 8))
    assert [tuple(logits.shape[2:]) for logits in outputs] == [(10, 8, 8), (5, 4, 4)]
    sum(logits.square().sum() for logits in outputs).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@each_block
def test_blocks_see_as_far_as_they_say(block: str) -> None:
    """Tests that a voxel far away changes the output of ViL (in one direction) and attention, not of the controls."""
    torch.manual_seed(0)
    stage = SequenceStage(8, [0.0, 0.0], block=block).double().eval()
    x = torch.randn(1, 8, 9, 1, 1, dtype=torch.float64)
    changed = x.clone()
    changed[..., 0, :, :] = torch.randn(8, 1, 1)
    far = (stage(changed) - stage(x))[..., 8, :, :].abs().max().item()
    assert (far > 0) == (block in ("vil", "attention"))
    if block == "identity":
        assert torch.equal(stage(x), x)


def test_six_orders_take_turns_over_the_whole_network() -> None:
    net = ViLUNet3D(channels=(4, 8, 8, 8), depths=(0, 3, 0, 4))
    orders = [module.layer.orders[0] for module in net.modules() if isinstance(module, ViLBlock)]
    assert orders == [*AXIS_ORDERS, AXIS_ORDERS[0]] and {*AXIS_ORDERS} == {*ORDERS}


def test_controls_have_the_size_of_vil() -> None:
    """Tests that all blocks have 6 C^2 parameters, but for the mLSTM's gates and small maps, linear in the width."""
    C = 256
    sizes = {
        block: sum(p.numel() for p in SequenceStage(C, [0.0], block=block).parameters()) for block in SEQUENCE_BLOCKS
    }
    assert sizes.pop("identity") == 0
    for block, size in sizes.items():
        assert size / (6 * C * C) == pytest.approx(1, abs=0.12), block


def test_share_counts_the_blocks_alone() -> None:
    with_blocks = sequence_share(build_network(PLAN, "ViLUNet3D", **SMALL["ViLUNet3D"]))
    without = sequence_share(build_network(PLAN, "ViLUNet3D", **SMALL["ViLUNet3D"], block="identity"))
    assert without["sequence"] == 0 and without["share"] == 0
    assert with_blocks["total"] - with_blocks["sequence"] == without["total"]
    assert with_blocks["share"] == pytest.approx(with_blocks["sequence"] / with_blocks["total"])


@pytest.mark.parametrize(
    ("spacing", "strides", "kernels"),
    [
        ((1, 1, 1), [(1, 1, 1), (2, 2, 2), (2, 2, 2)], [(3, 3, 3)] * 3),
        ((0.8, 0.8, 5.0), [(1, 1, 1), (2, 2, 1), (2, 2, 1)], [(3, 3, 1), (3, 3, 1), (3, 3, 3)]),
        ((7.5, 0.5, 0.5), [(1, 1, 1), (1, 2, 2), (1, 2, 2)], [(1, 3, 3)] * 3),
        ((5.0, 2.0, 2.0), [(1, 1, 1), (1, 2, 2), (2, 2, 2)], [(1, 3, 3), (3, 3, 3), (3, 3, 3)]),
        ((1.9, 1, 1), [(1, 1, 1), (2, 2, 2), (2, 2, 2)], [(3, 3, 3)] * 3),
    ],
)
def test_strides_and_kernels_follow_the_spacing(spacing: tuple, strides: list, kernels: list) -> None:
    assert topology(spacing, 3) == (strides, kernels)


def test_a_short_patch_is_not_halved_away() -> None:
    strides, _ = topology((1, 1, 1), 5, (40, 56, 7))
    assert total_stride(strides) == (8, 8, 1)


def test_padding_repeats_and_is_cut_off_again() -> None:
    strides = [(1, 1, 1), (2, 2, 1), (2, 2, 2)]
    assert padded_size((5, 8, 3), strides) == (8, 8, 4)
    assert padded_size((4, 4, 2), strides) == (4, 4, 4), "InstanceNorm needs two voxels on the coarsest scale"
    x = torch.randn(1, 2, 5, 8, 3)
    wide = pad(x, strides, 2)
    torch.testing.assert_close(wide[..., :5, :8, :3], x)
    torch.testing.assert_close(wide[..., 5:, :, :3], x[..., 4:5, :, :].expand(-1, -1, 3, -1, -1))
    shapes = [tuple(y.shape[2:]) for y in crop([wide, wide[..., ::2, ::2, :]], strides, (5, 8, 3))]
    assert shapes == [(5, 8, 3), (3, 4, 3)]


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_any_network_are_a_list(name: str) -> None:
    more = dict(deep_supervision=True, deep_supr_num=1) if name == "DynUNet" else {}
    # MONAI's SwinUNETR normalises maps of stride 32, which in training need more than one place.
    patch = (64, 32, 32) if name == "SwinUNETR" else (32, 32, 32)
    net = build_network({**PLAN, "patch_vox": patch}, name, **SMALL[name], **more).train()
    logits = logits_of(net(torch.randn(2, 2, *patch)))
    assert all(x.shape[:2] == (2, 3) for x in logits) and logits[0].shape[2:] == patch


def test_a_package_that_monai_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "UNETR", lambda **options: optional_import("no_einops")[0]())
    with raises_one_line(ImportError, "UNETR", "no_einops"):
        build_network(PLAN, "UNETR")


@ours
def test_a_plain_loop_of_monai(name: str) -> None:
    """Tests one output in training, for a plain DiceCELoss; recomputed activations give the same gradients."""
    gradients = []
    for use_checkpoint in (False, True):
        torch.manual_seed(0)
        options = dict(norm="batch", act="relu", patch_vox=16, spacing_mm=1.0, use_checkpoint=use_checkpoint)
        net = {"ViLUNet3D": ViLUNet3D, "ViLUNETR3D": ViLUNETR3D}[name](
            spatial_dims=3, in_channels=2, out_channels=3, **SMALL[name], **options
        ).train()
        loss = DiceCELoss(to_onehot_y=True, softmax=True)(net(torch.randn(2, 2, 8, 8, 8)), torch.ones(2, 1, 8, 8, 8))
        loss.backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("orders", [("rows", "rows-reversed"), AXIS_ORDERS], ids=["as-trained", "six"])
def test_a_volume_one_voxel_deep_equals_the_picture(orders: tuple[str, ...]) -> None:
    """Tests the blocks of a picture's ViL; the orders of the third axis read such a volume as its rows."""
    torch.manual_seed(0)
    flat = {order: order.replace("depth", "rows") for order in orders}
    picture = VisionLSTM(dim=16, depth=len(orders), patch_size=4, grid=(3, 3), in_channels=1).double().eval()
    for parameter in picture.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    for block, order in zip(picture.blocks, orders, strict=True):
        block.layer.orders = (flat[order],)
    net = ViLUNet3D(
        channels=(4, 16, 16), depths=(0, len(orders), 0), orders=orders, layerscale=None, strides=[(1, 1, 1)] * 3
    ).double()
    assert (
        load_picture_blocks(net, picture.state_dict())
        == f"{len(orders)} of {len(orders)} blocks of the picture's ViL, 16 wide"
    )
    x = torch.randn(2, 3, 5, 16, dtype=torch.float64)
    expected = x
    for block in picture.blocks:
        expected = block(expected)
    stage = net.stages[1].eval()
    torch.testing.assert_close(stage(x[:, None].movedim(-1, 1))[:, :, 0].movedim(1, -1), expected)


def test_picture_blocks_of_another_width_or_kind_are_refused() -> None:
    state = VisionLSTM(dim=16, depth=2, patch_size=4, grid=(3, 3)).state_dict()
    with raises_one_line(ValueError, "16"):
        load_picture_blocks(ViLUNet3D(channels=(4, 8, 8), depths=(0, 0, 1)), state)
    with raises_one_line(ValueError, "layer.proj_down.bias"):
        load_picture_blocks(ViLUNet3D(channels=(4, 8, 16), depths=(0, 0, 1), bias=False, norm_bias=False), state)


@pytest.mark.parametrize(
    ("net", "options", "names"),
    [
        (ViLUNet3D, dict(depths=(1, 2)), ("depths", "5 scales")),
        (ViLUNet3D, dict(channels=(4, 12), depths=(0, 1), deep_supervision=1), ("8", "12")),
        (ViLUNet3D, dict(block="lstm"), ("'lstm'", "vil, identity, dwconv, attention")),
        (ViLUNet3D, dict(spacing_mm=(1, 0, 1)), ("spacing_mm", "(1, 0, 1)")),
        (ViLUNet3D, dict(strides=[(2, 2, 2)]), ("strides", "5 levels")),
        (ViLUNet3D, dict(deep_supervision=0), ("5 and 0",)),
        (ViLUNETR3D, dict(depth=3), ("4 feature maps", "3")),
        (ViLUNet3D, dict(spatial_dims=2), ("spatial_dims=3", "2")),
        (ViLUNet3D, dict(with_cp=True), ("'with_cp'", "use_checkpoint")),
        (ViLUNETR3D, dict(use_checkpoints=True), ("'use_checkpoints'", "did you mean use_checkpoint?")),
        (ViLUNet3D, dict(patch_vox="64"), ("patch_vox", "'64'")),
        (ViLUNet3D, dict(channels=32), ("channels", "32")),
    ],
)
def test_refuses_in_words(net: type, options: dict, names: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *names):
        net(**options)


def test_another_number_of_channels_is_refused() -> None:
    with raises_one_line(ValueError, "(1, 2, 8, 8, 8)"):
        ViLUNet3D(channels=(4, 8), depths=(0, 1), deep_supervision=1)(torch.zeros(1, 2, 8, 8, 8))
    with raises_one_line(ValueError, "'UNet'", "ViLUNet3D"):
        build_network(PLAN, "UNet")
    with raises_one_line(ValueError, "'filters'", "init_filters"):
        build_network(PLAN, "SegResNet", filters=8)


def test_bfloat16_is_finite_and_near() -> None:
    torch.manual_seed(0)
    net = build_network(PLAN, "ViLUNet3D", **SMALL["ViLUNet3D"]).eval()
    x = torch.randn(1, 2, 12, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(x)
    torch.testing.assert_close(half.float(), net(x).detach(), rtol=0.1, atol=0.15)
