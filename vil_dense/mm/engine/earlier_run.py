"""Moves the results of an earlier run aside when another run starts anew in its work folder.

MMEngine writes a new run over the old one, so that checkpoints of both lie side by side, and a later `--resume` may
take one of the wrong run. Here nothing is lost, and a script that trains twice in the same folder works.
"""

import re
import shutil
from pathlib import Path

from vil_dense.mm.engine.checkpoint_names import POINTER, name_of_last, saved_steps

LOGS = re.compile(r"\d{8}_\d{6}")
RESULTS = (POINTER, "pictures", "faults", "validation")
"""Files and folders of a run beside its checkpoints and logs."""


def move_earlier_run(work_dir: str, log_dir: str) -> str:
    """Moves checkpoints, logs and results of an earlier run to `previous_N` in the work folder.

    Without a checkpoint there is nothing to keep apart, and all stays. Files that no run has written stay, too.

    Args:
        work_dir: the folder of both runs.
        log_dir: the folder with the logs of the new run, which stays.

    Returns:
        A line for the log; empty if there is no checkpoint of an earlier run.
    """
    folder = Path(work_dir)
    checkpoints = {*saved_steps(folder), *saved_steps(folder, name_of_last(folder)), *folder.glob("best_*.pth")}
    if not checkpoints:
        return ""
    others = [path for path in folder.iterdir() if path.name in RESULTS or LOGS.fullmatch(path.name)]
    number = next(n for n in range(1, 1 << 30) if not (folder / f"previous_{n}").exists())
    target = folder / f"previous_{number}"
    target.mkdir()
    for path in [*checkpoints, *others]:
        if path.name != Path(log_dir).name:
            shutil.move(path, target / path.name)
    count = f"{len(checkpoints)} checkpoint{'s' * (len(checkpoints) != 1)}"
    return f"work folder: {count} and the logs of an earlier run moved to {target}, since this run does not resume"
