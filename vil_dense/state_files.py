"""Reads and writes state dicts without running code from a file; errors name the damaged file."""

import errno
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor

from vil_dense.files import write_whole

FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
"""Operations of a pickle that add to a value which is there already, the last that they take."""
DEEPEST = 60
"""Containers within each other in a checkpoint; those of MMEngine have about 10."""
PICKLES = 5
"""Pickles in a file of torch's format before zip archives: magic number, version, system, content, storages."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Reads the tensors of a `.safetensors`, `.th` or `.pth` file, unwrapped from `state_dict`; runs no code of it.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError, MemoryError: the file cannot be read, see `check_damage`.
        ValueError: the file is damaged, or holds objects other than tensors and plain values, or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            check_archive(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # an unusual pickle protocol is refused below or harmless
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was not loaded: it holds objects other than tensors and plain values, which could run code, "
            f"or it is damaged ({str(error).splitlines()[0]})"
        ) from error
    except Exception as error:  # torch's unpickler fails on damaged files in every way, IndexError and others
        check_damage(error, path)
        raise ValueError(
            f"{path} is not a complete checkpoint: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise ValueError(f"{path} holds no tensors; expected a state dict or a file with the key 'state_dict'")
    return state


def check_archive(path: str | Path) -> None:
    """Checks a file of `torch.save` before torch reads it: checksums, sizes and what its pickle asks for.

    Files of the format before zip archives, which have no checksums, are checked for their pickles alone.

    Raises:
        ValueError: a record does not match its checksum, is packed (a small file can so claim any memory), or its
            pickle nests deeper than `DEEPEST` or allocates by a number.
        zipfile.BadZipFile: the directory of the archive is damaged.
    """
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            for _ in range(PICKLES):
                if file.peek(1):
                    _check_pickle(file)
        return
    with zipfile.ZipFile(path) as records:
        for record in records.infolist():
            if record.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its record {record.filename} is packed, and torch writes none so")
        if (damaged := records.testzip()) is not None:
            raise ValueError(f"the checksum of {damaged} does not match")
        for name in records.namelist():
            if name.endswith("data.pkl"):
                with records.open(name) as file:
                    _check_pickle(file)


def _check_pickle(file: IO[bytes]) -> None:
    """Follows the operations of the next pickle of a file without running any."""
    stack: list[Any] = []  # depth of each value; None is a mark
    memo: dict[Any, int] = {}
    try:
        for operation, argument, _ in pickletools.genops(file):
            name = operation.name
            if name in ("GLOBAL", "STACK_GLOBAL") and str(argument).endswith("bytearray"):
                raise ValueError("its pickle allocates a bytearray")
            if name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(memo.get(argument, 0))
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            else:
                taken = _take(stack, operation)
                # Filling a container, many items at a time, makes it no deeper than they are.
                grown = taken.pop() if name in FILLING and taken else 0
                depth = max(grown, 1 + max(taken, default=0))
                if depth > DEEPEST:
                    raise ValueError(f"its pickle nests deeper than {DEEPEST}")
                stack += [None if after is pickletools.markobject else depth for after in operation.stack_after]
    except (IndexError, struct.error, MemoryError):  # the last: a file allocates the length that a value claims
        return  # damaged: torch's reader says so


def _take(stack: list[Any], operation: pickletools.OpcodeInfo) -> list[int]:
    """Removes what an operation takes from the stack; returns the depths."""
    before = operation.stack_before
    if pickletools.markobject not in before:
        taken = [stack.pop() for _ in before]
    else:
        taken = []
        while (depth := stack.pop()) is not None:
            taken.append(depth)
        taken += [stack.pop() for _ in range(before.index(pickletools.markobject))]
    return [depth for depth in taken if depth is not None]


def check_damage(error: Exception, path: str | Path) -> None:
    """Raises the error of a failed read of a checkpoint again, unless the file may be damaged.

    Raises:
        OSError: the cause is the disk, the network or the access rights; names the file.
        MemoryError, RuntimeError: there is too little memory for the content.
    """
    if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a damaged offset was used in a seek
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    is_out_of_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    # torch's old format has no checksums, so the size of a tensor may be damaged
    if is_out_of_memory or ("DefaultCPUAllocator" in str(error) and zipfile.is_zipfile(path)):
        raise error


def write_state(state: dict[str, Tensor], path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Writes `.safetensors`, with texts in its metadata, or `.pth` as dict(state_dict=...), atomically.

    Tied weights, which have one memory under several names, are written to `.safetensors` once for each name.
    """
    path = Path(path)

    def write(part: Path) -> None:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(_untied(state), part, metadata)
        else:
            torch.save(dict(state_dict=state), part)

    write_whole(path, write)


def _untied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors, contiguous, each with a memory of its own, which safetensors requires."""
    memories, untied = set[int](), dict[str, Tensor]()
    for name, tensor in state.items():
        memory = tensor.untyped_storage().data_ptr()
        untied[name] = (
            tensor.clone(memory_format=torch.contiguous_format) if memory in memories else tensor.contiguous()
        )
        memories.add(memory)
    return untied


def drop_source_records(path: Path) -> None:
    """Removes the names of source files, with folders of this machine, and their lines from a TorchScript file."""

    def copy(part: Path) -> None:
        with zipfile.ZipFile(path) as stored, zipfile.ZipFile(part, "w") as kept:
            for record in stored.infolist():
                if not record.filename.endswith(".debug_pkl"):
                    kept.writestr(record, stored.read(record))

    write_whole(path, copy)
