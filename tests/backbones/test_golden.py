"""Runs every case of the folder named by VIL_DENSE_GOLDEN from its JSON alone: values of the official code."""

import pytest
import torch
import torch.nn.functional as F
from golden_cases import FOLDER, NAMES, REASON, assert_near, build, names, part, read
from mlstm_cases import BACKENDS_FLOAT64, EVERY_BACKEND, hidden_states

from vil_dense.backbones import VisionLSTM
from vil_dense.backbones.checkpoint import infer_options, layout_of, load_weights, to_own


def run(model: VisionLSTM, x: torch.Tensor, blocks: dict[int, torch.Tensor]) -> torch.Tensor:
    """Returns the output; `blocks` collects the output of each block, as tokens (B, S, C)."""
    hooks = [
        block.register_forward_hook(lambda _m, _i, out, index=index: blocks.__setitem__(index, out.flatten(1, -2)))
        for index, block in enumerate(model.blocks)
    ]
    output = model(x)
    for hook in hooks:
        hook.remove()
    return output.movedim(-1, 1) if output.ndim > 2 else output


def as_official(output: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Returns features as the case stores them: maps, or tokens (B, S, C)."""
    return output if output.shape == expected.shape else output.flatten(2).mT


@names("v1_", "v2_", "dir_", "pool_")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_model(name: str, dtype: torch.dtype) -> None:
    meta, tensors = read(name)
    state = part(tensors, "state.")
    model, layout, direction = build(meta, state)
    model = model.to(dtype).eval()
    x = tensors["input"].to(dtype).requires_grad_()
    blocks: dict[int, torch.Tensor] = {}
    output = as_official(run(model, x, blocks), tensors["output"])
    assert_near(output, tensors["output"], 2e-5, "output")
    per_block = 2 if layout == "v2" else 1
    for key, expected in tensors.items():
        kind, _, index = key.partition(".")
        if kind == "block":
            assert_near(blocks[(int(index) + 1) * per_block - 1], expected, 2e-5, key)
        elif kind == "subblock":
            assert_near(blocks[int(index)], expected, 2e-5, key)
    if "patch_embed" in tensors:
        embedded = model.patch_embed(x)
        assert_near(embedded, tensors["patch_embed"], 2e-5, "patch_embed")
        assert_near(model.pos_embed(embedded), tensors["pos_embedded"], 2e-5, "pos_embedded")
    if "cotangent" not in tensors:
        return

    loss = (output * tensors["cotangent"].to(dtype)).sum()
    if "loss" in tensors:
        scale = (tensors["output"] * tensors["cotangent"]).abs().sum().item()
        assert abs(loss.item() - tensors["loss"].item()) <= 2e-5 * scale
    loss.backward()
    error = meta.get("official_f32_vs_f64_relmax", {})
    for key, expected in part(tensors, "grad.").items():
        bound = max(2e-4, 10 * error.get(f"grad.{key}", 0.0))
        if key == "input":
            assert_near(x.grad, expected, bound, "grad.input")
            continue
        # A gradient moves as the weights do, without the norms' offset.
        moved = to_own({key: expected}, direction=direction, layout=layout)
        offset = to_own({key: torch.zeros_like(expected)}, direction=direction, layout=layout)
        for ours, value in moved.items():
            assert_near(model.get_parameter(ours).grad, value - offset[ours], bound, f"grad.{key}")


@names("ckpt_")
@pytest.mark.parametrize("kind", ["raw", "state"])
def test_checkpoint_layout(name: str, kind: str) -> None:
    _, tensors = read(name)
    state = part(tensors, f"{kind}.")
    own = to_own(state)
    options = infer_options(own)
    expected = tensors["output_training_code" if kind == "raw" and "output_training_code" in tensors else "output"]
    if layout_of(state) == "v2":
        options.update(post_norm_eps=1e-6, head_norm_eps=1e-5)
    model = VisionLSTM(**options).double().eval()
    report = load_weights(model, own)
    assert report.startswith(f"{len(model.state_dict())} of {len(state)} tensors")
    assert_near(model(tensors["input"].double()), expected, 2e-5, "output")


@names("cell_")
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_cell(name: str, backend: str) -> None:
    meta, tensors = read(name)
    bounds = {torch.float64: 1e-6, torch.float32: 1e-3 if "extreme" in name else 1e-5}
    if backend not in BACKENDS_FLOAT64:
        del bounds[torch.float64]
    for dtype, bound in bounds.items():
        inputs = {key: tensors[key].to(dtype).requires_grad_() for key in "qkvif"}
        h = hidden_states(list(inputs.values()), backend, eps=meta.get("eps", 1e-6))
        (h * tensors["cotangent"].to(dtype)).sum().backward()
        for key, x in inputs.items():
            assert x.grad.isfinite().all(), f"gradient of {key} in {dtype}"
        assert h.isfinite().all()
        if "nan" in name and dtype == torch.float32:
            continue
        assert_near(h, tensors["h_f64"], bound, f"h in {dtype}")
        if dtype == torch.float64:
            for key, expected in part(tensors, "grad_f64.").items():
                assert_near(inputs[key].grad, expected, bound, f"gradient of {key}")


@names("dyn_")
def test_training_dynamics(name: str) -> None:
    """Compares with the official model's losses over AdamW steps: gradients, groups and clipping at once."""
    meta, tensors = read(name)
    model, layout, direction = build(meta, part(tensors, "state."))
    model = model.double().train()
    decayed = [p for key, p in model.named_parameters() if p.ndim > 1 and key != "pos_embed.embed"]
    rest = [p for key, p in model.named_parameters() if p.ndim <= 1 or key == "pos_embed.embed"]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=0.05), dict(params=rest, weight_decay=0.0)], lr=1e-3, betas=(0.9, 0.999)
    )
    x, target = tensors["input"].double(), tensors["target"].double()
    for step, expected in enumerate(tensors["losses"].double().tolist()):
        loss = -(target * F.log_softmax(model(x), dim=-1)).sum(-1).mean()
        assert loss.item() == pytest.approx(expected, abs=1e-8 if step < 10 else 1e-6), f"step {step}"
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert norm.item() == pytest.approx(tensors["grad_norms"][step].item(), rel=1e-6), f"step {step}"
        optimizer.step()
    for key, expected in to_own(part(tensors, "final."), direction=direction, layout=layout).items():
        assert_near(model.get_parameter(key).detach(), expected, 1e-6, key)


def test_the_folder_is_not_empty() -> None:
    if not FOLDER.is_dir():
        pytest.skip(REASON)
    assert NAMES, f"no case in {FOLDER}"
