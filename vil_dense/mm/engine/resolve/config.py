"""Resolves what a config leaves open until the run is known: norm, classes, plan, warm-up, mixed precision.

Every function changes the config in place and returns one line for the log, or an empty string. The config that
MMEngine writes to the work folder is the resolved one, and any MMEngine tool reads it.
"""

import copy
import math
import os
import re

from mmengine.config import Config, ConfigDict
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS

from vil_dense.mm.engine.distributed import resolve_processes
from vil_dense.mm.engine.fine_tuning import OPTIONS
from vil_dense.mm.engine.resolve.pictures import resolve_pictures
from vil_dense.mm.engine.resolve.volumes import describe_fold, resolve_plan


def resolve_config(cfg: Config, world_size: int, cuda: bool, weights: dict | None = None) -> list[str]:
    """Resolves what a config leaves open until the run is known, in place, and returns lines for the log.

    Args:
        cfg: of a training or a test.
        world_size: number of processes.
        cuda: whether there is a GPU.
        weights: of the checkpoint that the run begins with; they decide on the norm.
    """
    resolve_compile(cfg)
    resolve_deterministic(cfg)
    lines = [
        resolve_plan(cfg),
        *resolve_pictures(cfg),
        describe_fold(cfg),
        describe_neck(cfg),
        resolve_norm(cfg, world_size, cuda, weights),
        resolve_losses(cfg, cuda),
        resolve_loaders(cfg, cuda),
    ]
    resolve_classes(cfg)
    if cfg.get("optim_wrapper"):
        lines += [resolve_warmup(cfg), resolve_log_interval(cfg), resolve_amp(cfg, cuda)]
    return [line for line in (*lines, resolve_processes(cfg, world_size, cuda)) if line]


def choose_norm(world_size: int, batch_size: int, widths: list[int], cuda: bool) -> dict:
    """Chooses the norm of neck and heads by the number of pictures that its statistics would see.

    Four or more: BatchNorm, over all ranks (SyncBN) if there are several. Fewer: GroupNorm, because UperNet's 1 x 1
    pool has one value per picture. GroupNorm as well for several ranks on CPUs, where SyncBN does not exist.
    """
    if world_size * batch_size >= 4 and (world_size == 1 or cuda):
        return dict(type="SyncBN" if world_size > 1 else "BN", requires_grad=True)
    return group_norm(widths)


def group_norm(widths: list[int]) -> dict:
    """Returns a GroupNorm of at most 32 groups of two channels or more (one channel of a 1 x 1 map has no spread)."""
    return dict(type="GN", num_groups=math.gcd(32, *(width // 2 for width in widths)), requires_grad=True)


def resolve_norm(cfg: Config, world_size: int, cuda: bool, weights: dict | None = None) -> str:
    """Replaces SyncBN in neck and heads by the norm that fits the run, or that trained `weights` have.

    In a backbone it becomes BN where SyncBN does not exist or has one process.
    All other norms stay, so a config that names BN gets BN.
    """
    for part in _dicts(cfg.model.get("backbone")):
        if _is_sync(part.get("norm_cfg")) and not (world_size > 1 and cuda):
            part["norm_cfg"]["type"] = "BN"  # which reads the same weights; what widths it would split is not known
    of_backbone = {id(part) for part in _dicts(cfg.model.get("backbone"))}
    synced = (part for part in _dicts(cfg.model) if _is_sync(part.get("norm_cfg")))
    open_norms = [part for part in synced if id(part) not in of_backbone]
    if not open_norms:
        return ""
    widths = [width for part in open_norms for width in _widths(part)]
    batch_size = (cfg.get("train_dataloader") or {}).get("batch_size", 1)
    trained = [key for key in weights or () if key.startswith("decode_head.")]
    if not trained:
        norm, why = choose_norm(world_size, batch_size, widths, cuda), f"{world_size} x {batch_size} pictures a step"
    else:
        batch_norm = any(key.endswith("running_mean") for key in trained)
        sync = batch_norm and world_size > 1 and cuda
        norm = dict(type="SyncBN" if sync else "BN", requires_grad=True) if batch_norm else group_norm(widths)
        why = "as in the checkpoint"
    for part in open_norms:
        part["norm_cfg"] = dict(norm)
    return f"norm of neck and heads: {norm['type']} ({why})"


def name_outputs(model: dict) -> dict:
    """Returns the config of a model whose heads of two classes say that they have two logits.

    Without `out_channels` they have them, too, and mmseg warns each time that one logit would do.
    """
    model = copy.deepcopy(model)
    for head in _dicts([model.get(name) for name in ("decode_head", "auxiliary_head")]):
        kind = MODELS.get(head["type"]) if isinstance(head.get("type"), str) else None
        if head.get("num_classes") == 2 and isinstance(kind, type) and issubclass(kind, BaseDecodeHead):
            head.setdefault("out_channels", 2)
    return model


def resolve_losses(cfg: Config, cuda: bool) -> str:
    """Replaces losses that mmsegmentation cannot compute: `class_weight` in the cross entropy, focal loss on a CPU."""
    replaced = []
    for part in _dicts(cfg.model):
        softmax = part.get("type") == "CrossEntropyLoss" and not (part.get("use_sigmoid") or part.get("use_mask"))
        if softmax and part.get("class_weight") and part.get("reduction", "mean") == "mean":
            kept = {key: part[key] for key in ("class_weight", "loss_weight", "loss_name") if key in part}
            part.clear()
            part.update(kept, type="WeightedCrossEntropyLoss")
            replaced.append("WeightedCrossEntropyLoss, a mean over the labelled pixels")
        elif part.get("type") == "FocalLoss" and not cuda:
            part["type"] = "PortableFocalLoss"
            replaced.append("PortableFocalLoss, which runs on a CPU")
    return f"loss: {'; '.join(dict.fromkeys(replaced))}" if replaced else ""


def describe_neck(cfg: Config) -> str:
    """Returns the strides of the maps that the neck of a segmentor gives, as a line for the log.

    The scales of a neck are written for one patch size; with another the maps have other strides, and no error says so.
    """
    neck, backbone = cfg.model.get("neck"), cfg.model.get("backbone")
    scales = neck and (neck.get("rescales") or neck.get("scales"))
    if not scales or not backbone:
        return ""
    stride = backbone.get("stride") or backbone.get("patch_size") or 16
    stride = stride if isinstance(stride, int) else stride[0]
    return f"neck: {neck.type}, strides {', '.join(f'{stride / scale:g}' for scale in scales)}"


def resolve_warmup(cfg: Config) -> str:
    """Shortens a warm-up that would outlast the run to a tenth of it; the next schedule starts there."""
    schedule, steps = cfg.get("param_scheduler"), cfg.train_cfg.get("max_iters")
    if isinstance(schedule, list) and schedule and schedule[0].type == "WarmupCosineLR":
        unit = "epochs" if cfg.train_cfg.get("max_epochs") else "iters"
        return _shorten_warmup(schedule[0], cfg.train_cfg[f"max_{unit}"], unit)
    if not isinstance(schedule, list) or len(schedule) < 2 or schedule[0].type not in ("LinearLR", "ConstantLR"):
        return ""
    if not steps or schedule[0].get("end", 0) < steps:
        return ""
    if steps < 4:
        cfg.param_scheduler = []
        return f"learning rate: constant, {steps} steps are too few for a schedule"
    asked, schedule[0].end = schedule[0].end, max(2, steps // 10)
    for part in schedule[1:]:
        part.begin = schedule[0].end
    return f"warm-up: {schedule[0].end} steps, since {asked} would outlast the run of {steps}"


def _shorten_warmup(schedule: ConfigDict, length: int, unit: str) -> str:
    requested = schedule.warmup
    if requested < length:
        return ""
    schedule.warmup = length // 10
    return f"warm-up: {schedule.warmup} {unit}, since {requested} would outlast the run of {length}"


def resolve_log_interval(cfg: Config) -> str:
    """Shortens the steps between two logged losses to a fifth of a run that would log fewer than two, at least 5.

    MMEngine logs the batches of a validation at the same interval, which is why it does not become 1.
    """
    logger, steps = (cfg.get("default_hooks") or {}).get("logger") or {}, cfg.train_cfg.get("max_iters") or 0
    asked = logger.get("interval") or 0
    if not 10 <= steps < 2 * asked:
        return ""
    logger["interval"] = max(5, steps // 5)
    return f"losses are logged every {logger['interval']} steps, since {asked} are too many for a curve of {steps}"


def resolve_classes(cfg: Config) -> str:
    """Passes the number of classes of a classifier to its data sets, which check it."""
    if cfg.model.type != "ImageClassifier":
        return ""
    for loader in filter(None, (cfg.get(f"{split}_dataloader") for split in ("train", "val", "test"))):
        loader.dataset.num_classes = cfg.model.num_classes
    return ""


def resolve_loaders(cfg: Config, cuda: bool) -> str:
    """Limits loader processes to the cores of this process, and pins memory only if there is a GPU."""
    cores, requested = available_cores(cfg.get("launcher")), {}
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if loader is None:
            continue
        if not cuda:
            loader.pop("pin_memory", None)
        if loader.get("num_workers", 0) > cores:
            requested[split], loader.num_workers = loader.num_workers, cores
        if not loader.get("num_workers"):
            loader.persistent_workers = False  # which torch refuses without workers
    if not requested:
        return ""
    listed = ", ".join(f"{count} for {split}" for split, count in requested.items())
    return f"loaders: {cores} workers for {cores} cores, where the config has {listed}"


def available_cores(launcher: str | None) -> int:
    """Returns the number of cores for this process; processes of one launcher on one machine share them.

    Slurm may have bound each process to its own part of them: then this part counts, and is not shared again.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if launcher == "slurm":
        machine = int(os.environ.get("SLURM_CPUS_ON_NODE", here))
        return max(1, min(here, machine // _slurm_tasks()))
    processes = "OMPI_COMM_WORLD_LOCAL_SIZE" if launcher == "mpi" else "LOCAL_WORLD_SIZE"
    return max(1, here // int(os.environ.get(processes, 1)))


def _slurm_tasks() -> int:
    """Returns the number of Slurm tasks on this machine; `8(x2),4` lists three machines."""
    said = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ.get("SLURM_NTASKS_PER_NODE", "1")
    counts = [int(tasks) for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", said) for _ in range(int(times or 1))]
    return counts[min(int(os.environ.get("SLURM_NODEID", 0)), len(counts) - 1)]


def resolve_compile(cfg: Config) -> None:
    """Replaces `compile_blocks=True` by a `CompileHook`."""
    if cfg.pop("compile_blocks", False):
        cfg.setdefault("custom_hooks", []).append(dict(type="CompileHook"))


def resolve_deterministic(cfg: Config) -> None:
    """Adds what MMEngine's `randomness.deterministic=True` needs beside it; torch raises where an operation has no
    deterministic form."""
    if not (cfg.get("randomness") or {}).get("deterministic"):
        return
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="DeterministicHook")]
    cfg.env_cfg = {**(cfg.get("env_cfg") or {}), "cudnn_benchmark": False}
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it begins


def resolve_amp(cfg: Config, cuda: bool) -> str:
    """Keeps the mixed precision that the machine has.

    A config that asks for `AmpOptimWrapper`, as recipes for GPUs do, is trained in float32 without one. `--amp` without
    a GPU asks for `CPUAmpOptimWrapper`, bfloat16; with a GPU that becomes `AmpOptimWrapper`.
    """
    wrapper = cfg.optim_wrapper
    if wrapper.get("type") == "CPUAmpOptimWrapper":
        for key in ("loss_scale", "dtype"):
            wrapper.pop(key, None)
        if not cuda:
            return "precision: bfloat16 on the CPU, weights and mLSTM in float32"
        wrapper.update(type="AmpOptimWrapper", dtype="bfloat16")
    if wrapper.get("type") != "AmpOptimWrapper":
        return ""
    if cuda:
        wrapper.setdefault("loss_scale", "dynamic")
        scaling = " with loss scaling" if wrapper.loss_scale == "dynamic" else ""
        return f"precision: {wrapper.get('dtype', 'float16')}{scaling}, mLSTM in TF32"
    wrapper.type = "OptimWrapper"
    for key in ("loss_scale", "dtype"):
        wrapper.pop(key, None)
    return "precision: float32, mixed precision was asked for but needs a GPU (--amp: bfloat16 on the CPU)"


def describe_start(cfg: Config, checkpoint: str | None) -> str:
    """Returns a line on where the weights come from: recipes for pretrained weights also run without."""
    if checkpoint:
        return f"start: {'resumed from' if cfg.resume else 'weights of'} {checkpoint}"
    part = "backbone" if "backbone" in cfg.model else "network"
    pretrained = cfg.model.get("backbone", cfg.model).get("init_cfg")
    if pretrained:
        return f"start: {part} from {pretrained.checkpoint}"
    partial = next((option for option in OPTIONS if cfg.get(option)), None)
    if not partial:
        return "start: random weights, none pretrained"
    init_cfg = "model.backbone.init_cfg" if "backbone" in cfg.model else "model.init_cfg"
    return (
        f"warning: start: random weights, none pretrained, and {partial} keeps those of the backbone: set load_from or "
        f"{init_cfg}.checkpoint to a file of trained weights"
    )


def _is_sync(norm_cfg: object) -> bool:
    return isinstance(norm_cfg, dict) and norm_cfg.get("type") == "SyncBN"


def _dicts(node: object) -> list[dict]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return [*([node] if isinstance(node, dict) else []), *(found for child in children for found in _dicts(child))]


def _widths(part: dict) -> list[int]:
    """Returns the numbers of channels that the norms of a head or a neck see."""
    width = next(part[key] for key in ("channels", "embed_dim", "out_channels") if key in part)
    # DeepLabV3+'s head also normalises its two inputs
    return [width, *([part["c1_channels"], part["in_channels"]] if "c1_channels" in part else [])]
