"""Tests videos: frames, frame rate and labels are those of the pictures; a broken file is one line of error."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from refusals import assert_error_line
from run_command import run_command
from sliding_models import WHOLE, segmentor, small_config, write_run

from vil_dense.mm import Segmentor
from vil_dense.mm.inference.video import label_video


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", small_config(WHOLE), segmentor(WHOLE))


def write_video(path: Path, frames: int, size: tuple[int, int] = (64, 80), rate: float = 12.5) -> list[np.ndarray]:
    """Writes blocks of colour that change with each frame, and returns what OpenCV reads of them, RGB."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, size[::-1])
    for number in range(frames):
        coarse = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        writer.write(np.kron(coarse, np.ones((16, 16, 1), np.uint8))[: size[0], : size[1]].copy())
    writer.release()
    return read_video(path)[0]


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    """Returns the frames of a video, RGB, and its frame rate."""
    video, frames = cv2.VideoCapture(str(path)), []
    while (found := video.read())[0]:
        frames.append(found[1][..., ::-1])
    return frames, video.get(cv2.CAP_PROP_FPS)


def test_frames_are_pictures(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests five frames, which are a batch of four and one, by the command and as pictures."""
    frames = write_video(tmp_path / "film.avi", 5)
    line = f"predict {run} {tmp_path}/film.avi --out {tmp_path}/out --frame-labels"
    assert run_command(line, monkeypatch) == 0
    shown, rate = read_video(tmp_path / "out/videos/film.mp4")
    assert rate == 12.5 and len(shown) == len(frames) == 5
    model = Segmentor.load(run, device="cpu")
    for number, (frame, overlay) in enumerate(zip(frames, shown, strict=True)):
        expected = model.predict(np.ascontiguousarray(frame))
        with Image.open(tmp_path / f"out/labels/film/{number:06d}.png") as label:
            assert (np.asarray(label) != expected.mask).mean() < 1e-3
        difference = overlay.astype(int) - np.asarray(expected.overlay(legend=False)).astype(int)
        assert np.abs(difference).mean() < 12, "the video is compressed, and not another picture"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["labels", "videos"]


def test_broken_videos(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """Tests a file that is no video, beside one that is cut off: what can be read of that is labelled."""
    write_video(tmp_path / "cut.mkv", 8)
    content = (tmp_path / "cut.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    (tmp_path / "none.mp4").write_bytes(b"nothing" * 100)
    line = f"predict {run} {tmp_path}/none.mp4 {tmp_path}/cut.mkv --out {tmp_path}/out"
    assert run_command(line, monkeypatch) == 1
    text = capfd.readouterr().err
    assert_error_line(text, tmp_path / "none.mp4", "1 of 2")
    assert [path.name for path in (tmp_path / "out/videos").iterdir()] == ["cut.mp4"]
    read = len(read_video(tmp_path / "out/videos/cut.mp4")[0])
    warnings = [line for line in text.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and all(str(word) in warnings[0] for word in (tmp_path / "cut.mkv", 8, read))
    assert 0 < read < 8


def test_options_of_other_files_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "film.mp4").write_bytes(b"nothing")
    for line, named in (
        (f"{tmp_path}/a.png --frame-labels", "--frame-labels"),
        (f"{tmp_path}/film.mp4 --probabilities", "--probabilities"),
    ):
        assert run_command(f"predict {run} --out {tmp_path}/out {line}", monkeypatch) == 2
        assert_error_line(capsys.readouterr().err, named)


def test_odd_sides_lose_a_pixel(run: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "film.avi", 2, (33, 47))
    seen: list[tuple[int, int]] = []
    options = dict(masks=tmp_path / "masks", progress=lambda done, count: seen.append((done, count)))
    label_video(Segmentor.load(run, device="cpu"), tmp_path / "film.avi", tmp_path / "out.mp4", **options)
    frames, _ = read_video(tmp_path / "out.mp4")
    assert frames[0].shape == (32, 46, 3) and seen == [(1, 2), (2, 2)]
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["000000.png", "000001.png"]
