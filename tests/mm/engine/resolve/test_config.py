"""Tests what the run decides where a config leaves it open: norm, warm-up, precision."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from refusals import assert_one_line

from vil_dense.mm.engine.resolve.config import (
    choose_norm,
    describe_neck,
    describe_start,
    group_norm,
    resolve_amp,
    resolve_classes,
    resolve_compile,
    resolve_deterministic,
    resolve_loaders,
    resolve_log_interval,
    resolve_norm,
    resolve_warmup,
)

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def precision_restored():
    yield
    torch.set_float32_matmul_precision("highest")


def camvid() -> Config:
    return Config.fromfile(ROOT / "configs/camvid/vil2-t_upernet_1xb4-1200_camvid-256x256.py")


@pytest.mark.parametrize(
    ("world_size", "batch_size", "cuda", "norm"),
    [
        (1, 16, True, "BN"),
        (1, 4, False, "BN"),
        (1, 3, True, "GN"),
        (1, 1, False, "GN"),
        (8, 2, True, "SyncBN"),
        (4, 1, True, "SyncBN"),
        (2, 1, True, "GN"),
        (2, 8, False, "GN"),
    ],
)
def test_norm_follows_the_pictures_it_sees(world_size: int, batch_size: int, cuda: bool, norm: str):
    assert choose_norm(world_size, batch_size, [192, 64], cuda)["type"] == norm


@pytest.mark.parametrize("widths", [[192, 64], [384], [32, 16], [96, 64], [50]])
def test_groups_hold_two_channels_or_more(widths: list[int]):
    groups = group_norm(widths)["num_groups"]
    assert groups <= 32 and all(width % groups == 0 and width // groups >= 2 for width in widths)


def test_norm_is_set_everywhere_and_said():
    cfg = camvid()
    line = resolve_norm(cfg, world_size=1, cuda=False)
    assert_one_line(line, "BN", "1 x 4")
    parts = (cfg.model.neck, cfg.model.decode_head, cfg.model.auxiliary_head)
    assert [part.norm_cfg.type for part in parts] == ["BN"] * 3


@pytest.mark.parametrize(("world_size", "cuda", "norm"), [(1, False, "BN"), (2, False, "BN"), (2, True, "SyncBN")])
def test_a_backbone_of_mmseg_has_batch_norms_that_the_machine_has(world_size: int, cuda: bool, norm: str):
    cfg = camvid()
    cfg.model.backbone = dict(type="ResNetV1c", depth=18, norm_cfg=dict(type="SyncBN", requires_grad=True))
    cfg.pop("train_dataloader")  # as in a config that only tests
    resolve_norm(cfg, world_size, cuda)
    assert cfg.model.backbone.norm_cfg == dict(type=norm, requires_grad=True)
    assert cfg.model.decode_head.norm_cfg.type == "GN"


def test_a_norm_that_the_config_names_stays():
    cfg = camvid()
    for part in (cfg.model.neck, cfg.model.decode_head, cfg.model.auxiliary_head):
        part.norm_cfg = dict(type="LN2d")
    assert resolve_norm(cfg, world_size=1, cuda=False) == ""
    assert cfg.model.decode_head.norm_cfg.type == "LN2d"


@pytest.mark.parametrize(("key", "norm"), [("running_mean", "BN"), ("weight", "GN")])
def test_trained_weights_decide(key: str, norm: str):
    cfg = camvid()
    resolve_norm(cfg, world_size=1, cuda=False, weights={f"decode_head.bottleneck.bn.{key}": None})
    assert cfg.model.decode_head.norm_cfg.type == norm


@pytest.mark.parametrize(
    ("patches", "strides"),
    [
        (dict(), "4, 8, 16, 32"),
        (dict(patch_size=8), "2, 4, 8, 16"),
        (dict(patch_size=[16, 16]), "4, 8, 16, 32"),
        (dict(patch_size=16, stride=8), "2, 4, 8, 16"),
    ],
)
def test_strides_of_the_neck_are_said(patches: dict, strides: str):
    cfg = camvid()
    cfg.model.backbone.update(patches)
    assert_one_line(describe_neck(cfg), "Feature2Pyramid", strides)
    cfg.model.neck = None
    assert describe_neck(cfg) == ""


def test_weights_without_a_head_do_not_choose_its_norm():
    cfg = camvid()
    line = resolve_norm(cfg, world_size=1, cuda=False, weights={"backbone.net.pos_embed.embed": None})
    assert_one_line(line, "BN", "1 x 4")


def test_schedules_that_are_no_warmup_stay():
    cfg = camvid()
    cfg.param_scheduler = [dict(type="PolyLR", begin=0, end=1200, by_epoch=False)]
    assert resolve_warmup(cfg) == ""
    assert cfg.param_scheduler[0].end == 1200


def test_a_run_of_three_steps_needs_no_schedule():
    cfg = camvid()
    cfg.train_cfg.max_iters = 3
    assert_one_line(resolve_warmup(cfg), "constant", "3")
    assert cfg.param_scheduler == []


@pytest.mark.parametrize(("steps", "interval"), [(9, 50), (10, 5), (30, 6), (99, 19), (100, 50), (1200, 50)])
def test_a_short_run_logs_a_curve(steps: int, interval: int):
    cfg = camvid()
    cfg.default_hooks.logger.interval, cfg.train_cfg.max_iters = 50, steps
    assert bool(resolve_log_interval(cfg)) == (interval != 50)
    assert cfg.default_hooks.logger.interval == interval


def test_warmup_fits_the_run():
    cfg = camvid()
    assert resolve_warmup(cfg) == ""
    cfg.train_cfg.max_iters = 50
    assert_one_line(resolve_warmup(cfg), "5 steps", "100", "50")
    assert (cfg.param_scheduler[0].end, cfg.param_scheduler[1].begin) == (5, 5)


def test_precision_follows_the_device():
    cfg = camvid()
    assert resolve_amp(cfg, cuda=True) == ""
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    assert resolve_amp(cfg, cuda=False) and cfg.optim_wrapper.type == "OptimWrapper"
    cfg.optim_wrapper.type = "CPUAmpOptimWrapper"
    assert_one_line(resolve_amp(cfg, cuda=False), "bfloat16")
    assert cfg.optim_wrapper.type == "CPUAmpOptimWrapper"
    assert_one_line(resolve_amp(Config(cfg.to_dict()), cuda=True), "bfloat16")
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    assert_one_line(resolve_amp(cfg, cuda=True), "float16", "TF32")
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == ("AmpOptimWrapper", "dynamic")


def imagenet() -> Config:
    return Config.fromfile(ROOT / "configs/vil_imagenet.py")


def test_classes_are_set_where_they_have_to_agree():
    cfg = imagenet()
    cfg.model.num_classes = 7
    assert resolve_classes(cfg) == ""
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    assert [loader.dataset.num_classes for loader in loaders] == [7] * 3


def test_what_is_no_classifier_keeps_its_classes():
    cfg = camvid()
    before = cfg.to_dict()
    assert resolve_classes(cfg) == ""
    assert cfg.to_dict() == before


def test_workers_and_pinned_memory_follow_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(12)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    cfg = imagenet()
    assert_one_line(resolve_loaders(cfg, cuda=False), "6 workers", "8", "6 cores")
    assert [cfg[f"{split}_dataloader"].num_workers for split in ("train", "val", "test")] == [6, 4, 4]
    assert "pin_memory" not in cfg.train_dataloader
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    cfg = imagenet()
    assert resolve_loaders(cfg, cuda=True) == "" and cfg.train_dataloader.pin_memory


@pytest.mark.parametrize(
    ("launcher", "said", "workers"),
    [
        ("slurm", dict(SLURM_NTASKS_PER_NODE="4"), 3),
        ("slurm", dict(SLURM_STEP_TASKS_PER_NODE="4(x2),2", SLURM_NTASKS_PER_NODE="6"), 3),
        ("slurm", dict(SLURM_STEP_TASKS_PER_NODE="4(x2),2", SLURM_NODEID="2"), 6),
        ("slurm", dict(SLURM_STEP_TASKS_PER_NODE="4", SLURM_CPUS_ON_NODE="24"), 6),
        ("slurm", dict(SLURM_STEP_TASKS_PER_NODE="4", SLURM_CPUS_ON_NODE="48"), 8),  # bound to 12 of its own
        ("mpi", dict(OMPI_COMM_WORLD_LOCAL_SIZE="4"), 3),
        ("none", dict(SLURM_NTASKS_PER_NODE="4"), 8),  # one process of a job that could have started more
    ],
)
def test_processes_of_other_launchers_share_the_cores(
    launcher: str, said: dict[str, str], workers: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(12)))
    for name in ("STEP_TASKS_PER_NODE", "NTASKS_PER_NODE", "NODEID", "CPUS_ON_NODE"):  # of a job that runs the tests
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    cfg = imagenet()
    cfg.launcher = launcher
    resolve_loaders(cfg, cuda=True)
    assert cfg.train_dataloader.num_workers == workers


def test_warmup_of_epochs_fits_the_run():
    cfg = imagenet()
    assert resolve_warmup(cfg) == ""
    cfg.train_cfg.max_epochs = 5
    assert_one_line(resolve_warmup(cfg), "0 epochs", "5")
    assert cfg.param_scheduler[0].warmup == 0


def test_bfloat16_needs_no_loss_scaling():
    cfg = imagenet()
    assert resolve_amp(cfg, cuda=True) == "precision: bfloat16, mLSTM in TF32"
    assert cfg.optim_wrapper.loss_scale == 1.0


def test_compiling_is_a_hook():
    for asked in (False, True):
        cfg = imagenet()
        cfg.compile_blocks = asked
        resolve_compile(cfg)
        assert ("CompileHook" in [hook["type"] for hook in cfg.custom_hooks]) is asked
        assert "compile_blocks" not in cfg
    cfg = camvid()
    resolve_compile(cfg)
    assert "CompileHook" not in [hook["type"] for hook in cfg.get("custom_hooks", [])]


def test_a_classifier_s_start_is_said():
    cfg = imagenet()
    assert describe_start(cfg, None) == "start: random weights, none pretrained"
    cfg.model.init_cfg = dict(type="Pretrained", checkpoint="a.pth")
    assert describe_start(cfg, None) == "start: network from a.pth"


@pytest.mark.parametrize("option", [dict(lora=8), dict(freeze_backbone=True)], ids=["lora", "frozen"])
def test_a_frozen_backbone_of_random_weights_is_a_warning(option: dict) -> None:
    cfg = camvid()
    cfg.model.backbone.init_cfg = None
    cfg.merge_from_dict(option)
    assert_one_line(describe_start(cfg, None), "warning: ", "random", *option, "model.backbone.init_cfg")
    assert "warning" not in describe_start(cfg, "a.pth")
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="a.pth")
    assert describe_start(cfg, None) == "start: backbone from a.pth"


def test_no_workers_are_not_kept() -> None:
    """Tests what torch would refuse: persistent workers where there are none."""
    loader = dict(batch_size=1, num_workers=0, persistent_workers=True)
    cfg = Config(dict(train_dataloader=loader, val_dataloader=dict(loader, num_workers=1)))
    assert resolve_loaders(cfg, cuda=False) == ""
    assert not cfg.train_dataloader.persistent_workers and cfg.val_dataloader.persistent_workers


@pytest.mark.parametrize("env_cfg", [None, dict(cudnn_benchmark=True, mp_cfg=dict(opencv_num_threads=0))])
def test_deterministic_runs_do_not_choose_algorithms_by_their_time(
    env_cfg: dict | None, monkeypatch: pytest.MonkeyPatch
):
    """Tests it also for a config without `env_cfg`, which MMEngine takes."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    cfg = Config(dict(randomness=dict(deterministic=True), **(dict(env_cfg=env_cfg) if env_cfg else {})))
    resolve_deterministic(cfg)
    assert cfg.env_cfg == {**(env_cfg or {}), "cudnn_benchmark": False}
