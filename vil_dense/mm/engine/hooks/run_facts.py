"""Describes a run for its report: what was trained on what, by which command, on which machine."""

import shlex
import sys
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from vil_dense.mm.datasets.wrappers import parts
from vil_dense.mm.utils.heads import last_head
from vil_dense.mm.utils.unwrap import unwrap
from vil_dense.report import environment as machine_facts


def describe_run(runner: Runner, split: str) -> str:
    """Returns a sentence on what was trained, or tested, on what.

    Args:
        split: `val` for a training, `test` for a test.
    """
    network = unwrap(runner.model)
    network = getattr(network, "module", network)  # within test-time augmentation
    named = (getattr(network, part, None) for part in ("backbone", "decode_head", "network"))
    inside = " and ".join(type(last_head(part)).__name__ for part in named if part is not None)
    millions = sum(weight.numel() for weight in network.parameters()) / 1e6
    model = f"{type(network).__name__}{f' of {inside}' if inside else ''} ({millions:.2f} M parameters)"
    if split == "test":
        return f"{model}, tested on {_data(runner.test_dataloader)}."
    batch = (runner.train_dataloader.batch_size or 1) * runner.world_size
    each = "crops" if runner.cfg.get("crop_size") else "samples"
    held_out = f", validated on {_data(runner.val_dataloader)}" if runner.val_loop else ""
    data = _data(runner.train_dataloader)
    return f"{model}, trained for {runner.iter} steps of {batch} {each} on {data}{held_out}."


def _data(loader: Any) -> str:
    """Names the data set of a loader, with the number of its samples and of its classes."""
    names = sorted({type(part).__name__ for part in parts(loader.dataset)})
    classes = getattr(loader.dataset, "metainfo", {}).get("classes")
    return f"{', '.join(names)} ({len(loader.dataset)} samples{f', {len(classes)} classes' if classes else ''})"


def repeat_commands(runner: Runner, split: str) -> dict[str, str]:
    """Returns commands by what they do: repeat the run and, after a training with a test, test its checkpoint."""
    script = "test" if split == "test" else "train"
    config = config_file(runner)
    own = sys.argv if sys.argv[0].endswith(".py") else [f"tools/{script}.py", str(config)]
    launch = "python"
    if runner.world_size > 1:
        torchrun = runner.cfg.get("launcher") == "pytorch"
        launch = f"torchrun --nproc_per_node {runner.world_size}" if torchrun else f"srun -n {runner.world_size} python"
    commands = {"Repeat this run": f"{launch} {shlex.join(own)}"}
    checkpoint = runner.message_hub.runtime_info.get("last_ckpt")
    if split != "test" and checkpoint and runner.cfg.get("test_cfg") is not None:
        beside = Path(own[0]).with_name("test.py")  # the page may be read elsewhere than in the repository
        tool = str(beside) if beside.is_file() else "tools/test.py"
        commands["Test its checkpoint"] = shlex.join(["python", tool, str(config), str(checkpoint)])
    return commands


def config_file(runner: Runner) -> Path:
    """Returns the file with the whole config, as it was resolved, in the work folder."""
    name = Path(runner.cfg.filename).name if runner.cfg.filename else f"{runner.timestamp}.py"
    return Path(runner.work_dir) / name


def model_sizes(runner: Runner) -> dict[str, str]:
    """Returns the number of parameters of the model and of each of its parts."""
    network = unwrap(runner.model)
    network = getattr(network, "module", network)
    counts = {f"{name} ({type(part).__name__})": part for name, part in network.named_children()}
    sizes = {name: sum(weight.numel() for weight in part.parameters()) for name, part in counts.items()}
    total = sum(weight.numel() for weight in network.parameters())
    return {"parameters": f"{total:,}", **{name: f"{size:,}" for name, size in sizes.items() if size}}


def environment(runner: Runner) -> dict[str, str]:
    """Returns versions, machine, precision and memory."""
    found = machine_facts()
    if "GPU" in found:
        found["GPU"] += f", {runner.world_size} process(es)"
    if wrapper := runner.cfg.get("optim_wrapper"):
        found["precision"] = "mixed" if wrapper.type == "AmpOptimWrapper" else "float32"
    found["seed"] = str(runner.seed)
    return found
