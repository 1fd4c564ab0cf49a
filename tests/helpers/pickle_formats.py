"""Makes files that would run code when they are unpickled, in every format, and says what loads each without care."""

import io
import pickle

import numpy as np
import torch
import yaml
from pickle_trap import Trap


def zip_pickle(trap: Trap) -> bytes:
    """Returns a file in torch's format; a weight stands beside the trap."""
    file = io.BytesIO()
    torch.save(dict(state_dict=dict(weight=torch.zeros(2), trap=trap), meta=dict(trap=trap)), file)
    return file.getvalue()


def _legacy(trap: Trap) -> bytes:
    """Returns a file in torch's format before 1.6."""
    file = io.BytesIO()
    torch.save(dict(state_dict=dict(weight=torch.zeros(2), trap=trap)), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def plain_pickle(trap: Trap) -> bytes:
    return pickle.dumps(dict(state_dict=trap), protocol=2)


def _newest(trap: Trap) -> bytes:
    return pickle.dumps(trap, protocol=pickle.HIGHEST_PROTOCOL)


def _array(trap: Trap) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([trap], dtype=object), allow_pickle=True)
    return file.getvalue()


def _arrays(trap: Trap) -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=np.array([trap], dtype=object))
    return file.getvalue()


def _yaml(trap: Trap) -> bytes:
    return f"!!python/object/apply:os.mkdir ['{trap.canary}']".encode()


FORMATS = dict(
    zip=zip_pickle, legacy=_legacy, plain=plain_pickle, newest=_newest, array=_array, arrays=_arrays, yaml=_yaml
)
SPRINGS = dict(
    zip=lambda path: torch.load(path, weights_only=False),
    legacy=lambda path: torch.load(path, weights_only=False),
    plain=lambda path: pickle.loads(path.read_bytes()),
    newest=lambda path: pickle.loads(path.read_bytes()),
    array=lambda path: np.load(path, allow_pickle=True),
    arrays=lambda path: np.load(path, allow_pickle=True)["weight"],
    yaml=lambda path: yaml.unsafe_load(path.read_text()),
)
