"""Tests that files of state dicts come back whole; a file that is damaged or would run code is refused."""

import pickle
from pathlib import Path

import pytest
import torch
from pickle_trap import Trap
from refusals import raises_one_line
from small_models import build

from vil_dense.state_files import read_state, write_state


@pytest.mark.parametrize("tied", [False, True], ids=["apart", "tied"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_written_files_come_back_and_leave_nothing_beside(tmp_path: Path, suffix: str, tied: bool) -> None:
    model = build()
    if tied:
        model.blocks[1].layer = model.blocks[0].layer
    state = model.state_dict()
    write_state(state, tmp_path / f"new/w{suffix}")
    back = read_state(tmp_path / f"new/w{suffix}")
    assert all(torch.equal(back[key], value) for key, value in state.items()) and len(back) == len(state)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"w{suffix}"]


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: dict(state_dict=x), lambda x: dict(state_dict={}, extra=x)])
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, wrap, writer: str) -> None:
    path, ran = tmp_path / "weights.th", tmp_path / "ran"
    if writer == "torch":
        torch.save(wrap(Trap(ran)), path)
    else:
        path.write_bytes(pickle.dumps(wrap(Trap(ran))))
    with raises_one_line(ValueError, "run code"):
        read_state(path)
    assert not ran.exists()


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, "none.pth"):
        read_state(tmp_path / "none.pth")
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"cut{suffix}"
        write_state(build().state_dict(), path)
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ValueError, match=r"^[^\n]*(whole|damaged)[^\n]*$"):
            read_state(path)
        path.write_bytes(b"")
        with pytest.raises(ValueError, match=r"^[^\n]*(whole|damaged)[^\n]*$"):
            read_state(path)
    torch.save(dict(epoch=3), tmp_path / "plain.pth")
    with raises_one_line(ValueError, "no tensors"):
        read_state(tmp_path / "plain.pth")
