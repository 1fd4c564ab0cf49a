"""Lets tests run several commands in one process, where a user would have a process for each."""

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer


def forget_runs() -> None:
    """Makes MMEngine forget the runs of this process.

    It keeps what a run logs with by the run's name and second; a later run would write into the folder of the earlier
    one, or to an output that pytest has closed.
    """
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for kept in (MMLogger, MessageHub, Visualizer):
        kept._instance_dict.clear()
