"""Reads configs for the command-line tools, and reports errors in one sentence."""

import argparse
import inspect
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from weakref import WeakSet

import mmengine.registry
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import Registry, init_default_scope
from mmengine.runner import Runner

from vil_dense.errors import exit_on_error, traceback_hint
from vil_dense.mm.engine.checks.components import check_components, near_names, registered
from vil_dense.mm.engine.checks.numbers import check_numbers
from vil_dense.mm.engine.distributed import start_processes
from vil_dense.mm.engine.failures import RunFault
from vil_dense.mm.engine.resolve.pictures import FOUND, OPTIONS
from vil_dense.mm.engine.resolve.volumes import SHARED, open_plan
from vil_dense.mm.utils import safe_load

USER_ERRORS = (ImportError, KeyError, OSError, RunFault, SyntaxError, TypeError, ValueError)
FROM_CONFIG = ("activation_checkpointing", "compile", "find_unused_parameters", "model_wrapper_cfg", "runner_type")
OURS = ("compile_blocks", "freeze_backbone", "label_check", "lora")
RUNNER_OPTIONS = {*inspect.signature(Runner).parameters, *FROM_CONFIG, *OURS}


@contextmanager
def report_errors(debug: bool = False, *, code: int = 2) -> Iterator[None]:
    """Turns an error into one sentence on stderr and an exit code; the traceback goes to the log file of the run.

    Args:
        debug: let the traceback through, as `--debug` asks for.
        code: 2 while a run is set up, when a mistake is the user's to mend; 1 for what happens to it later.
    """
    log: str | None = None

    def words(error: Exception) -> str:
        text = sentence(error)
        if lacking := re.fullmatch(r"'ConfigDict' object has no attribute '(\w+)'", text):
            return f"the config has no {lacking[1]}"
        return text if isinstance(error, USER_ERRORS) else f"{type(error).__name__}: {text} {traceback_hint(log)}"

    with exit_on_error(debug, code, words), nullcontext() if debug else _quiet_logs():
        try:
            yield
        except Exception as error:
            log = _keep_traceback(error)
            raise


def sentence(error: Exception) -> str:
    """Returns the message of an error on one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    ends = [match.end() for match in re.finditer(r"^(\w+\.)*\w*(Error|Exception): ", text, re.MULTILINE)]
    if "Original Traceback" in text and ends:  # torch puts that of a data-loading process into the message
        text = text[ends[-1] :]
    text = re.sub(r"^(class `\w+` in \S+: )+", "", text)  # MMEngine's registry names the class it built
    text = text.replace("(<unknown>, line ", "(line ")  # of the text of a config, which Python parses without a name
    text = re.sub(r"(?s) Please check whether the value of .*|, the current sys\.path is: .*", "", text)
    missing = re.search(r"(\w+) is not in the \w+::([\w ]+) registry", text)
    if missing and "did you mean" not in text:
        text += suggestion(missing[1], missing[2])
    return " ".join(text.split()) or type(error).__name__


def suggestion(name: str, registry: str) -> str:
    """Returns a question for the names nearest to an unknown one in a registry of MMEngine; empty if none is near."""
    roots = [part for part in vars(mmengine.registry).values() if isinstance(part, Registry) and part.name == registry]
    return near_names(name, [known for root in roots for known in registered(root)])


def _keep_traceback(error: Exception) -> str | None:
    """Writes the traceback to the log file of the run, if there is one, and returns the file if it could be written."""
    if not MMLogger._instance_dict:
        return None
    logger = MMLogger.get_current_instance()
    files = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
    for handler in files:
        handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, sentence(error), (), sys.exc_info()))
    return next((handler.baseFilename for handler in files if handler not in _LOST), None)


_LOST: WeakSet[logging.Handler] = WeakSet()
"""Handlers whose file can no longer be written."""


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Prints one line if a log cannot be written, as on a full disk, where logging prints a traceback for each line."""
    before = logging.Handler.handleError

    def print_once(handler: logging.Handler, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            before(handler, record)
        elif handler not in _LOST:
            _LOST.add(handler)
            name = getattr(handler, "baseFilename", "on the screen")
            print(f"warning: the log {name} cannot be written, its lines are lost: {error}", file=sys.stderr)

    logging.Handler.handleError = print_once  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        logging.Handler.handleError = before  # type: ignore[method-assign]


def read_config(args: argparse.Namespace, subfolder: str = "", cfg: Config | None = None) -> Config:
    """Reads the config, merges the command line, and sets up work folder, safe loading, scope and processes.

    Args:
        args: of `command_line.parser`.
        subfolder: of the default work folder, so that a test does not write over what training left there.
        cfg: the config where it is in no file; `args.config` then names the model.
    """
    cfg = cfg or load_config(args.config)
    for option in args.cfg_options:
        _check_option(option, cfg, args.config)
    overrides = open_plan(cfg, args.cfg_options)
    try:
        cfg.merge_from_dict(overrides)
    except Exception as error:  # MMEngine has a kind each for lists, numbers and dicts
        raise ValueError(f"--cfg-options do not fit {args.config}: {_short(sentence(error))}") from error
    if "train_dataloader.batch_size" in args.cfg_options:  # not the plan's then, even where the config has the same
        cfg.get("shared", {}).pop("batch_size", None)
    if not cfg.model:
        raise ValueError("--cfg-options take the model away: model is a dict with a type")
    check_numbers(cfg)
    cfg.launcher = args.launcher
    work_dir = Path(args.work_dir or cfg.get("work_dir") or f"work_dirs/{Path(args.config).stem}")
    cfg.work_dir = str(work_dir if args.work_dir else work_dir / subfolder)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if args.launcher != "none":
        start_processes(args.launcher, cfg.get("env_cfg"))
    init_default_scope(cfg.get("default_scope", "mmseg"))
    check_components(cfg)
    return cfg


def _check_option(option: str, cfg: Config, path: str) -> None:
    """Refuses an override of what the config has not, and of a variable that was used up when the file was read."""
    key = option.split(".")[0]
    of_pictures = key in (*OPTIONS, *FOUND) and key in cfg.get("shared", {})
    if key in RUNNER_OPTIONS or of_pictures or ("plan" in cfg and key in SHARED):
        return
    if key not in cfg:
        raise ValueError(f"unknown option {option}: {path} has no {key}")
    places = [place for place in _paths_of(cfg[key], cfg._cfg_dict) if place != key][:3]
    where = f"set {', '.join(places)} instead" if places else "change it in a file that inherits this one"
    raise ValueError(f"{option} would change nothing: {key} is a variable of {path}, read before overrides; {where}")


def _paths_of(value: object, node: object, path: str = "") -> Iterator[str]:
    """Yields the paths below `node` at which `value` is."""
    if path and node == value and type(node) is type(value):
        yield path
    elif isinstance(node, dict):
        for key, part in node.items():
            yield from _paths_of(value, part, f"{path}.{key}" if path else key)


def load_config(path: str | Path) -> Config:
    """Reads the config in a file, which is run as a program; files that it names are read safely from then on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read as a config, or has no model.
    """
    if not os.path.isfile(path):
        folder = f": it is a folder, of a run perhaps, whose config {path}/*.py is meant" * os.path.isdir(path)
        raise FileNotFoundError(f"no config at {path}{folder}")
    safe_load.install()  # every tool that reads a config calls this function
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a program can fail in any way
        why = f"{type(error).__name__}: {_short(_with_cause(error))}{_config_line(error, path)}"
        raise ValueError(f"{path} cannot be read as a config: {why}") from error
    if not isinstance(cfg.get("model"), dict):
        raise ValueError(f"{path} is no config of a run: it has no model")
    return cfg


def _with_cause(error: Exception) -> str:
    """Returns the message of an error and, if it arose from a module that is missing, that of the first one."""
    first: BaseException = error
    while isinstance(error, ImportError) and (before := first.__cause__ or first.__context__):
        first = before
    missing = first is not error and isinstance(first, ImportError)
    return f"{sentence(error)}: {first}" if missing else sentence(error)


def _config_line(error: Exception, path: str | Path) -> str:
    """Returns the line at which a config, or one of its base files, failed; empty if the error arose elsewhere."""
    frames = traceback.extract_tb(error.__traceback__)
    file = next((frame.filename for frame in frames if frame.name == "<module>"), None)
    if file is None:
        return ""
    number = [frame.lineno for frame in frames if frame.filename == file][-1]
    return f" (line {number}{'' if os.path.abspath(path) == file else f' of {file}'})"


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."
