"""Tests the progress of a loop: lines in a file or a log, a bar on a terminal."""

import io
import pickle

import pytest

from vil_dense import progress
from vil_dense.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns a list whose one number is the time."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_every_few_seconds_and_at_the_end(clock: list[float]) -> None:
    """Expects, after half of the first of two pictures in 10 s, 30 s more."""
    stream = io.StringIO()
    with Progress("pictures", stream=stream) as report:
        for clock[0], done in ((0.5, 1), (10.0, 4), (12.0, 5), (20.0, 8), (20.5, 16)):
            report(done / 8, 2, f"window {done} of 16")
    assert stream.getvalue().splitlines() == [
        "pictures: 0 of 2, window 4 of 16, ETA 0:00:30",
        "pictures: 1 of 2, window 8 of 16, ETA 0:00:20",
        "pictures: 2 of 2, window 16 of 16, ETA 0:00:00",
    ]


def test_a_log_takes_lines_of_long_loops_only(clock: list[float]) -> None:
    said: list[str] = []
    report = Progress("reading", said.append)
    for clock[0], done in ((1.0, 1), (6.0, 2), (7.0, 4)):
        report(done, 4)
    assert said == ["reading: 2 of 4, ETA 0:00:06"]


def test_a_long_loop_leaves_few_lines(clock: list[float]) -> None:
    """Tests 20 minutes: the first lines come every 5 s, the last ones every minute."""
    said: list[str] = []
    report, times = Progress("reading", said.append), []
    for second in range(1, 1201):
        clock[0], before = float(second), len(said)
        report(second, 1200)
        times += [second] * (len(said) - before)
    assert times[:3] == [5, 10, 15] and times[-1] - times[-2] == 60 and len(times) < 35


def test_data_sets_hand_it_to_their_loader_processes() -> None:
    assert pickle.loads(pickle.dumps(Progress("reading", print))).say is print


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress("pictures", stream=stream) as report:
        report(1, 2, "[window] 1 of 2")
        report(2, 2)
    shown = stream.getvalue()
    assert "━" in shown and "pictures: 2 of 2" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is hidden, and there again


def test_the_bar_ends_where_the_loop_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(ValueError, match="broken"), Progress("pictures", stream=stream) as report:
        report(1, 2, "[window]")
        raise ValueError("broken")
    assert "pictures: 1 of 2, [window]" in stream.getvalue() and stream.getvalue().count("\x1b[?25h") == 1
