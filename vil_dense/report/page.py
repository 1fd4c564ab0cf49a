"""Builds the parts of a page as HTML. Text is escaped; only what these functions return is taken as HTML.

A page is one file: it asks for nothing from a network or from other files, and runs no script.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from markupsafe import Markup, escape

from vil_dense.files import write_whole
from vil_dense.report.style import STYLE

Cell = str | int | float | None
"""Content of a table's cell; `Markup` is a text that is HTML already."""


def page(title: str, lead: Iterable[str], sections: Mapping[str, Iterable[str]]) -> Markup:
    """Returns a whole page: title, the parts of the first screen, links to the sections, and the sections.

    Args:
        title: shown on top and in the browser's tab.
        lead: parts that stand below the title.
        sections: the parts of each section by heading; sections without parts are left out.
    """
    shown = {heading: joined for heading, parts in sections.items() if (joined := Markup("\n").join(parts))}
    names = {heading: heading.lower().replace(" ", "-") for heading in shown}
    links = Markup(" ").join(Markup('<a href="#{}">{}</a>').format(names[heading], heading) for heading in shown)
    body = Markup("\n").join(
        Markup('<section id="{}"><h2>{}</h2>\n{}</section>').format(names[heading], heading, content)
        for heading, content in shown.items()
    )
    return Markup(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        "<title>{title}</title><style>{style}</style></head><body>\n"
        "<header><h1>{title}</h1>\n{lead}\n<nav>{links}</nav></header>\n<main>{body}</main>\n</body></html>\n"
    ).format(title=title, style=Markup(STYLE), lead=Markup("\n").join(lead), links=links, body=body)


def save_page(path: Path, content: str) -> None:
    """Writes a page atomically."""
    write_whole(path, lambda part: part.write_text(content, encoding="utf-8"))


def paragraph(text: str) -> Markup:
    """Returns a paragraph of text."""
    return Markup("<p>{}</p>").format(text)


def note(text: str) -> Markup:
    """Returns a paragraph in small print."""
    return Markup('<p class="quiet">{}</p>').format(text)


def heading(text: str) -> Markup:
    """Returns a heading within a section."""
    return Markup("<h3>{}</h3>").format(text)


def tiles(values: Mapping[str, str]) -> Markup:
    """Returns results in large print, each with its name below."""
    each = (
        Markup('<div class="tile"><b>{}</b><span>{}</span></div>').format(value, name) for name, value in values.items()
    )
    return Markup('<div class="tiles">{}</div>').format(Markup("").join(each))


def command(text: str) -> Markup:
    """Returns a command, or other text that keeps its lines, to be copied."""
    return Markup("<pre><code>{}</code></pre>").format(text)


def facts(values: Mapping[str, object]) -> Markup:
    """Returns a list of names and what they are."""
    each = (Markup("<dt>{}</dt><dd>{}</dd>").format(name, value) for name, value in values.items())
    return Markup("<dl>{}</dl>").format(Markup("").join(each))


def details(summary: str, *parts: str) -> Markup:
    """Returns parts that are shown after a click on the `summary`."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, Markup("").join(parts))


def link(path: str, text: str) -> Markup:
    """Returns a link to a file beside the page, `path` relative to it with forward slashes."""
    return Markup('<a href="{}">{}</a>').format(quote(path), text)


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], digits: int = 2) -> Markup:
    """Returns a table; numbers stand on the right, floats with `digits` decimals, NaN and None as a dash."""
    rows = list(rows)
    body = [Markup("<tr>{}</tr>").format(Markup("").join(_cell(value, digits) for value in row)) for row in rows]
    texts = [any(isinstance(row[n], str) for row in rows) for n in range(len(columns))]
    heads = (Markup("<th>{}</th>"), Markup('<th class="number">{}</th>'))
    head = Markup("").join(heads[not text].format(name) for name, text in zip(columns, texts, strict=True))
    tall = " tall" if len(body) > 40 else ""
    return Markup('<div class="scroll{}"><table><thead><tr>{}</tr></thead>\n<tbody>{}</tbody></table></div>').format(
        tall, head, Markup("\n").join(body)
    )


def _cell(value: Cell, digits: int) -> Markup:
    if isinstance(value, str):
        return Markup("<td>{}</td>").format(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Markup('<td class="number">&ndash;</td>')
    text = f"{value:.{digits}f}" if isinstance(value, float) else f"{value:,}"
    return Markup('<td class="number">{}</td>').format(text)


def bar(percent: float) -> Markup:
    """Returns a horizontal bar for 0 to 100 %; empty for NaN."""
    width = 0.0 if math.isnan(percent) else min(max(percent, 0.0), 100.0)
    return Markup('<span class="bar"><i style="width:{:.1f}%"></i></span>').format(width)


def gallery(images: Mapping[str, str]) -> Markup:
    """Returns pictures side by side: data URIs by caption; the caption is also the text for who cannot see them."""
    each = (
        Markup('<figure><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>').format(uri, caption, caption)
        for caption, uri in images.items()
    )
    return Markup('<div class="gallery">{}</div>').format(Markup("").join(each))


class Thumbnail(NamedTuple):
    """Holds a picture of `thumbnails`: its caption, its data URI, and what stands below it when it is open."""

    caption: str
    uri: str
    detail: str = ""


def thumbnails(images: Iterable[Thumbnail]) -> Markup:
    """Returns small pictures; a click, or Enter, opens one at the width of the page."""
    each = (
        Markup(
            '<details class="thumb"><summary><span class="scroll"><img src="{}" alt="{}"></span>{}</summary>{}'
            "</details>"
        ).format(image.uri, image.caption, image.caption, image.detail)
        for image in images
    )
    return Markup('<div class="thumbs">{}</div>').format(Markup("\n").join(each))


def swatches(colours: Mapping[str, str]) -> Markup:
    """Returns names, each beside a square of its colour in CSS."""
    each = (
        Markup('<span class="swatch" style="--swatch:{}">{}</span>').format(colour, name)
        for name, colour in colours.items()
    )
    return Markup('<div class="swatches">{}</div>').format(Markup("").join(each))


def escaped(text: str) -> Markup:
    """Returns text as HTML that shows it."""
    return escape(text)
