"""Builds reports: pages of one HTML file each, with text, tables, curves and pictures; needs no framework."""

from vil_dense.report.charts import confusion_table, line_chart
from vil_dense.report.environment import environment
from vil_dense.report.page import (
    Thumbnail,
    bar,
    command,
    details,
    facts,
    gallery,
    link,
    page,
    save_page,
    swatches,
    table,
    thumbnails,
    tiles,
)
from vil_dense.report.paired import Paired, paired_difference
from vil_dense.report.pictures import choose_pictures, error_map, indexed_png, jpeg_uri, png_uri, read_labels
from vil_dense.report.points import Point, scatter_chart, strip_chart

__all__ = [
    "Paired",
    "Point",
    "Thumbnail",
    "bar",
    "choose_pictures",
    "command",
    "confusion_table",
    "details",
    "environment",
    "error_map",
    "facts",
    "gallery",
    "indexed_png",
    "jpeg_uri",
    "line_chart",
    "link",
    "page",
    "paired_difference",
    "png_uri",
    "read_labels",
    "save_page",
    "scatter_chart",
    "strip_chart",
    "swatches",
    "table",
    "thumbnails",
    "tiles",
]
