"""Tests that `--cfg-options` takes what a shell gives it: spaces, commas, equals signs, quotes, other alphabets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import DictAction
from PIL import Image

from vil_dense.command_line import Overrides, parse_value, plain_parser

PROGRAM = """
import json
import os
from vil_dense.command_line import Overrides, plain_parser
arguments = plain_parser(None)
arguments.add_argument("--cfg-options", nargs="+", action=Overrides, default={})
print(json.dumps(arguments.parse_args().cfg_options))
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("my data", "my data"),
        (" leading", " leading"),
        ("'a, b'", "a, b"),
        ('"a,b"', "a,b"),
        ("/data/a=b/c", "/data/a=b/c"),
        ("Bilder/größe 2", "Bilder/größe 2"),
        ("(512, 512)", (512, 512)),
        ("512,512", [512, 512]),
        ("['a b', 'c,d']", ["a b", "c,d"]),
        ("dict", "dict"),
        ("{'a': 1}", {"a": 1}),
        ("", ""),
    ],
)
def test_texts_keep_what_they_hold(text: str, value: object) -> None:
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


LIKE_MMENGINE = """
1 -2 1.5 1e-3 0010 True true False false None none a a/b.pth [1,2] (1,2) [a,b] a,b [(1,2),[3,4]] 'a' a.b=c 1,2.5 []
"""


@pytest.mark.parametrize("text", LIKE_MMENGINE.split())
def test_all_else_is_as_mmengine_reads_it(text: str) -> None:
    theirs = DictAction._parse_iterable(text)
    assert parse_value(text) == theirs and type(parse_value(text)) is type(theirs)


@pytest.mark.parametrize("text", ["[my data,b]", "my data,b", "[1,2"])
def test_what_is_ambiguous_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_value(text)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_through_a_shell(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    options = """a.b="my data" c='"x, y"' d="(1, 2)" e=[u,v] f='$HOME' g=a=b --cfg-options h=3"""
    line = f"'{sys.executable}' program.py --cfg-options {options}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = {"a.b": "my data", "c": "x, y", "d": [1, 2], "e": ["u", "v"], "f": "$HOME", "g": "a=b", "h": 3}
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("option", ["key", "=1", "a..b=1", ".a=1", "a=[1,2"])
def test_other_forms_end_in_a_line(option: str, capsys: pytest.CaptureFixture) -> None:
    arguments = plain_parser(None)
    arguments.add_argument("--cfg-options", nargs="+", action=Overrides, default={})
    with pytest.raises(SystemExit) as end:
        arguments.parse_args(["--cfg-options", option])
    assert end.value.code == 2 and repr(option.partition("=")[2] or option)[1:-1] in capsys.readouterr().err


def test_a_folder_that_was_removed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    line = f"mkdir gone && cd gone && rmdir ../gone && exec '{sys.executable}' '{tmp_path}/program.py'"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr


def test_warnings_as_errors_are_those_of_this_package(tmp_path: Path) -> None:
    """Lets torch warn under `python -W error`, at its import and later, and makes a warning of ours an error."""
    code = PROGRAM + "import torch.distributed.optim, warnings\nexec(compile(LATE, 'late.py', 'exec'), SCOPE)"
    late = "import warnings\nwarnings.warn('old', DeprecationWarning)\nwarnings.warn('odd')"
    for module, ending in (("torch.sub", ""), ("vil_dense.sub", "DeprecationWarning: old")):
        text = code.replace("LATE", repr(late)).replace("SCOPE", f"dict(__name__={module!r})")
        done = subprocess.run([sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, check=False)
        assert done.stderr.endswith(f"{ending}\n") and (done.returncode == 0) is (not ending), done.stderr
        assert ending or done.stderr.count("\n") == 1, "one line, of the second warning"


def test_opencv_says_nothing_of_the_tags_of_a_geotiff(tmp_path: Path) -> None:
    """Tests that a tool is quiet where OpenCV alone writes a warning for each tag that it does not know."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.tif", tiffinfo={33550: (1.0, 1.0, 0.0)})
    read = f"import cv2\nassert cv2.imread({str(tmp_path / 'a.tif')!r}) is not None"
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stderr
        for code in (PROGRAM + read, read)
    ]
    assert said[0] == "" and "33550" in said[1]


def test_a_dict_that_is_called_is_refused() -> None:
    """Tests that a dict as in a config ends in a sentence, since MMEngine's parser recurses without end."""
    with pytest.raises(ValueError, match="'type': 'NAME'"):
        parse_value("[dict(type='A',b=True),dict(type='B',c=1.0)]")
    assert parse_value("[{'type': 'A', 'b': True}]") == [dict(type="A", b=True)]
