"""What the tests of `vil_dense.mm` share."""

from collections.abc import Iterator

import pytest
from forget_runs import forget_runs


@pytest.fixture(autouse=True)
def fresh_mmengine() -> Iterator[None]:
    """Each test starts in mmseg's scope and with no other test's logs."""
    from mmengine.registry import init_default_scope

    init_default_scope("mmseg")
    yield
    forget_runs()
