"""Reports the errors of a command as one sentence on stderr and an exit code, or with `--debug` as a traceback."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 128 + signal.SIGINT
"""Exit code that shells report for a program that was ended by Ctrl-C."""


def format_error(error: Exception) -> str:
    """Returns the message on one line; for an error that may be a bug also its type and how to see the traceback."""
    message = " ".join(str(error).split())
    if isinstance(error, (OSError, ValueError)):
        return message
    return f"{type(error).__name__}: {message} {traceback_hint()}"


def traceback_hint(log: str | None = None) -> str:
    """Returns a note on where the traceback is: in the file `log`, or shown with `--debug`."""
    return f"(the traceback: {log or '--debug'})"


@contextmanager
def exit_on_error(
    debug: bool = False, code: int = 2, words: Callable[[Exception], str] = format_error
) -> Iterator[None]:
    """Ends the program with `code` at an error, or with `INTERRUPTED` at Ctrl-C; with `debug` errors pass through."""
    try:
        yield
    except KeyboardInterrupt:
        if debug:
            raise
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        print(f"error: {words(error)}", file=sys.stderr)
        sys.exit(code)
