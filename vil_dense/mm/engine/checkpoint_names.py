"""Reads and writes the file names of a run's checkpoints: those of MMEngine, or of the hook's `filename_tmpl`."""

import re
from pathlib import Path

POINTER = "last_checkpoint"
"""File in the work folder that holds the path of the last checkpoint."""
NAME = re.compile(r"(.*?)(\d+)(?:_step_(\d+))?\.pth")
"""Matches name: text, steps or complete epochs, and the steps after these."""
DEFAULTS = ("iter_", "epoch_")
"""Texts before the number in MMEngine's own names."""


def check_template(template: str) -> None:
    """Refuses a `filename_tmpl` from whose names a resumed run could not read the step; raises ValueError."""
    found = NAME.fullmatch(template.format(10**9))
    if "/" in template or not found or found.groups()[1:] != (str(10**9), None):
        raise ValueError(
            f"filename_tmpl is a file name that ends in the step or epoch, as iter_{{}}.pth, got {template!r}"
        )


def name_within_epoch(template: str, epochs: int, steps: int) -> str:
    """Returns the file name of a checkpoint after complete epochs and `steps` of the next one."""
    return f"{Path(template.format(epochs)).stem}_step_{steps}.pth"


def saved_steps(folder: Path, last: str = "") -> dict[Path, tuple[int, int]]:
    """Returns steps or complete epochs, and the steps after these, of each checkpoint of a run.

    Args:
        folder: with checkpoints, and with others' files, which are left out.
        last: name of the last checkpoint; the others are named alike. Empty: they have MMEngine's names.
    """
    like = NAME.fullmatch(last)
    texts = (like[1],) if like else DEFAULTS
    found = {path: NAME.fullmatch(path.name) for path in folder.glob("*.pth")}
    return {path: (int(name[2]), int(name[3] or 0)) for path, name in found.items() if name and name[1] in texts}


def name_of_last(work_dir: Path) -> str:
    """Returns the name of the last checkpoint of a run; empty if it has saved none."""
    pointer = work_dir / POINTER
    return Path(pointer.read_text(errors="replace").strip()).name if pointer.is_file() else ""
