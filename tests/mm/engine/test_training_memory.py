"""Tests that what a training step takes is counted before it is taken, and what would make it smaller."""

import math
import re
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from config_files import BY_NAME
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from refusals import assert_one_line
from small_runs import NETWORK, build_run, data_options
from volume_plans import small_plan

from vil_dense.cost.memory import GIB, LiveMemory
from vil_dense.mm.engine import training_memory
from vil_dense.mm.engine.failures import RunFault, explain_failures
from vil_dense.mm.engine.resolve.config import resolve_norm
from vil_dense.mm.engine.training_memory import (
    Step,
    describe_training_memory,
    describe_training_time,
    estimate_training,
    own_step,
    smaller_steps,
)
from vil_dense.synthetic.scenes import write_sample

ROOT = Path(__file__).parents[3]


def upernet(**options) -> Runner:
    """Returns as much of a runner as is looked at."""
    cfg = Config.fromfile(ROOT / "configs/vil_upernet_sample.py")
    cfg.merge_from_dict({**NETWORK, **options})
    resolve_norm(cfg, 1, cuda=False)
    loader = Namespace(batch_size=cfg.train_dataloader.batch_size)
    return Namespace(model=MODELS.build(cfg.model), train_dataloader=loader, optim_wrapper=cfg.optim_wrapper)


@pytest.fixture
def quick_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts a step by a formula, for tests of what is made of the number: the real count takes a second."""

    def activations(model: torch.nn.Module, step: Step, autocast: torch.dtype | None) -> int:
        return 1_000 * step.batch * math.prod(step.size) // (1 + step.with_cp)

    monkeypatch.setattr(training_memory, "_activations", activations)


def test_counted_as_a_step_is_and_the_model_is_left_alone():
    """Tests the activations of the same step of five bands with numbers; the gradients, not counted, exist before."""
    run = upernet(**{"train_dataloader.batch_size": 2, "model.backbone.in_channels": 5})
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    expected = estimate_training(run)
    torch.testing.assert_close(run.model.state_dict(), before, rtol=0, atol=0)
    assert own_step(run) == Step(2, (128, 128), False)
    assert all(parameter.grad is None for parameter in run.model.parameters())
    weights = sum(parameter.nbytes for parameter in run.model.parameters())
    assert expected.states == 2 * weights and weights <= expected.weights < 1.01 * weights
    for parameter in run.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with LiveMemory() as memory:
        training_memory._loss(run.model.train(), Step(2, (128, 128), False)).backward()
    assert expected.activations == int(memory.resident) and expected.gradients == weights
    assert str(expected).startswith(f"about {expected.total / GIB:.2f} GiB (weights 0.00, ")


@pytest.mark.parametrize(("as_views", "copies"), [(False, 1), (True, 0)])
def test_ddp_has_a_copy_of_the_gradients(as_views: bool, copies: int, tmp_path: Path, quick_count: None):
    run = upernet()
    alone = estimate_training(run)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        run.model = MMDistributedDataParallel(run.model, gradient_as_bucket_view=as_views)
        found = estimate_training(run)
    finally:
        torch.distributed.destroy_process_group()
    assert found == alone._replace(buckets=copies * sum(parameter.nbytes for parameter in run.model.parameters()))
    assert ("buckets 0.00" in str(found)) == bool(copies) and "buckets" not in str(alone)


@pytest.mark.slow
def test_scaled_by_batch_and_size():
    run = upernet()
    whole = estimate_training(run, Step(8, (128, 128), False)).activations
    assert 2 * whole < estimate_training(run, Step(32, (128, 128), False)).activations <= 4.001 * whole
    assert estimate_training(run, Step(2, (256, 256), False)).activations == pytest.approx(whole, rel=0.1)


@pytest.mark.slow
def test_mixed_precision_and_recomputing_take_less():
    step = Step(8, (128, 128), False)
    whole = estimate_training(upernet(), step)
    assert estimate_training(upernet(), step._replace(with_cp=True)).activations < whole.activations
    mixed = upernet(**{"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.dtype": "bfloat16"})
    assert estimate_training(mixed, step).activations < 0.9 * whole.activations


def test_what_is_smaller():
    assert smaller_steps(upernet()) == [
        ("model.backbone.with_cp=True, which takes longer", Step(8, (128, 128), True)),
        (
            "train_dataloader.batch_size=4 (optim_wrapper.accumulative_counts=2 keeps the pictures of an update)",
            Step(4, (128, 128), False),
        ),
        ("crops of 96 x 96", Step(8, (96, 96), False)),
    ]
    least = upernet(**{"train_dataloader.batch_size": 1, "model.backbone.with_cp": True})
    least.model.data_preprocessor.size = (32, 32)
    assert smaller_steps(least) == []


def test_the_log_warns_where_there_is_not_as_much(monkeypatch: pytest.MonkeyPatch, quick_count: None):
    run = upernet()
    monkeypatch.setattr(training_memory, "free_memory", lambda device: 64 * GIB)
    (line,) = describe_training_memory(run)
    assert_one_line(line, "8 x 128 x 128", " 0.")
    monkeypatch.setattr(training_memory, "free_memory", lambda device: GIB // 100)
    _, warning = describe_training_memory(run)
    found = re.findall(r"(?:: |; )([^;]*?): ([\d.]+) GiB", warning)
    assert_one_line(warning, "0.01 GiB")
    assert len(found) == 3
    assert [float(total) for _, total in found] == sorted(float(total) for _, total in found)


HEAD = dict(num_classes=6, norm_cfg=dict(type="GN", num_groups=1), channels=16)
CASCADE = [
    dict(HEAD, type="FCNHead", in_channels=32, num_convs=1, in_index=0),
    dict(HEAD, type="OCRHead", in_channels=32, ocr_channels=8, in_index=0),
]


@pytest.mark.slow
def test_a_head_of_two_outputs_and_a_cascade():
    run = upernet()
    plain = estimate_training(run).activations
    common = dict(HEAD, in_channels=[32] * 4, in_index=[0, 1, 2, 3])
    run.model.decode_head = MODELS.build(dict(common, type="EncHead", num_codes=4))
    assert 0 < estimate_training(run).activations < plain
    cfg = Config.fromfile(ROOT / "configs/vil_upernet_sample.py")
    cfg.merge_from_dict(NETWORK)
    resolve_norm(cfg, 1, cuda=False)
    cfg.model.update(type="CascadeEncoderDecoder", num_stages=2, decode_head=CASCADE)
    run.model = MODELS.build(cfg.model)
    both = estimate_training(run).activations
    run.model.decode_head = run.model.decode_head[:1]
    assert 0 < estimate_training(run).activations < both


def test_what_cannot_be_estimated_stops_nothing(tmp_path: Path):
    run = upernet()
    run.model.decode_head.forward = lambda features: dict(masks=features)
    assert describe_training_memory(run) == ["memory: not estimated, KeyError: 0"]
    with (
        pytest.raises(RunFault, match=r"^out of memory \(.*allocate[^\n]*$"),
        explain_failures(run),
    ):
        torch.empty(2**58)


def test_another_model_has_no_estimate():
    run = Namespace(model=torch.nn.Linear(2, 2), train_dataloader=Namespace(batch_size=2))
    assert own_step(run) is None and smaller_steps(run) == []


@pytest.mark.parametrize("name", ["dynunet", "segresnet"])
def test_the_peers_of_ours(name: str):
    """Counts the step of MONAI's DynUNet, which holds some of its modules, so their weights, twice."""
    cfg = Config.fromfile(BY_NAME[f"{name}_2k_hippocampus-equal"])
    init_default_scope("mmengine")
    model = MODELS.build(cfg.model)
    run = Namespace(model=model, train_dataloader=Namespace(batch_size=1), optim_wrapper=cfg.optim_wrapper)
    assert estimate_training(run, Step(1, (16, 16, 16), False)).activations > 0


def test_out_of_memory_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_count: None):
    write_sample(tmp_path / "sample", train=2, val=1)
    data = data_options(tmp_path / "sample", ("train", "val"))
    monkeypatch.setattr("vil_dense.mm.engine.runner.describe_training_memory", describe_training_memory)
    run = build_run(tmp_path / "work", NETWORK | data)
    run.model.register_forward_pre_hook(lambda module, args: torch.empty(2**58))
    with pytest.raises(RunFault) as end, explain_failures(run):
        run.train()
    said = str(end.value)
    names = ("out of memory", "allocate", "8 x 128 x 128", " GiB", "with_cp=True", "batch_size=4", "96 x 96")
    assert_one_line(said, *names)
    log = next((tmp_path / "work").glob("*/*.log")).read_text()
    assert "memory: a step of 8 x 128 x 128 takes about " in log


def test_volumes():
    from vil_dense.medical.data.plan_sizes import step_cost
    from vil_dense.mm.volumes import VolumeSegmentor

    plan = small_plan("liver", patch_vox=(16, 16, 16))
    model = VolumeSegmentor(plan, dict(type="ViLUNet3D", channels=(4, 8), depths=(0, 1), deep_supervision=1))
    optimizer = dict(type="OptimWrapper", optimizer=dict(type="SGD"))
    run = Namespace(model=model, train_dataloader=Namespace(batch_size=2), optim_wrapper=optimizer)
    one, two = (estimate_training(run, Step(batch, (16, 16, 16), False)).activations for batch in (1, 2))
    assert own_step(run) == Step(2, (16, 16, 16), False) and two == pytest.approx(2 * one, rel=0.1)
    assert smaller_steps(run) == [
        (
            "train_dataloader.batch_size=1 (optim_wrapper.accumulative_counts=2 keeps the pictures of an update)",
            Step(1, (16, 16, 16), False),
        ),
        ("a planned patch_vox of 8 x 8 x 8", Step(2, (8, 8, 8), False)),
    ]
    run.max_iters = 3600
    assert re.fullmatch(
        r"time: about [\d.e+-]+ CPU s a step, [\d.e+-]+ CPU h for 3600 steps", describe_training_time(run)
    )
    run.optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW"))
    options = dict(channels=(4, 8), depths=(0, 1), deep_supervision=1)
    planned = step_cost(dict(plan, network=options), timed=False)
    assert planned.gib(2) == pytest.approx(estimate_training(run).total / GIB, rel=1e-6), "a plan says the same"


@pytest.mark.parametrize("name", ["vil_imagenet", "vil2-8x96_mae_sample"])
def test_classes_and_masked_pictures_have_the_size_of_the_crop(name: str):
    cfg = Config.fromfile(BY_NAME[name])
    init_default_scope("mmengine")
    cfg.model.get("backbone", cfg.model).update(dim=16, depth=2)
    dataset = Namespace(pipeline=Compose([dict(type="RandomResizedCrop", size=32)]))
    loader = Namespace(batch_size=4, dataset=dataset)
    run = Namespace(model=MODELS.build(cfg.model), train_dataloader=loader, optim_wrapper=cfg.optim_wrapper)
    assert own_step(run) == Step(4, (32, 32), False) and estimate_training(run).activations > 0
