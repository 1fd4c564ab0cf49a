"""Clears MMEngine's records of runs, for tests that run in one process what a user runs in several."""

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer


def forget_runs() -> None:
    """Forgets loggers and visualizers. MMEngine keeps them by the run's name and second; a later run would write
    into the folder of an earlier one, or to an output that pytest has closed."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for kept in (MMLogger, MessageHub, Visualizer, *Visualizer.__subclasses__()):  # each has instances of its own
        kept._instance_dict.clear()
