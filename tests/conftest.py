"""Holds the settings of all tests."""

import gc
import os

# The tensors of the tests are small: a second thread would only wait for the first. Processes that tests start inherit
# it, and torch reads it when it is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leaves what the imports made out of later garbage collections: mmseg asks for a full one in every data set that
    it makes, and in a process with all modules of the tests each took seconds."""
    gc.collect()
    gc.freeze()
