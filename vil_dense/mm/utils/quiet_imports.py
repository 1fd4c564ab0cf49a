"""Imports mmseg without what it says of optional packages."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

ONEDL = "Could not import OneDL"
OPERATORS = r"(Fail to import )?``MultiScaleDeformableAttention``"


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Hides two messages while mmseg is imported; all others are shown once that is done.

    mmseg prints a line where OneDL's data sets are missing, mmcv warns where its compiled operators are. Nothing here
    uses either.
    """
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(printed):
            warnings.filterwarnings("ignore", OPERATORS)
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if line != ONEDL:
                print(line)
