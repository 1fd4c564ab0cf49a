"""Holds the style sheet of the pages: light and dark, from a phone of 360 px to a desktop."""

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f4f5f7; --text: #1c2128; --quiet: #57606a; --line: #d0d7de;
  --accent: #1f6feb; --bad: #c62828;
  --c0: #1f6feb; --c1: #d1570a; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #6e5a00;
  --c6: #0b7285; --c7: #57606a; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1e232b; --text: #e4e8ee; --quiet: #9aa5b1;
  --line: #363d47; --accent: #6ea8fe; --bad: #ff7b72;
  --c0: #6ea8fe; --c1: #ffa657; --c2: #56d364; --c3: #c297ff; --c4: #ff9bce; --c5: #e3c14d;
  --c6: #4fd1e0; --c7: #9aa5b1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 16px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 24px; line-height: 1.25; margin: 8px 0; }
h2 { font-size: 19px; margin: 36px 0 10px; padding-top: 10px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 20px 0 6px; }
p { margin: 8px 0; max-width: 80ch; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 12px 0; }
.quiet, figcaption, dt { color: var(--quiet); font-size: 13px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 10px; margin: 14px 0; }
.tile { background: var(--card); border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 24px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--quiet); font-size: 13px; }
pre { background: var(--card); border-radius: 8px; padding: 10px 14px; margin: 8px 0; overflow-x: auto;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap; }
.scroll { overflow-x: auto; }
.scroll.tall { max-height: 560px; overflow-y: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th { color: var(--quiet); font-size: 13px; font-weight: 600; }
td.number, th.number { text-align: right; }
.bar { display: inline-block; width: 120px; height: 10px; border-radius: 3px;
  background: var(--card); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--accent); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); gap: 12px; }
.charts figure { background: var(--card); border-radius: 8px; padding: 10px; width: 100%; max-width: 640px; }
figure { margin: 0; min-width: 0; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font-size: 11px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .level { stroke: var(--c1); stroke-width: 1.5; }
svg .dot { fill: var(--accent); fill-opacity: 0.65; }
svg .dots { stroke: var(--accent); stroke-opacity: 0.5; stroke-width: 5; stroke-linecap: round; fill: none; }
svg .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.matrix { border-spacing: 1px; border-collapse: separate; font-size: 12px; }
.matrix td { padding: 2px 4px; text-align: right; border: 0; min-width: 34px; }
.matrix th { border: 0; padding: 2px 6px; font-size: 12px; }
.matrix tbody th { position: sticky; left: 0; background: var(--page); text-align: right; }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); }
.strong { color: #ffffff; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 6px; max-width: 1200px; }
.gallery img { display: block; width: 100%; height: auto; max-height: 300px; object-fit: contain;
  border: 1px solid var(--line); border-radius: 4px; }
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(280px, 100%), 1fr)); gap: 10px; }
.thumb { background: var(--card); border-radius: 8px; padding: 8px; min-width: 0; }
.thumb[open] { grid-column: 1 / -1; }
.thumb .scroll { display: block; }
.thumb summary { list-style: none; color: var(--text); }
.thumb summary::-webkit-details-marker { display: none; }
.thumb img { display: block; width: 100%; height: auto; border-radius: 4px; margin-bottom: 4px; background: #000000; }
.thumb[open] img { width: max(100%, 900px); max-width: none; cursor: zoom-out; }
.thumb img { cursor: zoom-in; }
.swatches { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 8px 0; font-size: 13px; }
.swatch::before { content: ""; display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 5px;
  background: var(--swatch); border: 1px solid var(--line); }
dl { display: grid; grid-template-columns: minmax(90px, auto) 1fr; gap: 4px 14px; margin: 8px 0; }
dd { margin: 0; min-width: 0; }
summary { cursor: pointer; color: var(--accent); }
"""
