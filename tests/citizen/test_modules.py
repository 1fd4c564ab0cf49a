"""Hooks, quantisation and parametrisation act on every module of a block."""

import copy
import math
import warnings
from collections import Counter

import pytest
import torch
from small_models import (
    MODELS,
    assert_close,
    assert_same,
    block_equations,
    build,
    gradients,
    of_kind,
    picture,
    tokens,
)
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

IN_BLOCK = ("norm", "proj_up", "conv", "q_proj", "k_proj", "v_proj", "igate", "fgate", "outnorm", "proj_down")


def channels_last(name: str, x: Tensor, dim: int) -> Tensor:
    """Returns the input or output of a module as rows of `dim` channels, whatever its layout."""
    if name == "conv":
        x = x.movedim(1, -1)
        x = x.flatten(0, -2)
        return tokens(x[(x != 0).any(-1)])  # less the rows of padding
    if x.shape[-1] != dim:  # (B, NH, S, DH)
        x = x.transpose(1, 2).flatten(2)
    return tokens(x)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", MODELS)
def test_hooks_fire_once_and_see_the_equations(name: str, training: bool) -> None:
    model = build(name, dtype=torch.float64).train(training)
    x = picture(name, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
    blocks, seen, fired = [], {}, Counter()
    for index, block in enumerate(model.blocks):
        block.register_forward_pre_hook(lambda block, args: blocks.append((block, args[0].detach())))
        for path, module in of_kind(block, IN_BLOCK).items():
            key = index, path.rpartition(".")[2]

            def note(module: nn.Module, args: tuple, output: Tensor, key: tuple = key) -> None:
                fired[key] += 1
                seen[key] = args[0].detach(), output.detach()

            module.register_forward_hook(note)
    with torch.set_grad_enabled(training):
        assert_close(model(x), expected, 1e-10)
    assert fired == {(index, part): 1 for index in range(len(model.blocks)) for part in IN_BLOCK}
    for index, (block, grid) in enumerate(blocks):
        with torch.no_grad():
            _, equations = block_equations(block, grid)
        for part, (read, written) in equations.items():
            found_read, found_written = seen[index, part]
            where = f"block {index}, {part}"
            assert_close(channels_last(part, found_read, read.shape[-1]), tokens(read), 1e-9, f"{where}, what it reads")
            if part != "conv":  # a causal one has one output for each place of its padding
                written_rows = channels_last(part, found_written, written.shape[-1])
                assert_close(written_rows, tokens(written), 1e-9, f"{where}, what it puts out")


@pytest.mark.parametrize("part", IN_BLOCK)
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_what_a_hook_puts_in_place_of_an_output_counts(name: str, part: str) -> None:
    """Tests that a hook which doubles an output equals doubled weights of the module."""
    model, x = build(name, dtype=torch.float64), picture(name, dtype=torch.float64)
    plain = model(x).detach()
    doubled = copy.deepcopy(model)
    with torch.no_grad():
        for module in of_kind(doubled.blocks, [part]).values():
            for weight in module.parameters():
                weight *= 2
    for module in of_kind(model.blocks, [part]).values():
        module.register_forward_hook(lambda module, args, output: 2 * output)
    assert_close(model(x), doubled(x), 1e-9)
    assert (model(x) - plain).abs().max() > 1e-4


@pytest.mark.parametrize("part", IN_BLOCK)
def test_what_a_replaced_forward_returns_counts(part: str) -> None:
    """Tests a `forward` that is set on the modules, as accelerate does."""
    model, x = build("v2", dtype=torch.float64), picture("v2", dtype=torch.float64)
    expected = copy.deepcopy(model)
    for module in of_kind(expected.blocks, [part]).values():
        module.register_forward_hook(lambda module, args, output: 2 * output)
    for module in of_kind(model.blocks, [part]).values():
        module.forward = lambda *args, own=module.forward: 2 * own(*args)
    assert_close(model(x), expected(x), 1e-9)


@pytest.mark.parametrize("part", IN_BLOCK)
def test_backward_hooks_fire_once(part: str) -> None:
    model, fired = build("v2").train(), Counter()
    for name, module in of_kind(model.blocks, [part]).items():
        module.register_full_backward_hook(
            lambda module, grad_input, grad_output, name=name: fired.update({name: int(grad_output[0].abs().sum() > 0)})
        )
    expected = gradients(build("v2"), picture())
    assert_same(gradients(model, picture()), expected)
    assert fired == dict.fromkeys(of_kind(model.blocks, [part]), 1)


def test_global_hooks_fire_for_every_module() -> None:
    model, fired = build("v2"), Counter()
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: fired.update([id(module)]))
    try:
        model(picture())
    finally:
        handle.remove()
    called = (nn.Linear, nn.Conv2d, nn.LayerNorm)
    expected = {name: 1 for name, module in model.named_modules() if isinstance(module, called)}
    expected |= dict.fromkeys(of_kind(model, IN_BLOCK), 1)
    assert {name: fired[id(module)] for name, module in model.named_modules() if name in expected} == expected


@pytest.mark.parametrize("part", ["proj_up", "q_proj", "conv", "igate", "outnorm"])
def test_parametrized_weights(part: str) -> None:
    """Tests a parametrisation that halves a weight against a halved weight; the gradient reaches the original."""

    class Half(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight / 2

    model, halved = build("v2"), build("v2")
    for module in of_kind(model.blocks, [part]).values():
        parametrize.register_parametrization(module, "weight", Half())
    with torch.no_grad():
        for module in of_kind(halved.blocks, [part]).values():
            module.weight /= 2
    x = picture()
    assert_close(model(x), halved(x))
    assert (model(x) - build("v2")(x)).abs().max() > 1e-4
    found, expected = gradients(model, x), gradients(halved, x)
    for name in list(expected):
        if name.endswith(f".{part}.weight"):
            original = name.removesuffix("weight") + "parametrizations.weight.original"
            expected[original] = expected.pop(name) / 2
    assert_same(found, expected)


def test_weight_norm_spectral_norm_and_pruning() -> None:
    model, x = build("v2"), picture()
    expected = model(x).detach()
    for block in model.blocks:
        parametrizations.weight_norm(block.layer.proj_up)
    assert_close(model(x), expected)  # another form of the same weights
    parametrizations.spectral_norm(model.blocks[0].layer.proj_down)
    normed = model.blocks[0].layer.proj_down.weight
    assert torch.linalg.matrix_norm(normed, 2) < 1.5
    spectral = build("v2")
    with torch.no_grad():
        spectral.blocks[0].layer.proj_down.weight.copy_(normed)
    assert_close(model(x), spectral(x), 1e-3)

    pruned, zeroed = build("v2"), build("v2")
    for block, plain in zip(pruned.blocks, zeroed.blocks, strict=True):
        prune.l1_unstructured(block.layer.proj_up, "weight", 0.5)
        with torch.no_grad():
            plain.layer.proj_up.weight *= block.layer.proj_up.weight_mask
    assert_close(pruned(x), zeroed(x))
    assert (pruned(x) - expected).abs().max() > 1e-3


def rounded(weight: Tensor) -> Tensor:
    """Rounds to the int8 grid of each row's largest entry."""
    step = weight.abs().amax(1, keepdim=True) / 127.5
    return (weight / step).round().clamp(-128, 127) * step


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_quantize_dynamic(name: str) -> None:
    model, x = build(name), picture(name)
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    kinds = {type(module).__module__ for module in of_kind(quantized, ["proj_up", "proj_down", "igate"]).values()}
    assert kinds == {"torch.ao.nn.quantized.dynamic.modules.linear"}
    by_hand = copy.deepcopy(model)
    for path, part in by_hand.named_modules():
        if isinstance(part, nn.Linear):
            part.register_forward_hook(lambda module, args, output, path=path: quantized.get_submodule(path)(args[0]))
    found = quantized(x)
    assert_close(found, by_hand(x), 1e-3)
    assert 0 < (found - model(x)).abs().max() < model(x).abs().max()


def test_torchao_int8_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
        model, x = build("v2", dim=64), picture()
        quantized = copy.deepcopy(model)
        quantization.quantize_(quantized, quantization.Int8WeightOnlyConfig())
    by_hand = copy.deepcopy(model)
    for part in by_hand.modules():
        if isinstance(part, nn.Linear):
            part.weight.data = rounded(part.weight.data)
    assert type(quantized.blocks[0].layer.proj_up.weight.data) is not Tensor
    found = quantized(x)
    assert_close(found, by_hand(x), 1e-2)
    assert (found - model(x)).abs().max() > 1e-4


def test_torchinfo_counts_every_parameter() -> None:
    torchinfo = pytest.importorskip("torchinfo", reason="torchinfo is not installed")
    model = build("v2")
    summary = torchinfo.summary(model, input_data=picture(), verbose=0)
    called = {info.var_name: info for info in summary.summary_list}
    assert summary.total_params == sum(weight.numel() for weight in model.parameters())
    assert all(called[part].executed for part in IN_BLOCK)
    assert math.prod(called["proj_up"].output_size[:-1]) == 2 * 5 * 5, "one call on all tokens of the batch"
