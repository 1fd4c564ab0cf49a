"""What the command-line tools share: arguments, configs, and errors of the user's in one sentence."""

import argparse
import inspect
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from vil_dense.mm import checkpoints, safe_load
from vil_dense.mm.distributed import start_processes
from vil_dense.mm.faults import RunFault

USER_ERRORS = (ImportError, KeyError, OSError, RunFault, SyntaxError, TypeError, ValueError)
FROM_CONFIG = ("activation_checkpointing", "compile", "find_unused_parameters", "model_wrapper_cfg", "runner_type")
RUNNER_OPTIONS = {*inspect.signature(Runner).parameters, *FROM_CONFIG}


@contextmanager
def one_sentence(*, code: int = 2) -> Iterator[None]:
    """Turn what goes wrong into one sentence on stderr and an exit code: 2 while a run is set up, 1 for what happens to
    it later."""
    try:
        yield
    except USER_ERRORS as error:
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        message = re.sub(r"^(class `\w+` in \S+: )+", "", message)  # MMEngine's registry names the class it built
        print(f"error: {message.strip()}", file=sys.stderr)
        sys.exit(code)


def parser(description: str, config: str | None = None) -> argparse.ArgumentParser:
    """mmseg's arguments that all tools have: the config ("?" where it may be left out), its overrides, the work folder,
    the launcher."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("config", nargs=config, help="config file")
    arguments.add_argument("--work-dir", help="folder for logs and results (default: work_dirs/<config>)")
    arguments.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="overrides, key=value")
    arguments.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    arguments.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return arguments


def read_config(args: argparse.Namespace, subfolder: str = "") -> Config:
    """The config with the command line merged in; work folder, safe loading, scope and processes are set up.

    Args:
        args: of `parser`.
        subfolder: of the default work folder, so that a test does not write over what training left there.
    """
    if not os.path.isfile(args.config):
        raise FileNotFoundError(f"no config at {args.config}")
    cfg = Config.fromfile(args.config)
    for option in args.cfg_options:
        if option.split(".")[0] not in {*cfg, *RUNNER_OPTIONS}:
            raise ValueError(f"unknown option {option}: {args.config} has no {option.split('.')[0]}")
    cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    work_dir = Path(args.work_dir or cfg.get("work_dir") or f"work_dirs/{Path(args.config).stem}")
    cfg.work_dir = str(work_dir if args.work_dir else work_dir / subfolder)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if args.launcher != "none":
        start_processes(args.launcher, cfg.env_cfg.dist_cfg)
    init_default_scope(cfg.get("default_scope", "mmseg"))
    safe_load.install()
    checkpoints.install()
    return cfg
