"""Provides a fixture for tests that run MMEngine: `conftest.py` of each of their folders imports it."""

from collections.abc import Iterator

import pytest
from forget_runs import forget_runs
from quick_runs import quicken_runs


@pytest.fixture(autouse=True)
def fresh_mmengine() -> Iterator[None]:
    """Lets each test start in mmseg's scope, with no other test's logs, and makes its runs quick (`quicken_runs`)."""
    from mmengine.registry import init_default_scope

    init_default_scope("mmseg")
    forget_runs()  # a warning of that has made a logger, which writes to where output went before the test
    with pytest.MonkeyPatch.context() as patch:
        quicken_runs(patch)
        yield
    forget_runs()
