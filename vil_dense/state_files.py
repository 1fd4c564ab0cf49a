"""Reads and writes state dicts without running code from a file; errors name the damaged file."""

import errno
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from vil_dense.files import check_sums, write_whole


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
            check_sums(path)
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


def write_state(state: dict[str, Tensor], path: str | Path) -> None:
    """Writes `.safetensors`, or `.pth` as dict(state_dict=...), atomically."""
    path = Path(path)

    def write(part: Path) -> None:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, part)
        else:
            torch.save(dict(state_dict=state), part)

    write_whole(path, write)
