"""Shows the facts of a run on the screen before its first step, then warnings; the log file has all lines."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from vil_dense.mm.engine.shared_batches import share_batches

FRAMEWORKS = ("mmengine", "mmcv", "mmseg")
LOGGING = ("logging", "mmengine.logging", __name__)
NOTES = ("deprecated", "The prefix is not set in metric class")
"""Parts of warnings that are for developers of the frameworks: there is nothing that a user could do."""


class SetUpFilter(logging.Filter):
    """Hides what the frameworks log from a handler, and holds back warnings in `held`, until `done`; errors pass.

    `NOTES` stay hidden.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: list[logging.LogRecord] = []
        self.done = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.WARNING and any(note in record.getMessage() for note in NOTES):
            return False
        if self.done or record.levelno >= logging.ERROR:
            return True
        if record.levelno == logging.WARNING:
            self.held.append(record)
            return False
        return logging_module().partition(".")[0] not in FRAMEWORKS


def logging_module() -> str:
    """Returns the name of the module that logs a line; the caller of MMEngine's `print_log` counts, not its file."""
    frame = sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(LOGGING):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def show_all(logger: MMLogger) -> None:
    """Shows the warnings that were held back, and from here on the lines of the frameworks, too."""
    for handler in logger.handlers:
        for part in (part for part in handler.filters if isinstance(part, SetUpFilter)):
            part.done = True
            while part.held:
                handler.handle(part.held.pop(0))


@contextmanager
def warnings_before_errors() -> Iterator[None]:
    """Shows the warnings that were held back where a set-up fails: they may say why."""
    try:
        yield
    except BaseException:
        if MMLogger._instance_dict:
            show_all(MMLogger.get_current_instance())
        raise


class QuietRunner(Runner):
    """Runs as MMEngine's `Runner` does, and dumps environment, config and hooks to the log file only.

    Until the first step the screen shows the lines of this project, then the warnings. With `log_level="DEBUG"` it
    shows all lines as they come.
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> "QuietRunner":
        """Builds a runner from a config, and says where its log is."""
        with warnings_before_errors():
            runner = super().from_cfg(cfg)
        runner.logger.info(f"log: {runner.logger.log_file}")
        return runner

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Builds a loader as MMEngine does; raises an error, here or later, where its batches cannot be shared."""
        built = isinstance(dataloader, DataLoader)
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        return loader if built else share_batches(loader)

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler and handler.level > logging.DEBUG:
                # the first: a repeated warning is dropped by MMEngine's filter, and one held back comes twice
                handler.filters.insert(0, SetUpFilter())
        return logger

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        super().call_hook(fn_name, **kwargs)
        if fn_name in ("before_train", "before_val", "before_test"):
            show_all(self.logger)
