"""What the tests of `vil_dense.mm` share."""

import pytest


@pytest.fixture(autouse=True)
def default_scope() -> None:
    """Each test starts in mmseg's scope, whatever the one before it built."""
    from mmengine.registry import init_default_scope

    init_default_scope("mmseg")
