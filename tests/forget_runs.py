"""For tests that run several commands in one process, where a user would have a process for each."""

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer


def forget_runs() -> None:
    """MMEngine keeps what a run logs with by the run's name and second; a later run would write into its folder, or to
    an output that pytest has closed."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for kept in (MMLogger, MessageHub, Visualizer):
        kept._instance_dict.clear()
