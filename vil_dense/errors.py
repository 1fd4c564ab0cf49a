"""Reports the errors of a command as one sentence on stderr and an exit code, or with `--debug` as a traceback; and
refuses options with unknown names."""

import os
import select
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
"""Exit code that shells report for a program that was ended by Ctrl-C."""
PIPE_CLOSED = 128 + signal.SIGPIPE
"""Exit code that shells report for a program whose output nobody reads."""


def format_error(error: Exception) -> str:
    """Returns the message on one line; for an error that may be a bug also its type and how to see the traceback."""
    message = " ".join(str(error).split())
    if isinstance(error, (OSError, ValueError)):
        return message
    return f"{type(error).__name__}: {message} {traceback_hint()}"


def refuse_unknown(options: Iterable[str], known: Iterable[str], of: str) -> None:
    """Checks that the names of options are known; `self` and `options` in `known` are not names of options.

    Raises:
        ValueError: one is not; it names the nearest known one, and all of them.
    """
    known = sorted({*known} - {"self", "options"})
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"{of} has no option {name!r}{hint}; known: {', '.join(known) or 'none'}")


def refuse_other(name: object, known: Collection[str], what: str) -> None:
    """Raises ValueError if `name` is none of the `known` ones; it calls the name `what` and lists the known ones."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")


def traceback_hint(log: str | None = None) -> str:
    """Returns a note on where the traceback is: in the file `log`, or shown with `--debug`."""
    return f"(the traceback: {log or '--debug'})"


@contextmanager
def exit_on_error(
    debug: bool = False, code: int = 2, words: Callable[[Exception], str] = format_error
) -> Iterator[None]:
    """Ends the program with `code` at an error, or with `INTERRUPTED` at Ctrl-C; with `debug` errors pass through.

    A reader of the output that goes away, as in `... | head`, ends the program with `PIPE_CLOSED` and without a word.
    """
    try:
        yield
        sys.stdout.flush()  # an error of it would come when Python ends, with a traceback and exit code 120
    except KeyboardInterrupt:
        if debug:
            raise
        _end_interrupted()
    except Exception as error:
        if _reader_is_gone(error):
            sys.exit(PIPE_CLOSED)
        if ending := ended_by(error):
            _end_interrupted() if isinstance(ending, KeyboardInterrupt) else sys.exit(ending.code)
        if debug:
            raise
        print(f"error: {words(error)}", file=sys.stderr)
        sys.exit(code)


def ended_by(error: BaseException | None) -> KeyboardInterrupt | SystemExit | None:
    """Returns the interrupt or exit in whose handling an error arose: libraries catch both and raise their own."""
    while error is not None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return error
        error = error.__cause__ or error.__context__
    return None


def _end_interrupted() -> NoReturn:
    print("stopped by Ctrl-C", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _reader_is_gone(error: Exception) -> bool:
    """Returns whether nobody reads stdout any more, and if so sends what is left of it nowhere."""
    if not isinstance(error, BrokenPipeError):
        return False
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
