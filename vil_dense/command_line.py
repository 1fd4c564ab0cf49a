"""Parses the command line that all tools share. Nothing slow is imported, so that `--help` answers at once."""

import argparse
import ast
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from vil_dense.heap import keep_freed_memory


def plain_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the option that every tool has: `--debug`. A removed current folder ends the program.

    Every tool calls this function before it imports a library, so it also calls `spare_libraries` and
    `keep_freed_memory`.
    """
    spare_libraries()
    keep_freed_memory()
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    arguments.add_argument("--debug", action="store_true", help="show the traceback of an error")
    try:
        os.getcwd()
    except FileNotFoundError:  # MKL would end the program with a message about a library of its own
        arguments.exit(2, "error: the current folder has been removed: change to another one\n")
    return arguments


def spare_libraries() -> None:
    """Limits `python -W error` and PYTHONWARNINGS=error to the warnings of this package, and OpenCV to errors.

    Libraries warn as they are imported, torch of functions of its own: as an error this would end every tool in a
    traceback that its user cannot mend. OpenCV writes five lines for each GeoTIFF, on tags that it does not know. It
    reads its level when it is imported.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    if any(option.startswith("error") for option in sys.warnoptions):
        libraries = r"(?!vil_dense\b|__main__$)"
        warnings.filterwarnings("default", module=libraries)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=libraries)


def parser(description: str, config: str | None = None) -> argparse.ArgumentParser:
    """Returns a parser with mmseg's arguments: config, its overrides, work folder and launcher.

    Args:
        description: the text above the options in `--help`.
        config: "?" where the config may be left out.
    """
    arguments = plain_parser(description)
    arguments.add_argument("config", nargs=config, help="config file")
    arguments.add_argument("--work-dir", help="folder for logs and results (default: work_dirs/<config>)")
    arguments.add_argument("--cfg-options", nargs="+", action=Overrides, default={}, help="overrides, key=value")
    arguments.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    arguments.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return arguments


def at_least(least: float, kind: Callable[[str], float] = int) -> Callable[[str], float]:
    """Returns a `type` for argparse: a number from `least` on, whole unless `kind` is float; infinity and nan are none.

    A wrong number ends in argparse's sentence, before anything is read or written.
    """

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            whole = "whole " if kind is int else ""
            raise argparse.ArgumentTypeError(f"a {whole}number from {least:g} on is expected, got {text}")
        return value

    return number


class Overrides(argparse.Action):
    """Reads `key=value ...` by `parse_value`; other forms end in argparse's sentence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        for value in values or ():
            key, equals, _ = value.partition("=")
            if not (key and equals) or "" in key.split("."):
                raise argparse.ArgumentError(self, f"expected key=value with dots in the key, got {value!r}")
        try:
            parsed = {key: parse_value(text) for key, _, text in (value.partition("=") for value in values or ())}
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), **parsed})


def parse_value(text: str) -> Any:
    """Returns the value that a text of the command line stands for, as MMEngine reads it, with its spaces kept.

    Numbers, True, False, None, quoted texts, lists, tuples and dicts are read as Python does; words in a list or tuple
    may be without quotes, as in `[mIoU,mDice]`, and `a,b` is a list. Everything else is a text, such as a path.

    Raises:
        ValueError: brackets do not match or follow a word, as in `dict(a=1,b=2)`, or a text with a space in a list has
            no quotes.
    """
    stripped = text.strip()
    for read in (int, float, ast.literal_eval):
        try:
            value = read(stripped)
        except (ValueError, SyntaxError):
            continue
        return list(value) if isinstance(value, tuple) and not stripped.startswith("(") else value
    if stripped.lower() in ("true", "false"):
        return stripped.lower() == "true"
    if not stripped or (stripped[0] not in "[(" and "," not in stripped):
        return text
    if any(" " in word.strip() for word in re.split(r"[][(),]", stripped)):
        raise ValueError(f"a text with a space or a comma needs quotes of its own, as in key='\"a, b\"'; got {text!r}")
    from mmengine.config import DictAction

    try:
        return DictAction._parse_iterable(stripped)
    except AssertionError as error:
        raise ValueError(f"brackets do not match in {text!r}: {error}") from None
    except RecursionError:  # MMEngine's parser does not end at a bracket behind a word
        raise ValueError(
            f"a dict is written as {{'type': 'NAME'}}, and not as dict(type='NAME'); got {text!r}"
        ) from None
