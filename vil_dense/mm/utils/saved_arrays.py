"""Reads the numpy arrays of MMEngine's log history without numpy's own unpickling.

A pickled array of objects holds addresses, which numpy would follow. These classes stand for numpy's in a checkpoint,
take numbers only, and compare the size of an array with its bytes.
"""

import pickle
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

NUMBERS = ("f8", "f4", "i8", "i4", "u8", "u4", "b1")
"""Types of elements that a history has."""


class SavedDtype:
    """Stands for `numpy.dtype`."""

    def __init__(self, name: object, align: object = False, copy: object = False) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Ignores byte order and fields: the name says enough of numbers."""


class SavedArray:
    """Stands for `numpy.ndarray`; `array` is the array that was saved."""

    array: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        """Takes numpy's state: version, shape, dtype, column-major order, bytes."""
        _, shape, dtype, column_major, content = state
        self.array = numbers(dtype, content).reshape(shape, order="F" if column_major else "C")


def make_array(kind: object, shape: object, code: object) -> SavedArray:
    """Stands for numpy's `_reconstruct`, which makes an empty array whose state follows."""
    return SavedArray()


def make_scalar(dtype: SavedDtype, content: bytes) -> Any:
    """Stands for numpy's `scalar`."""
    return numbers(dtype, content)[0]


def numbers(dtype: SavedDtype, content: bytes) -> np.ndarray:
    """Returns the numbers in `content`, one axis.

    Raises:
        pickle.UnpicklingError: they are no numbers.
    """
    if not isinstance(dtype, SavedDtype) or dtype.name not in NUMBERS or not isinstance(content, bytes):
        raise pickle.UnpicklingError(f"GLOBAL numpy.ndarray of {getattr(dtype, 'name', dtype)}")
    return np.frombuffer(content, str(dtype.name)).copy()


def with_arrays(value: Any) -> Any:
    """Returns the content of a checkpoint with numpy's arrays in the places of saved ones."""
    if isinstance(value, SavedArray):
        return value.array
    if isinstance(value, HistoryBuffer):
        vars(value).update({key: with_arrays(part) for key, part in vars(value).items()})
    elif isinstance(value, dict):
        for key, part in value.items():
            value[key] = with_arrays(part)
    elif isinstance(value, (list, tuple)):
        return type(value)(with_arrays(part) for part in value) if type(value) in (list, tuple) else value
    return value


MODULES = ("numpy._core.multiarray", "numpy.core.multiarray")
"""Where numpy has its functions, since version 2 and before."""
STAND_INS: list[Any] = [
    *((make_array, f"{module}._reconstruct") for module in MODULES),
    *((make_scalar, f"{module}.scalar") for module in MODULES),
    (SavedArray, "numpy.ndarray"),
    (SavedDtype, "numpy.dtype"),
]
"""For `torch.serialization.safe_globals`."""
