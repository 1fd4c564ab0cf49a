"""Reads a page as a browser does, and asserts that it stands alone: nothing from elsewhere, no script, links that lead
somewhere, pictures with a text."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

VOID = {"meta", "link", "img", "br", "hr", "input"}
SELF_CLOSED = {"line", "path", "circle"}


class Page(HTMLParser):
    """Holds tags with their attributes, texts, and the tags that are open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        assert tag in SELF_CLOSED | VOID
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Returns the attributes of each tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def check_page(path: Path, largest_mb: float = 5) -> Page:
    """Asserts that the page of a run stands alone, and returns it."""
    html = path.read_text(encoding="utf-8")
    assert len(html) < largest_mb * 1e6
    page = Page(html)
    assert not page.open, f"never closed: {page.open}"
    assert not page.all("script") and not page.all("iframe") and "@import" not in html and "url(" not in html
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), f"{name} leads outside"
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len({*ids}) == len(ids)
    for target in (attributes["href"] for attributes in page.all("a")):
        exists = target[1:] in ids if target.startswith("#") else (path.parent / unquote(target)).is_file()
        assert exists, f"{target} leads nowhere"
    assert all(attributes["href"] == "data:," for attributes in page.all("link"))
    assert len(page.all("h1")) == 1 and html.partition("<body>")[0].count("<title>") == 1
    return page
