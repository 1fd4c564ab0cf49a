"""Tests a whole UperNet of mmsegmentation, built as the configs do: compiled, exported, and run by MMEngine."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from forget_runs import forget_runs
from small_models import assert_close, assert_same, random_like
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.export import Dim

pytest.importorskip("mmseg", reason="mmsegmentation is not installed")
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import vil_dense.mm  # noqa: F401

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
        "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning",
    ),
]
DIM, CLASSES = 32, 5


@pytest.fixture(autouse=True)
def fresh() -> Any:
    init_default_scope("mmseg")
    torch._dynamo.reset()
    yield
    forget_runs()


def settings() -> dict:
    """Returns the model of configs/_base_/models/vil_upernet.py, small."""
    model = Config.fromfile(ROOT / "configs/_base_/models/vil_upernet.py").model.to_dict()
    norm = dict(type="BN", requires_grad=True)
    model.update(neck=None, auxiliary_head=None, test_cfg=dict(mode="whole"))
    model["data_preprocessor"]["size"] = (32, 32)
    model["data_preprocessor"]["test_cfg"] = None
    model["backbone"].update(dim=DIM, depth=4, patch_size=4, grid=(8, 8), out_indices=(0, 1, 2, 3))
    model["decode_head"].update(in_channels=[DIM] * 4, channels=16, num_classes=CLASSES, norm_cfg=norm)
    return model


def build() -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(settings()).eval()


def picture(batch: int = 2, height: int = 40, width: int = 36) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def labels(batch: int, height: int, width: int) -> list[SegDataSample]:
    generator, samples = torch.Generator().manual_seed(2), []
    for _ in range(batch):
        map_ = torch.randint(0, CLASSES, (1, height, width), generator=generator)
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=map_), metainfo=dict(img_shape=(height, width))))
    return samples


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_forward_compiled_whole(backend: str) -> None:
    model, x = build(), picture()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, dynamic=False, backend=backend)
    with torch.no_grad():
        assert_close(compiled(x), model(x))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_training_step_of_the_compiled_parts(backend: str) -> None:
    """Tests outputs and gradients where `Module.compile` compiles the backbone and the head, each as one graph. The
    loss calls the head's `forward` and not the module: `test_loss_compiled_whole` compiles that."""
    model, x = build().double().train(), picture().double()
    other = copy.deepcopy(model)
    other.backbone.compile(fullgraph=True, dynamic=False, backend=backend)
    other.decode_head.compile(fullgraph=True, dynamic=False, backend=backend)
    y, found = model(x), other(x)
    assert_close(found, y)
    expected = gradients(model, (y * random_like(y)).sum())
    assert_same(gradients(other, (found * random_like(y)).sum()), expected, 1e-6)


def test_loss_compiled_whole() -> None:
    model, x, samples = build().double().train(), picture().double(), labels(2, 40, 36)
    other = copy.deepcopy(model)
    loss = torch.compile(other.loss, fullgraph=True, dynamic=False, backend="aot_eager")(x, samples)["decode.loss_ce"]
    expected = model.loss(x, samples)["decode.loss_ce"]
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    assert_same(gradients(other, loss), gradients(model, expected), 1e-3)


@pytest.mark.parametrize("size", [(40, 36), (32, 52)], ids=str)
def test_export(size: tuple[int, int]) -> None:
    """Tests a dynamic batch at each of two sizes."""
    model = build()
    program = torch.export.export(
        model, (picture(2, *size),), dict(mode="tensor"), dynamic_shapes=dict(inputs={0: Dim.AUTO}, mode=None)
    )
    x = picture(3, *size)
    with torch.no_grad():
        assert_close(program.module()(x, mode="tensor"), model(x))


def run(folder: Path, compile: bool | dict) -> tuple[dict[str, Tensor], nn.Module]:
    """Runs three steps of a Runner from the same weights."""
    samples = [dict(inputs=picture(1)[0] * 50 + 100, data_samples=labels(1, 40, 36)[0]) for _ in range(6)]
    model = settings()
    model["data_preprocessor"]["size"] = (40, 36)
    torch.manual_seed(0)
    runner = Runner(
        model,
        str(folder),
        train_dataloader=dict(
            dataset=samples, batch_size=2, sampler=dict(type="InfiniteSampler", shuffle=False),
            collate_fn=dict(type="pseudo_collate"),
        ),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=3),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        default_hooks=dict(checkpoint=None, logger=None),
        cfg=dict(compile=compile),
        default_scope="mmseg",
        experiment_name=f"run{bool(compile)}",
        randomness=dict(seed=0),
    )  # fmt: skip
    runner.train()
    weights = {name.replace("_orig_mod.", ""): weight.detach() for name, weight in runner.model.state_dict().items()}
    return weights, runner.model


def test_mmengine_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests `compile` of MMEngine's config, which compiles `train_step` and the other entries of the model."""
    monkeypatch.setattr(Runner, "_log_env", lambda self, env_cfg: None)
    expected, _ = run(tmp_path / "eager", False)
    forget_runs()
    init_default_scope("mmseg")
    counters.clear()
    found, _ = run(tmp_path / "compiled", dict(backend="aot_eager"))
    assert counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)  # some weights hardly move from 0
    start = MODELS.build(settings()).state_dict()["decode_head.conv_seg.bias"]
    assert (expected["decode_head.conv_seg.bias"] - start).abs().max() > 1e-4, "nothing was trained"
