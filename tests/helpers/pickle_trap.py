"""Defines an object whose pickle runs code."""

import os
from pathlib import Path


class Trap:
    """Makes the folder `canary` when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.canary),)
