"""A fixture for tests that run MMEngine: `conftest.py` of each of their folders imports it."""

from collections.abc import Iterator

import pytest
from forget_runs import forget_runs


@pytest.fixture(autouse=True)
def fresh_mmengine() -> Iterator[None]:
    """Each test starts in mmseg's scope and with no other test's logs."""
    from mmengine.registry import init_default_scope

    init_default_scope("mmseg")
    forget_runs()  # a warning of that has made a logger, which writes to where output went before the test
    yield
    forget_runs()
