"""Tests function transforms, copies, dtypes, memory formats and gradient modes: what holds for any torch module."""

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch
from small_models import (
    MODELS,
    PATCH,
    assert_close,
    assert_same,
    block_equations,
    build,
    gradients,
    network_equations,
    picture,
    random_like,
)
from torch import Tensor, nn
from torch.autograd.forward_ad import dual_level, make_dual
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap

from vil_dense.backbones import VisionLSTM


def shifted(model: nn.Module, by: float = 0.05) -> dict[str, Tensor]:
    return {name: (weight + by * random_like(weight)).detach() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("name", MODELS)
def test_the_network_equals_its_equations(name: str) -> None:
    """Tests the equations with which other tests compare, in value and gradient; on a grid of several chunks."""
    model = build(name, dtype=torch.float64)
    x = picture(name, 1, (9, 15) if model.ndim == 2 else (3, 5, 9), dtype=torch.float64)
    with torch.no_grad():
        assert_close(model(x), network_equations(model, x), 1e-9)
    expected = gradients(model, x, of=lambda x: network_equations(model, x))
    assert_same(gradients(model, x), expected, 1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_functional_call(name: str) -> None:
    model, x = build(name), picture(name)
    weights = shifted(model)
    other = build(name)
    other.load_state_dict(weights)
    before = model(x).detach()
    found = functional_call(model, weights, (x,))
    assert_close(found, other(x))
    assert_close(model(x), before)
    assert (found - before).abs().max() > 1e-3

    def loss(weights: dict[str, Tensor]) -> Tensor:
        y = functional_call(model, weights, (x,))
        return (y * random_like(y)).sum()

    leaves = {key: value.clone().requires_grad_() for key, value in weights.items()}
    loss(leaves).backward()
    expected = gradients(other, x)
    assert_same({key: value.grad for key, value in leaves.items()}, expected)
    assert_same(grad(loss)(weights), expected)


@pytest.mark.parametrize("name", ["v1", "v2", "v2-3d"])
def test_vmap_over_weights(name: str) -> None:
    """Tests an ensemble, and the gradients of each sample."""
    models = [build(name, depth=2), build(name, depth=2)]
    models[1].load_state_dict(shifted(models[0]))
    weights, buffers = stack_module_state(models)
    base, x = copy.deepcopy(models[0]).to("meta"), picture(name)

    def one(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(base, (weights, buffers), (x,))

    expected = torch.stack([model(x) for model in models])
    assert_close(vmap(one)(weights, buffers), expected)

    def loss(weights: dict[str, Tensor], sample: Tensor) -> Tensor:
        y = functional_call(models[0], weights, (sample[None],))
        return (y * random_like(y)).sum()

    found = vmap(grad(loss), (None, 0))(dict(models[0].named_parameters()), x)
    for index, sample in enumerate(x):
        assert_same({key: value[index] for key, value in found.items()}, gradients(models[0], sample[None]))


def test_per_sample_jacobian() -> None:
    model = build("v2", dtype=torch.float64, pooling="average")
    x = picture(batch=1, grid=(2, 2), dtype=torch.float64)
    jacobian = jacrev(lambda x: model(x)[0, :3])(x)
    expected = torch.autograd.functional.jacobian(lambda x: model(x)[0, :3], x)
    assert jacobian.abs().max() > 1e-3
    assert_close(jacobian, expected, 1e-9)


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), "torch.save"],
    ids=["deepcopy", "pickle", "save"],
)
@pytest.mark.parametrize("name", MODELS)
def test_copies(name: str, again: object, tmp_path: Path) -> None:
    """Tests that copies are equal before and after a pass, and independent of the original."""

    def saved(model: nn.Module) -> nn.Module:
        torch.save(model, buffer := io.BytesIO())
        return torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)

    again = saved if again == "torch.save" else again
    model, x = build(name), picture(name)
    fresh = again(model)
    y = model(x)
    y.sum().backward()
    for copied in (fresh, again(model)):
        assert_close(copied(x), y)
        assert_same(gradients(copied, x), gradients(model, x))
        nn.init.zeros_(copied.post_norm.weight)
    assert_close(model(x), y)


def test_weights_stacked_or_prepared_by_a_pass_are_not_remembered() -> None:
    """Tests that the next pass sees the new weights after a step, `load_state_dict` or an in-place change."""
    model, x = build("v2"), picture()
    with torch.no_grad():
        model(x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients(model, x)
    optimizer.step()
    fresh = build("v2")
    fresh.load_state_dict(model.state_dict())
    assert_close(model(x), fresh(x))
    for source in ("load_state_dict", "data", "assign"):
        with torch.inference_mode():
            before = model(x).clone()
        weights = shifted(model, 0.1)
        if source == "data":
            for name, weight in model.named_parameters():
                weight.data.copy_(weights[name])
        else:
            model.load_state_dict(weights, assign=source == "assign")
        fresh = build("v2")
        fresh.load_state_dict(weights)
        assert_close(model(x), fresh(x))
        assert (model(x) - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_meta_device_and_to_empty(name: str) -> None:
    whole, x = build(name), picture(name)
    options = dict(MODELS[name], dim=32, depth=2, patch_size=PATCH, pooling=None)
    with torch.device("meta"):
        model = VisionLSTM(**options).eval()
    assert all(weight.is_meta for weight in (*model.parameters(), *model.buffers()))
    shape = model(x.to("meta"))
    assert shape.is_meta and shape.shape == whole(x).shape
    model = model.to_empty(device="cpu")
    assert not list(model.buffers()), "what is no parameter would be empty now"
    model.load_state_dict(whole.state_dict())
    assert_close(model(x), whole(x))
    assert_same(gradients(model, x), gradients(whole, x))


@pytest.mark.parametrize("name", MODELS)
def test_default_dtype_float64(name: str) -> None:
    narrow = build(name)
    torch.set_default_dtype(torch.float64)
    try:
        model = VisionLSTM(**{**MODELS[name], **dict(dim=32, depth=2, patch_size=PATCH, pooling=None)}).eval()
        assert {weight.dtype for weight in model.parameters()} == {torch.float64}
        model.load_state_dict(narrow.state_dict())
        x = picture(name).double()
        y = model(x)
        single = narrow(x.float())
        assert y.dtype == torch.float64 and single.dtype == torch.float32
        found = gradients(model, x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_close(y, network_equations(model, x), 1e-9)
    assert_close(single.double(), y, 1e-4)
    assert_same(found, gradients(model, x), 1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_half_precision_modules(name: str, dtype: torch.dtype) -> None:
    """Tests that outputs and gradients keep the dtype, within some roundings of those in float64."""
    wide = build(name).to(dtype).double()  # its weights are those of the narrow one
    narrow = copy.deepcopy(wide).bfloat16() if dtype == torch.bfloat16 else copy.deepcopy(wide).half()
    x = picture(name).to(dtype)
    y, bound = narrow(x), 24 * torch.finfo(dtype).eps
    assert y.dtype == dtype
    assert_close(y.double(), wide(x.double()), bound)
    found, expected = gradients(narrow, x), gradients(wide, x.double())
    assert {value.dtype for value in found.values()} == {dtype}
    assert_same({key: value.double() for key, value in found.items()}, expected, 4 * bound)


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_and_non_contiguous_input(name: str) -> None:
    model, x = build(name), picture(name)
    expected, slopes = model(x).detach(), gradients(model, x)
    format = torch.channels_last if model.ndim == 2 else torch.channels_last_3d
    last = copy.deepcopy(model).to(memory_format=format)
    apart = torch.stack([x, x], -1)[..., 0]
    turned = x.mT.contiguous().mT
    one_for_all = x[:1].expand_as(x)
    for network, source in (
        (last, x),
        (last, x.contiguous(memory_format=format)),
        (model, x.contiguous(memory_format=format)),
        (model, apart),
        (model, turned),
    ):
        assert_close(network(source), expected)
        assert_same(gradients(network, source), slopes)
    assert_close(model(one_for_all), model(one_for_all.contiguous()))

    block, grid = model.blocks[1], model.pos_embed(model.patch_embed(x)).detach()
    expected, _ = block_equations(block, grid)
    for source in (
        grid.movedim(-1, 1).contiguous().movedim(1, -1),
        grid.transpose(1, 2).contiguous().transpose(1, 2),
        torch.stack([grid, grid], -1)[..., 1],
    ):
        assert not source.is_contiguous()
        assert_close(block(source), expected)


@pytest.mark.parametrize("name", MODELS)
def test_inference_mode_then_training(name: str) -> None:
    model, x = build(name), picture(name)
    expected = gradients(build(name), x)
    with torch.inference_mode():
        y = model(x)
        z = model(picture(name, 3))
    assert y.is_inference() and z.shape[0] == 3
    assert_same(gradients(model, x), expected)
    assert_close(model(x), y.clone())
    with torch.inference_mode():
        made_inside = build(name)
        assert_close(made_inside(x.clone()), y)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_none(name: str) -> None:
    model = build(name)
    x = picture(name, 0).requires_grad_()
    y = model(x)
    assert y.shape == (0, *model(picture(name, 1)).shape[1:])
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())
    with torch.no_grad():
        assert model.train()(x).shape == y.shape
    assert all(feature_map.shape[0] == 0 for feature_map in model.features(x, (0, 1)))
    assert build(name, num_classes=3, pooling="bilateral-concat")(x).shape == (0, 3)


@pytest.mark.parametrize("backend", ["auto", "chunkwise", "parallel", "recurrent"])
@pytest.mark.parametrize("name", ["v1", "v2", "v2-3d"])
def test_second_derivatives_are_right_or_refused_in_words(name: str, backend: str) -> None:
    """Tests a gradient penalty against finite differences. `once_differentiable` refuses only where the incoming
    gradient needs one; here that is a constant, and the result would be wrong without an error."""
    model = build(name, dtype=torch.float64, backend=backend)
    x = picture(name, 1, (2,) * model.ndim, dtype=torch.float64).requires_grad_()
    y = model(x)
    (slope,) = torch.autograd.grad((y * random_like(y)).sum(), x, create_graph=True)
    if backend in ("auto", "chunkwise"):
        with pytest.raises(RuntimeError, match=r"vil_dense::cell .*'parallel'"):
            torch.autograd.grad((slope * random_like(slope)).sum(), x)
        return
    (found,) = torch.autograd.grad((slope * random_like(slope)).sum(), x)
    direction, step, ends = random_like(x), 1e-5, []
    for sign in (1, -1):
        moved = (x + sign * step * direction).detach().requires_grad_()
        y = model(moved)
        (slope,) = torch.autograd.grad((y * random_like(y)).sum(), moved)
        ends.append((slope * random_like(slope)).sum())
    torch.testing.assert_close((found * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-8)


def test_forward_mode_derivatives() -> None:
    """Tests torch.func.jvp, which gets plain operators; dual tensors outside of torch.func are refused."""
    model = build("v2", dtype=torch.float64)
    x = picture(batch=1, grid=(2, 2), dtype=torch.float64)
    _, found = jvp(model, (x,), (random_like(x),))
    with torch.no_grad():
        ends = [model(x + step * random_like(x)) for step in (1e-6, -1e-6)]
    assert_close(found, (ends[0] - ends[1]) / 2e-6, 1e-6)
    with dual_level(), pytest.raises(NotImplementedError, match="forward mode AD"):
        model(make_dual(x, random_like(x)))
