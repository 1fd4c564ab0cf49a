"""Tests checkpoints of strangers: nothing in them is followed as an address, run, or given memory the file has not."""

import io
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from vil_dense.mm.utils.safe_load import load_safely
from vil_dense.state_files import read_state

READERS = [load_safely, read_state]


def archive(path: Path, content: bytes, packed: bool = False) -> Path:
    """Writes a file as `torch.save` does, with this pickle in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return path


class Reduced:
    """Pickles as a call of a function, with a state."""

    def __init__(self, *reduced: object) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


def objects() -> bytes:
    """Returns a pickle of an array of objects whose addresses are bytes of the file."""
    state = (1, (2,), np.dtype("O"), False, struct.pack("<QQ", 0x41414141, 0x41414141))
    array = Reduced(np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state)
    return pickle.dumps(dict(state_dict=dict(a=array)), 2)


def claimed() -> bytes:
    """Returns a pickle of an array that is said to have 8 GB, and has eight bytes."""
    state = (1, (10**9,), np.dtype("f8"), False, b"12345678")
    array = Reduced(np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state)
    return pickle.dumps(dict(state_dict=dict(a=array)), 2)


def nested() -> bytes:
    """Returns a pickle of a tuple in a tuple, a hundred thousand times, that is the key of a dict."""
    return b"\x80\x02}q\x00K\x01" + b"\x85" * 100_000 + b"K\x02s."


def allocated() -> bytes:
    """Returns a pickle that asks for 10 GB of zeros."""
    return pickle.dumps(dict(state_dict=dict(a=Reduced(bytearray, (10**10,)))), 2)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [nested, allocated])
def test_so_are_those_of_torchs_old_format(read: Callable, content: Callable[[], bytes], tmp_path: Path) -> None:
    """Tests a file whose content is its fourth pickle."""
    path = tmp_path / "a.pth"
    system = dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
    header = [0x1950A86A20F9469CFC6C, 1001, system]
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in header) + content() + pickle.dumps([], 2))
    with pytest.raises(ValueError, match=r"a\.pth") as error:
        read(str(path))
    assert re.search("nests deeper|bytearray", str(error.value.__context__))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [objects, claimed, nested, allocated])
def test_hostile_pickles_are_refused(read: Callable, content: Callable[[], bytes], tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pth", content())
    with pytest.raises(ValueError, match=r"a\.pth") as error:
        read(str(path))
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


@pytest.mark.parametrize("read", READERS)
def test_a_packed_record_is_refused(read: Callable, tmp_path: Path) -> None:
    """Packs GB of zeros into a few kB, which torch would unpack before it compares anything."""
    with zipfile.ZipFile(tmp_path / "plain.pth", "w") as _:
        pass
    torch.save(dict(state_dict=dict(a=torch.zeros(1000))), tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "a.pth", "w") as packed:
        for record in plain.infolist():
            packed.writestr(record.filename, plain.read(record), zipfile.ZIP_DEFLATED)
    assert torch.equal(read_state(tmp_path / "plain.pth")["a"], torch.zeros(1000))
    with pytest.raises(ValueError, match=r"a\.pth"):
        read(str(tmp_path / "a.pth"))


def test_histories_and_large_dicts_are_read(tmp_path: Path) -> None:
    """Reads what MMEngine itself saves: numpy in the log's history, and many items in one dict."""
    history = HistoryBuffer([0.5, 0.25], [1, 2])
    weights = {f"layer.{n}.weight": torch.tensor(float(n)) for n in range(5000)}
    many = {n: [n] for n in range(200_000)}
    hub = dict(log_scalars={"loss": history}, step=np.int64(7), rate=np.float32(0.5))
    torch.save(dict(state_dict=weights, message_hub=hub, many=many), tmp_path / "a.pth")
    read = load_safely(str(tmp_path / "a.pth"))
    found = read["message_hub"]["log_scalars"]["loss"]
    np.testing.assert_array_equal(found.data[0], [0.5, 0.25])
    np.testing.assert_array_equal(found.data[1], [1, 2])
    assert found.mean() == history.mean() and found.current() == 0.25
    assert read["message_hub"]["step"] == 7 and read["message_hub"]["rate"] == np.float32(0.5)
    assert read["many"] == many and read["state_dict"].keys() == weights.keys()


def test_a_file_of_the_old_format(tmp_path: Path) -> None:
    torch.save(dict(a=torch.ones(3)), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_state(tmp_path / "a.pth")["a"], torch.ones(3))
    stream = io.BytesIO()
    pickle.dump(Reduced(bytearray, (10**10,)), stream, 2)
    (tmp_path / "b.pth").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match=r"b\.pth"):
        read_state(tmp_path / "b.pth")
