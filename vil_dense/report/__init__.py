"""Builds reports: pages of one HTML file each, with text, tables, curves and pictures; needs no framework."""

from vil_dense.report.charts import confusion_table, line_chart
from vil_dense.report.page import bar, command, details, facts, gallery, link, page, save_page, swatches, table, tiles
from vil_dense.report.paired import Paired, paired_difference
from vil_dense.report.pictures import error_map, indexed_png, jpeg_uri, png_uri, read_labels

__all__ = [
    "Paired",
    "bar",
    "command",
    "confusion_table",
    "details",
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
    "swatches",
    "table",
    "tiles",
]
