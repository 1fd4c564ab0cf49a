"""Holds the settings of all tests."""

import gc
import os
import random

# The tensors of the tests are small: a second thread would only wait for the first. Processes that tests start inherit
# it, and torch reads it when it is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """Starts each test with the same random numbers: a drop path that dropped its whole batch had failed a test of
    training once in a while."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leaves what the imports made out of later garbage collections: mmseg asks for a full one in every data set that
    it makes, and in a process with all modules of the tests each took seconds."""
    gc.collect()
    gc.freeze()
