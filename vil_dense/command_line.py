"""The command line that the tools share. Nothing slow is imported, so that `--help` answers at once."""

import argparse
from collections.abc import Sequence


def plain_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the option that every tool has: `--debug`."""
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return arguments


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


class Overrides(argparse.Action):
    """Reads `key=value ...` as MMEngine's `DictAction` does, which is imported only when there is something to read.

    What is not of that form ends in argparse's sentence.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        from mmengine.config import DictAction

        for value in values or ():
            key, equals, _ = value.partition("=")
            if not (key and equals) or "" in key.split("."):
                raise argparse.ArgumentError(self, f"expected key=value with dots in the key, got {value!r}")
        try:
            DictAction(self.option_strings, self.dest, nargs=self.nargs)(parser, namespace, values, option_string)
        except AssertionError as error:  # brackets that do not match
            raise argparse.ArgumentError(self, str(error)) from None
