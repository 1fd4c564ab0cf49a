"""Asserts what a refusal names and that it is one line, and leaves its wording free."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def assert_one_line(text: str, *names: object) -> None:
    """Asserts that `text` is one line and holds each of `names`: paths, options, numbers, known values."""
    assert text.strip() and "\n" not in text.strip(), f"one line was expected: {text!r}"
    missing = [str(name) for name in names if str(name) not in text]
    assert not missing, f"{missing} not named in {text!r}"


def assert_error_line(text: str, *names: object) -> None:
    """Asserts that the output of a command ends in its only line of error, without a traceback, and that this holds
    each of `names`."""
    last = text.rstrip().rpartition("\n")[2]
    assert "Traceback" not in text and text.count("error: ") == 1 and "error: " in last, text
    assert_one_line(last, *names)


@contextmanager
def raises_one_line(error: type[BaseException], *names: object) -> Iterator[pytest.ExceptionInfo]:
    """Expects an error whose message is one line that holds each of `names`."""
    with pytest.raises(error) as caught:
        yield caught
    assert_one_line(str(caught.value), *names)
