"""Tests the screen while a run is set up: facts, then warnings; what the frameworks log is for the file."""

import io
import logging
import warnings

import pytest
from mmengine.logging import MMLogger, print_log

from vil_dense.mm.engine.quiet_runner import SetUpFilter, show_all, warnings_before_errors
from vil_dense.mm.utils.quiet_imports import quiet_imports


@pytest.fixture
def logger(request: pytest.FixtureRequest) -> MMLogger:
    """Returns a logger with a filter of the set-up on the handler of its screen, `logger.handlers[0]`."""
    logger = MMLogger.get_instance(request.node.name)
    logger.handlers[0].setStream(io.StringIO())
    logger.handlers[0].filters.insert(0, SetUpFilter())
    yield logger
    MMLogger._instance_dict.pop(request.node.name)


def shown(logger: MMLogger) -> list[str]:
    """Returns the messages on the screen, without level and time."""
    return [line.rpartition(" - ")[2] for line in logger.handlers[0].stream.getvalue().splitlines()]


def log_as(module: str, logger: MMLogger, line: str, level: int = logging.INFO) -> None:
    """Logs a line from a module of that name, by the logger and by MMEngine's `print_log`."""
    code = "logger.log(level, line); print_log(line + ' printed', logger, level)"
    exec(code, dict(__name__=module, logger=logger, level=level, line=line, print_log=print_log))


def test_lines_of_frameworks_are_hidden(logger: MMLogger) -> None:
    log_as("mmengine.runner.runner", logger, "Config")
    log_as("vil_dense.mm.engine.runner", logger, "norm")
    assert shown(logger) == ["norm", "norm printed"]
    show_all(logger)
    log_as("mmengine.hooks.logger_hook", logger, "Iter(train)")
    assert shown(logger) == ["norm", "norm printed", "Iter(train)", "Iter(train) printed"]


def test_warnings_come_last_and_once(logger: MMLogger) -> None:
    log_as("mmseg", logger, "weights do not match", logging.WARNING)
    log_as("mmseg", logger, "weights do not match", logging.WARNING)
    log_as("vil_dense", logger, "norm")
    log_as("mmengine", logger, "it will be deprecated", logging.WARNING)
    show_all(logger)
    show_all(logger)
    log_as("mmengine", logger, "that will be deprecated", logging.WARNING)
    assert shown(logger) == ["norm", "norm printed", "weights do not match", "weights do not match printed"]


def test_warnings_are_shown_where_the_set_up_fails(logger: MMLogger) -> None:
    log_as("mmseg", logger, "weights do not match", logging.WARNING)
    with pytest.raises(ValueError, match="no data"), warnings_before_errors():
        raise ValueError("no data")
    assert shown(logger) == ["weights do not match", "weights do not match printed"]


def test_errors_are_shown_at_once(logger: MMLogger) -> None:
    log_as("mmengine", logger, "broken", logging.ERROR)
    assert shown(logger) == ["broken", "broken printed"]


def test_imports_hide_two_messages_only(capsys: pytest.CaptureFixture) -> None:
    with pytest.warns(UserWarning) as warned, quiet_imports():
        print("Could not import OneDL")
        print("Could not import numpy")
        warnings.warn("``MultiScaleDeformableAttention`` is missing", stacklevel=1)
        warnings.warn("numpy is missing", stacklevel=1)
    assert capsys.readouterr().out == "Could not import numpy\n"
    assert [str(each.message) for each in warned] == ["numpy is missing"]
