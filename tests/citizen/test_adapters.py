"""Adapters by module replacement and by peft: they change the output and train, and their base does not."""

import copy
import warnings

import pytest
import torch
from small_models import assert_close, build, cell_of, picture, random_like
from torch import Tensor, nn

MAPS = ("proj_up", "proj_down", "q_proj", "k_proj", "v_proj")


class LoRA(nn.Module):
    """Adds the trained product of two narrow maps to a frozen map."""

    def __init__(self, base: nn.Module, width_in: int, width_out: int, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(width_in, rank, bias=False)
        self.up = nn.Linear(rank, width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def put_lora(model: nn.Module, parts: tuple[str, ...] = MAPS) -> list[LoRA]:
    """Replaces the maps of every block in place."""
    model.requires_grad_(False)
    found = []
    for block in model.blocks:
        E = block.layer.proj_down.weight.shape[1]
        for part in parts:
            parent = block.layer if part.startswith("proj") else cell_of(block.layer)
            base = getattr(parent, part)
            widths = (E, E) if part[1:] == "_proj" else (base.in_features, base.out_features)
            found.append(LoRA(base, *widths).to(base.weight.dtype))
            setattr(parent, part, found[-1])
    return found


@pytest.mark.parametrize("part", MAPS)
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_an_adapter_by_module_replacement(name: str, part: str) -> None:
    """Tests that only the adapter is trained and, where maps are dense, that merged weights give the same."""
    torch.manual_seed(3)
    merged = build(name, dtype=torch.float64)
    x, plain = picture(name, dtype=torch.float64), merged(picture(name, dtype=torch.float64)).detach()
    model = copy.deepcopy(merged)
    adapters = put_lora(model, (part,))
    for adapter in adapters:
        nn.init.normal_(adapter.up.weight)
    y = model(x)
    assert (y - plain).abs().max() > 1e-3, "without effect"
    if part.startswith("proj"):
        with torch.no_grad():
            for block, adapter in zip(merged.blocks, adapters, strict=True):
                getattr(block.layer, part).weight += adapter.up.weight @ adapter.down.weight
        assert_close(y, merged(x), 1e-9)
    y.square().sum().backward()
    trained = {key for key, weight in model.named_parameters() if weight.grad is not None}
    assert trained == {key for key, weight in model.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * len(adapters)
    for adapter in adapters:
        assert adapter.up.weight.grad.abs().max() > 0 and adapter.down.weight.grad.abs().max() > 0


def test_an_adapter_on_all_maps_has_the_gradients_of_finite_differences() -> None:
    model, x = build("v2", dtype=torch.float64), picture(batch=1, dtype=torch.float64)
    adapters = put_lora(model)
    weights = [adapter.down.weight for adapter in adapters]

    def loss() -> Tensor:
        y = model(x)
        return (y * random_like(y)).sum()

    found = torch.autograd.grad(loss(), weights)
    direction = [random_like(weight) for weight in weights]
    ends = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for weight, part in zip(weights, direction, strict=True):
                weight += step * part
            ends.append(loss())
    slope = sum((gradient * part).sum() for gradient, part in zip(found, direction, strict=True))
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-6, slope, rtol=1e-5, atol=0)


@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning")
@pytest.mark.parametrize("targets", [["proj_up", "proj_down"], list(MAPS)], ids=["linear", "all"])
def test_peft_lora(targets: list[str]) -> None:
    """Tests peft's LoRA, with a layer class for block-diagonal maps, which peft does not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = pytest.importorskip("peft", reason="peft is missing: pip install peft")
    model, x = build("v2"), picture()
    expected = model(x).detach()
    config = peft.LoraConfig(target_modules=targets, r=2, lora_alpha=2, init_lora_weights=False)
    kind = type(cell_of(model.blocks[0].layer).q_proj)
    config._register_custom_module({kind: peft_lora(peft)})
    adapted = peft.get_peft_model(model, config)
    y = adapted(x)
    assert (y - expected).abs().max() > 1e-3, "without effect"
    with adapted.disable_adapter():
        assert_close(adapted(x), expected)
    y.square().sum().backward()
    trained = {name for name, weight in adapted.named_parameters() if weight.grad is not None}
    assert len(trained) == 2 * len(targets) * 2 and all("lora_" in name for name in trained)
    if len(targets) == 2:
        assert_close(adapted.merge_and_unload()(x), y.detach())


def peft_lora(peft: object) -> type[nn.Module]:
    """Returns a LoRA layer of peft for a map of E channels to E channels that is no nn.Linear."""

    class MapLora(nn.Module, peft.tuners.lora.LoraLayer):
        def __init__(self, base_layer: nn.Module, adapter_name: str, config: object, r: int = 0, **options: object):
            super().__init__()
            E = base_layer.in_features
            peft.tuners.lora.LoraLayer.__init__(self, base_layer, in_features=E, out_features=E)
            self.lora_A[adapter_name] = nn.Linear(E, r, bias=False)
            self.lora_B[adapter_name] = nn.Linear(r, E, bias=False)
            self.scaling[adapter_name] = 1.0
            self.set_adapter(self.active_adapters)

        def forward(self, x: Tensor) -> Tensor:
            y = self.base_layer(x)
            if self.disable_adapters:
                return y
            return y + self.lora_B["default"](self.lora_A["default"](x))

    return MapLora
