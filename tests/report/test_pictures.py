"""Tests pictures of a page: label maps keep their ids, and error maps show what is wrong."""

import base64
import io

import numpy as np
from PIL import Image
from refusals import raises_one_line

from vil_dense.report import error_map, indexed_png, jpeg_uri, read_labels
from vil_dense.report.pictures import CORRECT, IGNORED, WRONG

PALETTE = [(10, 20, 30), (200, 0, 0), (0, 250, 0)]


def test_label_maps_keep_ids_and_colours() -> None:
    label = np.array([[0, 1, 2], [2, 3, -1]])
    content = indexed_png(label, PALETTE)
    assert read_labels(content).tolist() == [[0, 1, 2], [2, 255, 255]]
    seen = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert seen[0].tolist() == [list(colour) for colour in PALETTE] and seen[1, 1].tolist() == [128, 128, 128]


def test_large_pictures_are_scaled_down() -> None:
    label = np.zeros((1000, 500), dtype=np.uint8)
    label[500:] = 1
    small = read_labels(indexed_png(label, PALETTE, longest=100))
    assert small.shape == (100, 50) and (small[:50] == 0).all() and (small[50:] == 1).all()
    content = base64.b64decode(jpeg_uri(np.zeros((100, 900, 3), np.uint8)).partition(",")[2])
    assert Image.open(io.BytesIO(content)).size == (320, 36)


def test_error_map() -> None:
    truth = np.array([[0, 1, 255]], dtype=np.uint8)
    errors = read_labels(error_map(truth, np.array([[0, 2, 2]], dtype=np.uint8)))
    assert errors.tolist() == [[CORRECT, WRONG, IGNORED]]


def test_what_is_no_label_map_is_refused() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    for content in (b"", b"text", stream.getvalue(), indexed_png(np.zeros((9, 9), int), PALETTE)[:60]):
        with raises_one_line(ValueError, "label map"):
            read_labels(content)
