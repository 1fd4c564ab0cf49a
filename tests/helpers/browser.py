"""Opens pages in a real browser without a window: Chromium, where it is installed."""

import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
]
MEASURE = """<body><iframe id="f" style="border:0;width:{width}px;height:{height}px"></iframe>
<pre id="out"></pre><script>
const frame = document.getElementById("f");
frame.srcdoc = {page};
frame.onload = () => {{
  const page = frame.contentDocument, size = page.documentElement;
  const images = [...page.images];
  const wide = [...page.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > {width} + 1
    && !e.closest(".scroll") && !e.closest("svg"));
  document.getElementById("out").textContent = JSON.stringify({{
    width: size.scrollWidth, images: images.filter(image => image.naturalWidth > 0).length,
    curves: [...page.querySelectorAll("svg .curve")].filter(e => e.getTotalLength() > 0).length,
    wide: wide.map(e => e.tagName + "." + e.className).slice(0, 5),
    requests: frame.contentWindow.performance.getEntriesByType("resource").filter(
      e => !e.name.startsWith("data:")).map(e => e.name),
  }});
}};
</script></body>"""
"""A page around the page, which measures it: it has the width of a phone even where a window cannot be so narrow."""


def chromium() -> str:
    """Returns the browser's program; skips the test where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine: pages were not opened in a browser")
    return found


def _run(folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [chromium(), *OPTIONS, f"--user-data-dir={folder / 'profile'}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not errors, errors
    return done


def screenshot(page: Path, folder: Path, width: int, height: int, dark: bool = False) -> np.ndarray:
    """Returns a screenshot of a page, (H, W, 3) uint8; asserts that the console holds no error."""
    picture = folder / f"{width}{'-dark' if dark else ''}.png"
    scheme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    _run(folder, *scheme, f"--window-size={width},{height}", f"--screenshot={picture}", f"file://{quote(str(page))}")
    return np.asarray(Image.open(picture).convert("RGB"))


def measure(page: Path, folder: Path, width: int) -> dict:
    """Returns what a browser of `width` px shows of a page: `width` that it takes, loaded `images`, drawn `curves`,
    `wide` parts that stick out and `requests` to anywhere."""
    text = json.dumps(page.read_text(encoding="utf-8")).replace("</", "<\\/")
    around = folder / "around.html"
    around.write_text(MEASURE.format(width=width, height=800, page=text), encoding="utf-8")
    done = _run(folder, "--virtual-time-budget=20000", "--dump-dom", f"file://{quote(str(around))}")
    found: dict = json.loads(done.stdout.partition('<pre id="out">')[2].partition("</pre>")[0])
    return found
