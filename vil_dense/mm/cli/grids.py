"""Runs the trainings of a study one after another, each in a process of its own, resumes and does not repeat them."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mmengine.config import Config

from vil_dense.files import read_json, save_json

DONE = "done"
"""Name of the empty file in the work folder of a training that is complete."""


def train(script: Path, config: str | Path, folder: Path, options: Sequence[str], *, log: Path | None = None) -> None:
    """Trains a config in a process of its own, or resumes the training that was interrupted in its folder.

    A SIGTERM is passed on, so that the training saves a checkpoint first. If the training fails, this program ends with
    its exit code, after a line that says what failed.

    Args:
        script: tools/train.py.
        config: its config.
        folder: work folder.
        options: --cfg-options, key=value.
        log: file that gets the output of the process, by default the screen.
    """
    command = [sys.executable, str(script), str(config), "--resume", "--work-dir", str(folder)]
    with (
        log.open("a") if log else nullcontext() as output,
        subprocess.Popen([*command, "--cfg-options", *options], stdout=output, stderr=output) as process,
    ):
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    if code:
        where = f", see {log}" if log else ""
        print(
            f"error: the training in {folder} ended with exit code {code}{where}; the same command resumes it",
            file=sys.stderr,
        )
        sys.exit(code if code > 0 else 128 - code)


def train_once(script: Path, config: str | Path, folder: Path, options: Sequence[str]) -> None:
    """Trains as `train` does, unless the training is complete; the screen names `output.log`, its output."""
    if (folder / DONE).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    print(f"training, with its output in {folder / 'output.log'}", flush=True)
    train(script, config, folder, options, log=folder / "output.log")
    (folder / DONE).touch()


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Returns values as words of a command line, `key=value`, that are read as the same values."""
    return [f"{key}={value!r}" for key, value in values.items()]


def check_settings(folder: Path, settings: Mapping[str, Any], what: str) -> None:
    """Checks that a folder holds no study with other settings, which its `settings.json` says.

    Args:
        what: the study, for the message.

    Raises:
        ValueError: it does; names the settings that differ.
    """
    path = folder / "settings.json"
    before = read_json(path) if path.is_file() else settings
    if changed := [key for key in settings if before.get(key) != settings[key]]:
        raise ValueError(
            f"{folder} holds {what} of another config or other options ({', '.join(changed)} differ): "
            "choose another --work-dir, or delete it"
        )


def save_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings that `check_settings` reads."""
    save_json(folder / "settings.json", settings)


def fingerprint(cfg: Config) -> str:
    """Returns the SHA-256 of a config, without what may differ between the runs and the machines of one study."""
    content = {key: value for key, value in cfg.to_dict().items() if key not in ("work_dir", "launcher", "resume")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()
