"""How a command ends: what goes wrong is one sentence on stderr and an exit code, or with `--debug` a traceback."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 128 + signal.SIGINT
"""What shells report of a program that Ctrl-C has ended."""


def format_error(error: Exception) -> str:
    """The message on one line; of an error that is perhaps ours its kind, too, and how it can be seen."""
    words = " ".join(str(error).split())
    return words if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {words} {traceback_hint()}"


def traceback_hint(log: str | None = None) -> str:
    return f"(the traceback: {log or '--debug'})"


@contextmanager
def exit_on_error(
    debug: bool = False, code: int = 2, words: Callable[[Exception], str] = format_error
) -> Iterator[None]:
    """Ends the program with `code`, or after Ctrl-C with `INTERRUPTED`, unless `debug` lets the traceback through."""
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
