"""Tests that checkpoints are read whole or refused in a sentence, and never run code."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from refusals import raises_one_line
from torch import nn

from vil_dense.mm.engine.run_start import newest
from vil_dense.mm.utils import safe_load
from vil_dense.state_files import read_state


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Reach:
    """Reads, when it is unpickled, an attribute that a log's history has no use for."""

    def __reduce__(self):
        return getattr, (np.ndarray, "tofile")


def save(content: object, path: Path) -> str:
    torch.save(content, path)
    return str(path)


def test_a_trap_does_not_run(tmp_path: Path):
    sprung = tmp_path / "sprung"
    path = save(dict(state_dict={}, trap=Trap(sprung)), tmp_path / "trap.pth")
    torch.load(path, weights_only=False)
    assert sprung.exists(), "the trap must be able to spring"
    sprung.unlink()
    with raises_one_line(ValueError, "trap.pth"):
        safe_load.load_safely(path)
    assert not sprung.exists()


def test_tensors_stay_on_the_cpu_whatever_mmengine_asks_for(tmp_path: Path):
    path = save(dict(state_dict=dict(weight=torch.ones(2))), tmp_path / "a.pth")
    assert safe_load.load_safely(path, map_location="meta")["state_dict"]["weight"].device.type == "cpu"


def test_a_trap_in_the_old_format(tmp_path: Path):
    path = tmp_path / "trap.pkl"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))
    with raises_one_line(ValueError, "run code"):
        safe_load.load_safely(str(path))
    assert not (tmp_path / "sprung").exists()


def test_getattr_reaches_nothing_else(tmp_path: Path):
    path = save(dict(reach=Reach()), tmp_path / "reach.pth")
    with raises_one_line(ValueError, "builtins.getattr"):
        safe_load.load_safely(path)


def test_the_log_history_is_read(tmp_path: Path):
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    path = save(dict(history=history, scalar=np.float64(2.0), seed=np.int64(3)), tmp_path / "log.pth")
    read = safe_load.load_safely(path)
    assert read["history"].mean() == 2.0 and read["scalar"] == 2.0 and read["seed"] == 3


def test_a_config_to_execute_is_dropped(tmp_path: Path):
    path = save(dict(meta=dict(config="raise SystemExit", iter=3)), tmp_path / "meta.pth")
    assert safe_load.load_safely(path)["meta"] == dict(iter=3)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_truncated(tmp_path: Path, keep: int):
    path = Path(save(dict(weight=torch.zeros(1000)), tmp_path / "cut.pth"))
    path.write_bytes(path.read_bytes()[:keep])
    with raises_one_line(ValueError, "cut.pth"):
        safe_load.load_safely(str(path))


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_anywhere(tmp_path: Path, zipped: bool):
    """Writes over bytes at random: the file is read, or refused in a sentence; no error of torch comes through."""
    path, random = tmp_path / "damaged.pth", np.random.default_rng(0)
    torch.save(dict(state_dict=nn.Linear(2, 2).state_dict()), path, _use_new_zipfile_serialization=zipped)
    sound = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(300):
        damaged = sound.copy()
        damaged[random.integers(0, min(len(damaged), 700), 3)] = random.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        for read in (safe_load.load_safely, read_state):
            try:
                read(str(path))
            except ValueError as error:
                assert str(path) in str(error)
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("read", [safe_load.load_safely, read_state])
@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        PermissionError(13, "Permission denied"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_file_that_cannot_be_read_now_is_not_damaged(
    error: Exception, read: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = save(dict(weight=torch.zeros(2)), tmp_path / "whole.pth")

    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error)) as end:
        read(path)
    assert not isinstance(end.value, ValueError)
    if isinstance(error, OSError):
        assert end.value.errno == error.errno and str(path) in str(end.value)


def test_a_disk_that_fails(tmp_path: Path):
    """Reads memory that is not mapped, as a failing disk does. Resuming does not go to an older step."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("this system has no /proc/self/mem")
    (tmp_path / "iter_4.pth").symlink_to("/proc/self/mem")
    save(dict(state_dict=dict(weight=torch.zeros(2))), tmp_path / "iter_2.pth")
    for read in (lambda: safe_load.load_safely(str(tmp_path / "iter_4.pth")), lambda: newest(str(tmp_path))):
        with raises_one_line(OSError, "iter_4.pth", "Input/output error"):
            read()


def test_one_bit_of_a_tensor(tmp_path: Path):
    path = tmp_path / "flipped.pth"
    torch.save(dict(state_dict=dict(weight=torch.full((64,), 3.0))), path)
    content = bytearray(path.read_bytes())
    content[content.index(np.full(64, 3, np.float32).tobytes()) + 20] ^= 1
    path.write_bytes(content)
    assert torch.load(path)["state_dict"]["weight"][5] != 3  # torch itself reads it
    with raises_one_line(safe_load.BrokenFile, "flipped.pth"):
        safe_load.load_safely(str(path))
    with raises_one_line(ValueError, "flipped.pth", "checksum"):
        read_state(path)


def test_no_checkpoint(tmp_path: Path):
    with raises_one_line(FileNotFoundError, "nowhere.pth"):
        safe_load.load_safely("nowhere.pth")
    text = tmp_path / "text.pth"
    text.write_text("not a checkpoint, but long enough to be read as one")
    with raises_one_line(ValueError, "damaged"):
        safe_load.load_safely(str(text))
    with raises_one_line(ValueError, "Tensor"):
        safe_load.load_safely(save(torch.zeros(2), tmp_path / "tensor.pth"))


def test_every_path_of_mmengine_is_safe(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    safe_load.install()
    assert set(CheckpointLoader._schemes.values()) == {safe_load.load_safely}
    with raises_one_line(FileNotFoundError, "https://example.org/weights.pth"):
        CheckpointLoader.load_checkpoint("https://example.org/weights.pth")


def test_another_model():
    weights = dict(nn.Linear(2, 3).state_dict(), extra=torch.zeros(1))
    with pytest.raises(ValueError) as refused:
        safe_load.load_exactly(nn.Sequential(nn.Linear(2, 3)), weights, "other.pth")
    assert str(refused.value) == (
        "other.pth is a checkpoint of another model, tensors: 2 missing (0.weight), 3 unknown (weight)"
    )
    with raises_one_line(ValueError, "(weight)"):
        safe_load.load_exactly(nn.Linear(4, 3), nn.Linear(2, 3).state_dict(), "other.pth")


def test_load_from_needs_the_whole_backbone_and_no_head():
    model = nn.ModuleDict(dict(backbone=nn.Linear(2, 3), decode_head=nn.Linear(3, 4)))
    weights = {"backbone.weight": torch.ones(3, 2), "backbone.bias": torch.ones(3)}
    safe_load.check_backbone(model, weights, "w.pth")
    for wrong in ({}, {"backbone.bias": torch.ones(3)}, {**weights, "backbone.weight": torch.ones(5, 2)}):
        with raises_one_line(ValueError, "w.pth", "2"):
            safe_load.check_backbone(model, wrong, "w.pth")
