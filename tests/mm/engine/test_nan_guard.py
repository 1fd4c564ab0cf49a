"""Tests steps whose numbers are not finite: traced, written down, left out or the end; accuracies of nothing."""

import json
import math
from pathlib import Path

import pytest
import torch
from config_files import EXPERIMENTS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from refusals import raises_one_line
from run_torchrun import run_torchrun
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vil_dense.mm.engine.failures import RunFault
from vil_dense.mm.engine.hooks.nan_guard import LabelledAccuracyHook, NaNGuardHook, loss_scale
from vil_dense.mm.utils.safe_load import load_safely

BAD = 9.0
"""A picture of this value brings the network below to NaN."""


class Net(BaseModel):
    """Has BatchNorm, so that a step leaves statistics, and noise, which the repetition has to draw again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 1)
        self.noises: list[Tensor] = []

    def forward(self, inputs: Tensor, img_path: list[str], mode: str) -> dict[str, Tensor]:
        self.noises.append(1e-3 * torch.randn_like(inputs))
        y = self.head(self.stem(inputs + self.noises[-1]))
        return dict(loss=(y * torch.nan if (inputs == BAD).any() else y).square().mean())


def pictures(*bad: int, count: int = 12) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    return [
        dict(inputs=torch.full((3,), BAD) if index in bad else torch.randn(3, generator=generator), img_path=f"{index}")
        for index in range(count)
    ]


def runner(
    work_dir: Path,
    *bad: int,
    hook: NaNGuardHook | None = None,
    updates: int = 1,
    steps: int = 6,
    schedule: dict | None = None,
    start: Path | None = None,
) -> Runner:
    """Returns a runner of six steps of two pictures; pictures `bad` are not finite in the network."""
    torch.manual_seed(0)
    loader = DataLoader(pictures(*bad), batch_size=2)
    return Runner(
        Net(),
        str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=steps),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01), accumulative_counts=updates),
        param_scheduler=schedule,
        default_hooks=dict(
            checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1),
            logger=dict(type="LoggerHook", interval=1),
            watch=hook or NaNGuardHook(),
        ),
        custom_hooks=[dict(type="StepSeedHook")],
        log_processor=dict(by_epoch=False, window_size=1),
        randomness=dict(seed=0),
        load_from=start and str(start),
        resume=start is not None,
        experiment_name=f"{work_dir.name}_{start is not None}",
    )


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pth"))


def test_the_run_ends_with_the_last_good_checkpoint(tmp_path: Path):
    run = runner(tmp_path, 5)
    with pytest.raises(RunFault) as end:
        run.train()
    assert str(end.value) == (
        "step 3: the loss is nan, first in the output of Net; "
        f"files of the batch: {tmp_path / 'faults/step_3.json'}; the last good checkpoint: {tmp_path / 'iter_2.pth'}; "
        "a lower learning rate, clip_grad or bfloat16 in place of float16 may help"
    )
    (report,) = json.loads((tmp_path / "faults/step_3.json").read_text())
    assert report["files"] == ["4", "5"] and report["step"] == 3 and report["loss"] == "nan"
    torch.testing.assert_close(run.model.noises[3], run.model.noises[2], rtol=0, atol=0)  # the step and its repetition
    assert checkpoints(tmp_path) == ["iter_1.pth", "iter_2.pth"]
    last = load_safely(str(tmp_path / "iter_2.pth"))["state_dict"]
    for name, value in run.model.named_parameters():
        torch.testing.assert_close(value.detach(), last[name], rtol=0, atol=0)


def test_a_step_that_is_left_out_changes_nothing(tmp_path: Path):
    run = runner(tmp_path, 5, hook=NaNGuardHook(max_skipped=1))
    run.train()
    assert checkpoints(tmp_path) == [f"iter_{step}.pth" for step in range(1, 7)]
    before, after, later = (load_safely(str(tmp_path / f"iter_{step}.pth"))["state_dict"] for step in (2, 3, 6))
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert not torch.equal(later["head.weight"], before["head.weight"]), "the run must go on"
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert "numbers: step 3: the loss is nan, first in the output of Net; " in log
    assert log.count("the step is skipped, 1 in a row of at most 1") == 1


def test_two_in_a_row_are_one_too_many(tmp_path: Path):
    run = runner(tmp_path, 1, 5, 7, hook=NaNGuardHook(max_skipped=1))
    with raises_one_line(RunFault, "step 4", "nan"):
        run.train()
    assert sorted(path.name for path in (tmp_path / "faults").iterdir()) == [f"step_{step}.json" for step in (1, 3, 4)]


def test_a_row_goes_on_where_the_run_does(tmp_path: Path):
    with pytest.raises(RunFault):
        runner(tmp_path, 5, 7, hook=NaNGuardHook(max_skipped=1)).train()
    (tmp_path / "faults/step_4.json").unlink()
    with raises_one_line(RunFault, "step 4", "nan"):
        runner(tmp_path, 5, 7, hook=NaNGuardHook(max_skipped=1), start=tmp_path / "iter_3.pth").train()


def test_of_several_batches_of_an_update_the_bad_one_is_written_down(tmp_path: Path):
    run = runner(tmp_path, 5, updates=2)
    with raises_one_line(RunFault, "step 4", "nan"):
        run.train()
    (report,) = json.loads((tmp_path / "faults/step_4.json").read_text())
    assert report["files"] == ["4", "5"]


def test_a_gradient_alone_is_a_fault(tmp_path: Path):
    run = runner(tmp_path)
    # The square root of nothing: 0, with an infinite slope.
    run.model.head.register_forward_hook(lambda module, args, y: y + (y * 0).abs().sqrt())
    with raises_one_line(RunFault, "step 1", "gradient"):
        run.train()
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize("value", [1.0, math.inf])
def test_an_empty_part_of_a_sharded_weight_hides_nothing(value: float):
    hook, network = NaNGuardHook(), nn.ParameterList([torch.zeros(0), torch.zeros(2)])
    for weight in network:
        weight.grad = torch.full_like(weight, value)
    hook.model, hook.losses = network, [torch.zeros(())]
    assert hook._check() == (False, not math.isfinite(value))
    network[1].grad = None
    assert hook._check() == (False, False)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path):
    run = runner(tmp_path, steps=3)

    def spoil(optimizer, args, kwargs) -> None:
        if run.iter == 1:
            run.model.head.bias.data.fill_(math.inf)

    run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
    run.optim_wrapper.optimizer.register_step_post_hook(spoil)
    with raises_one_line(RunFault, "head.bias"):
        run.train()
    assert checkpoints(tmp_path) == ["iter_1.pth"]


def test_healthy_steps_are_those_of_a_run_that_is_not_watched(tmp_path: Path):
    class Blind(NaNGuardHook):
        def before_train(self, runner: Runner) -> None:
            """Wraps nothing."""

    states = []
    for name, hook in (("seen", NaNGuardHook(max_skipped=2)), ("blind", Blind())):
        runner(tmp_path / name, hook=hook, schedule=dict(type="PolyLR", by_epoch=False, end=6)).train()
        states.append(load_safely(str(tmp_path / name / "iter_6.pth"))["state_dict"])
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_loss_scaling_is_left_to_the_scaler_down_to_one(tmp_path: Path):
    run = runner(tmp_path, steps=4)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    wrapper = run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
    wrapper.loss_scaler, wrapper._scale_update_param = scaler, None
    assert loss_scale(wrapper) == (4.0, True)
    wrapper.backward = lambda loss: scaler.scale(loss).backward()  # as in AmpOptimWrapper, which needs a GPU
    wrapper.step = lambda: (scaler.step(wrapper.optimizer), scaler.update())
    run.model.head.register_forward_hook(lambda module, args, y: y + (y * 0).abs().sqrt())
    before = [parameter.detach().clone() for parameter in run.model.parameters()]
    with raises_one_line(RunFault, "step 3", "gradient"):
        run.train()
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert [f"the gradient overflowed at the loss scale {scale}: skipped" in log for scale in (4, 2, 1)] == [
        True, True, False
    ]  # fmt: skip
    torch.testing.assert_close([parameter.detach() for parameter in run.model.parameters()], before, rtol=0, atol=0)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_config_watches_and_stops_at_once(path: Path):
    hooks = Config.fromfile(path).default_hooks
    assert hooks.watch == dict(type="NaNGuardHook", max_skipped=0) and hooks.stop == dict(type="PreemptionHook")


class Head(nn.Module):
    ignore_index = 255


@pytest.mark.parametrize("head", [Head(), nn.ModuleList([nn.Identity(), Head()])], ids=["one", "cascade"])
@pytest.mark.parametrize(("label", "accuracy", "logged"), [(255, 100.0, math.nan), (3, 100.0, 100.0), (3, 40.0, 40.0)])
def test_nothing_labelled_is_not_accuracy_100(label: int, accuracy: float, logged: float, head: nn.Module):
    ignored, other = torch.full((1, 4, 4), 255), torch.full((1, 4, 4), 255)
    other[0, 3, 2] = label
    samples = [SegDataSample(gt_sem_seg=PixelData(data=data)) for data in (ignored, other)]
    run = type("Run", (), dict(model=nn.Module()))()
    run.model.decode_head = head
    outputs = {"decode.acc_seg": torch.tensor(accuracy), "loss": torch.tensor(1.0)}
    LabelledAccuracyHook().after_train_iter(run, 0, dict(data_samples=samples), outputs)
    torch.testing.assert_close(outputs["decode.acc_seg"], torch.tensor(logged), equal_nan=True)
    assert outputs["loss"] == 1


TWO = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
import torch
from mmengine.dist import get_rank
from torch import distributed
from mmengine.model import MMDistributedDataParallel
from test_nan_guard import NaNGuardHook, runner
from vil_dense.mm.engine.failures import RunFault
distributed.init_process_group("gloo")
bad = (5, 9, 11) if get_rank() == 1 else ()
run = runner(Path({folder!r}), *bad, hook=NaNGuardHook(max_skipped=1))
run.model = MMDistributedDataParallel(run.model, device_ids=None, broadcast_buffers=False)
try:
    run.train()
except RunFault as error:
    print(f"process {{get_rank()}}: {{error}}", flush=True)
torch.save([p.detach() for p in run.model.parameters()], f"{folder}/{{get_rank()}}.pt")
"""


@pytest.mark.slow
def test_two_processes_decide_alike(tmp_path: Path):
    """Spoils numbers of the second process alone: both leave the step out, both end, with the same weights."""
    script = tmp_path / "two.py"
    script.write_text(TWO.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    done = run_torchrun(script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the step is skipped, 1 in a row of at most 1") == 2
    for process in (0, 1):
        assert f"process {process}: step 6: 2 times in a row the loss is nan, first in the output of Net" in done.stdout
    (report,) = json.loads((tmp_path / "faults/step_3.json").read_text())
    assert report["process"] == 1 and report["files"] == ["4", "5"]
    weights = [torch.load(tmp_path / f"{process}.pt", weights_only=True) for process in (0, 1)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
