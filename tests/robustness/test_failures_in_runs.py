"""Faults that need processes of their own: signals, a second run, a lost process, odd locales."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vil_dense.mm.engine.failures import resume_point
from vil_dense.mm.utils.safe_load import load_safely
from vil_dense.synthetic.scenes import write_sample

ROOT = Path(__file__).parents[2]
CONFIG = """
_base_ = "{root}/configs/vil_upernet_sample.py"
model = dict(
    backbone=dict(dim=32, depth=2, out_indices=(0, 0, 1, 1)),
    neck=dict(embed_dim=32),
    decode_head=dict(in_channels=[32, 32, 32, 32], channels=16),
    auxiliary_head=dict(in_channels=32, channels=16),
)
loader = dict(num_workers={workers}, persistent_workers={workers} > 0, dataset=dict(data_root={data!r}))
train_dataloader = dict(loader, batch_size=2)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={data!r}))
test_dataloader = val_dataloader
train_cfg = dict(max_iters={steps}, val_interval=100000)
default_hooks = dict(checkpoint=dict(interval=100000), logger=dict(interval=1))
"""


def prepare(folder: Path, steps: int, workers: int = 0, name: str = "sample") -> Path:
    """Writes a config of a small training on made pictures in `folder`."""
    write_sample(folder / name, train=4, val=1)
    path = folder / "config.py"
    text = CONFIG.format(root=ROOT, data=str(folder / name), steps=steps, workers=workers)
    path.write_text(text, encoding="utf-8")
    return path


def start(config: Path, *args: object, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "tools/train.py", str(config), "--work-dir", str(config.with_name("run"))]
    return subprocess.Popen(
        [*command, *map(str, args)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def wait_for_step(run: subprocess.Popen, step: int) -> None:
    for line in run.stdout:
        if "Iter(train)" in line and int(line.split("[")[1].split("/")[0]) >= step:
            return
    pytest.fail(f"the run ended before step {step}: {run.stderr.read()[-2000:]}")


def ending(run: subprocess.Popen, within: float) -> tuple[int, str, str]:
    """Returns the exit code, and what was still written to stdout and stderr."""
    try:
        out, error = run.communicate(timeout=within)
    finally:
        run.kill()
    return run.returncode, out, error


@pytest.mark.slow
def test_a_second_run_is_refused_and_sigterm_saves_the_step(tmp_path: Path):
    """Uses a loader process, which gets the signal too."""
    config = prepare(tmp_path, steps=100000, workers=1)
    run = start(config)
    wait_for_step(run, 2)
    code, _, error = ending(start(config), within=120)
    assert code == 2
    assert f"{tmp_path / 'run'} is in use by process {run.pid} on {socket.gethostname()}" in error.splitlines()[-1]
    children = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True, check=True).stdout.split()
    for pid in (*children, run.pid):
        os.kill(int(pid), signal.SIGTERM)
    code, out, error = ending(run, within=60)
    assert code == 75, error
    saved = resume_point(str(tmp_path / "run"))
    assert f"--resume goes on from {saved} (exit code 75)" in out and "Traceback" not in error
    step = load_safely(saved)["meta"]["iter"]
    again = start(config, "--resume", "--cfg-options", f"train_cfg.max_iters={step + 2}")
    code, out, error = ending(again, within=120)
    assert code == 0 and f"resumed from {saved}" in out, error


@pytest.mark.slow
def test_the_loss_of_a_process_ends_the_others(tmp_path: Path):
    """Kills one of two; the other ends within a minute and says so."""
    config = prepare(tmp_path, steps=100000)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    there = dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    runs = [start(config, "--launcher", "pytorch", **there, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]
    wait_for_step(runs[0], 2)
    runs[1].kill()
    began = time.monotonic()
    code, _, error = ending(runs[0], within=60)
    runs[1].communicate()
    assert code == 1 and time.monotonic() - began < 60
    assert "error: process 0 of 2 has lost another one, whose own output says why it ended" in error, error[-3000:]
    assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "tr_TR.UTF-8"])
def test_locales(locale: str, tmp_path: Path):
    """Names that are not ASCII where the locale knows ASCII only; and one in which I is not the capital of i."""
    config = prepare(tmp_path, steps=2, name="Bräuche")
    code, out, error = ending(start(config, LC_ALL=locale), within=200)
    assert code == 0, error[-3000:]
    assert "Traceback" not in error + out and (tmp_path / "run/iter_2.pth").is_file()
