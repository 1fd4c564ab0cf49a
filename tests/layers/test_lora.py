"""Tests LoRA: what is trained, plain weights in and out, and merged weights that give the same."""

import pytest
import torch
from refusals import raises_one_line
from small_models import assert_close, build, picture
from torch import nn

from vil_dense.backbones.checkpoint import load_weights
from vil_dense.layers.fused import describe_forms
from vil_dense.layers.lora import PARTS, TARGETS, add_lora, merge_lora, plain_state
from vil_dense.mm.utils.safe_load import load_exactly


def trained(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_only_the_adapters_learn_and_merge_into_plain_weights() -> None:
    model = build("v2")
    expected, plain = model(picture()).detach(), {key: value.clone() for key, value in model.state_dict().items()}
    found = add_lora(model, rank=3, alpha=6.0)
    assert_close(model(picture()), expected)
    names = [f"blocks.{block}.layer.{name}" for name in TARGETS[:2] for block in range(len(model.blocks))]
    assert found.lora == names and not found.whole
    assert trained(model) == {f"{name}.{part}" for name in names for part in PARTS[:2]}
    assert "2 of 2 layers fused" in describe_forms(model)
    optimizer = torch.optim.SGD([x for x in model.parameters() if x.requires_grad], lr=0.1)
    for _ in range(2):  # the second step moves the narrow maps, too
        model(picture()).square().mean().backward()
        optimizer.step()
    after = model(picture()).detach()
    assert (after - expected).abs().max() > 1e-4, "without effect"
    assert all(torch.equal(value, plain[key]) for key, value in plain_state(model).items()), "the maps are frozen"
    assert list(plain_state(model)) == list(plain), "and keep their names"
    twin = build("v2")
    load_exactly(twin, merge_lora(model.state_dict()), "merged.pth")
    assert_close(twin(picture()), after)
    weights = {"a.lora_up": torch.ones(2, 1), "a.weight": torch.eye(2)}
    assert merge_lora(weights).keys() == weights.keys(), "one that is not complete is left to be refused"


def test_a_second_adapter_is_refused() -> None:
    model = build("v2")
    add_lora(model, 2, 2.0)
    with raises_one_line(ValueError, "adapters already"):
        add_lora(model, 2, 2.0)


def test_block_diagonal_maps_are_trained_whole() -> None:
    model = build("v2")
    found = add_lora(model, 2, 2.0, ["proj_up", "q_proj"])
    assert len(found.whole) == len(found.lora) == len(model.blocks)
    assert {name.rpartition(".layer.")[2] for name in trained(model)} == {
        *("proj_up.lora_down", "proj_up.lora_up", "scans.0.q_proj.weight", "scans.0.q_proj.bias")
    }


def test_published_weights_load_beside_adapters() -> None:
    plain, model = build("v1"), build("v1")
    add_lora(model, 2, 2.0)
    tensors = len(plain.state_dict())
    with torch.no_grad():
        plain.blocks[0].norm.weight += 1
    assert load_weights(model, plain.state_dict()) == f"{tensors} of {tensors} tensors"
    assert_close(model(picture("v1")), plain(picture("v1")))


@pytest.mark.parametrize("targets", [["q_projection"], TARGETS])
def test_a_target_that_is_not_there_is_named(targets: list[str]) -> None:
    with raises_one_line(ValueError, targets[0], "Sequential", "linear maps: 0"):
        add_lora(nn.Sequential(nn.Linear(2, 2)), 1, 1.0, targets)
