"""Finds the checkpoint that a run starts or resumes from: the newest one that can be read."""

from pathlib import Path

from mmengine.config import Config

from vil_dense.mm.engine.checkpoint_names import POINTER, saved_steps
from vil_dense.mm.utils.safe_load import BrokenFile, load_safely


def find_start(cfg: Config) -> tuple[dict | None, list[str]]:
    """Decides from which checkpoint a run starts, and reads it.

    `cfg.load_from` becomes the path of the checkpoint, and `cfg.resume` whether the run resumes from it.

    With `auto_resume=True` the run resumes from the last checkpoint in the work folder, if there is one. Otherwise it
    starts from the weights of `load_from`, or resumes from it if MMEngine's `resume=True` is set. `resume=True`
    without a `load_from` means `auto_resume=True`.

    Returns:
        The contents of the checkpoint, or None if there is none; and lines for the log: on checkpoints that cannot be
        read, and that there is none to resume from.

    Raises:
        ValueError: see `newest`; or the run shall resume from a `load_from` that holds only weights.
    """
    given, resume = cfg.get("load_from"), cfg.get("resume")
    auto = cfg.pop("auto_resume", False) or (resume and not given)
    path, content, notes = newest(cfg.work_dir) if auto else (None, None, [])
    if auto and path is None:
        notes.append(f"resume: no checkpoint in {cfg.work_dir}, the run starts anew")
    cfg.resume = bool(path or (resume and given))
    cfg.load_from = path or given
    if content is None and given:
        content = load_safely(given)
        if cfg.resume and not {"meta", "optimizer"} <= content.keys():
            raise ValueError(
                f"resume=True needs the checkpoint of a run, and {given} holds only weights: remove resume=True"
            )
    return content, notes


def newest(work_dir: str) -> tuple[str | None, dict | None, list[str]]:
    """Finds the last checkpoint of a run that can be read.

    Returns:
        Its path and contents, None if there is no checkpoint yet; and a line on each checkpoint that cannot be read.

    Raises:
        ValueError: a checkpoint holds objects whose loading could run code; or there are checkpoints and none is
            complete; or the file that `last_checkpoint` names does not exist.
    """
    lines: list[str] = []
    pointer = Path(work_dir) / POINTER
    last = Path(pointer.read_text(errors="replace").strip()) if pointer.is_file() else Path()
    paths = _by_age(_folder_of(last, Path(work_dir)), last.name)
    for path in paths:
        try:
            return str(path), load_safely(str(path)), lines
        except BrokenFile as error:
            lines.append(f"{error}: the checkpoint before it is used")
    if paths:
        raise ValueError(
            f"no checkpoint in {paths[0].parent} is complete ({len(paths)} tried): remove them to start anew"
        )
    if last.name:
        raise ValueError(f"no checkpoint at {last}, which {pointer} names: remove that file to start anew")
    return None, None, []


def _folder_of(last: Path, work_dir: Path) -> Path:
    """Returns the folder of checkpoints: the work folder, which may have been moved, or the hook's `out_dir`."""
    return last.parent if last.is_file() and not (work_dir / last.name).is_file() else work_dir


def _by_age(folder: Path, last: str) -> list[Path]:
    """Returns the checkpoints of the run, the last first; later ones of an earlier, longer run are left out."""
    steps = saved_steps(folder, last)
    end = steps.get(folder / last, max(steps.values(), default=(0, 0)))
    return sorted((path for path in steps if steps[path] <= end), key=lambda path: steps[path], reverse=True)
