# SPDX-License-Identifier: Apache-2.0
"""The shell of a report: one HTML page that needs nothing from anywhere else."""

from __future__ import annotations

from html import escape

__all__ = ['page']

# The policy keeps the promise: a page that tried to load something would be refused by the browser.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1a1f26; --quiet: #59636f;
  --rule: #dfe3e8; --mark: #1d6fdc; --line: #1d6fdc55; --level: #b45309; --miss: #c62a2f; --good: #1a8a4a; }
@media (prefers-color-scheme: dark) { :root { --page: #101418; --card: #191f25; --ink: #e7eaee;
  --quiet: #a0abb7; --rule: #323b45; --mark: #6cb1ff; --line: #6cb1ff55; --level: #f3b04c;
  --miss: #ff7d77; --good: #4cc38a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system,
  'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 70rem; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.2rem); line-height: 1.2; letter-spacing: -.015em; margin: 0;
  overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .25rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 0; }
p { margin: 0; }
.verdict { font-size: 1.15rem; color: var(--quiet); margin: .5rem 0 0; overflow-wrap: anywhere; }
header { margin-bottom: 1.75rem; overflow-wrap: anywhere; } header .note { margin-top: .35rem; }
a { color: var(--mark); }
.bags th, .bags td { font-variant-numeric: tabular-nums; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 12px;
  padding: 1.25rem 1.5rem 1.5rem; margin-top: 1.25rem; }
.about, .note, .empty { color: var(--quiet); font-size: .9rem; }
.empty { padding: 1.5rem 0 .5rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 1px; margin: 0; overflow: hidden; background: var(--rule);
  border: 1px solid var(--rule); border-radius: 12px; }
.tiles div { flex: 1 1 max(9rem, calc(100% / var(--columns) - 2px)); background: var(--card);
  padding: 1rem 1.25rem; }
.tiles dt, .tiles .note { font-size: .85rem; color: var(--quiet); }
.tiles dd { margin: 0; overflow-wrap: anywhere; }
.tiles .value { font-size: 1.5rem; font-weight: 650; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
figure { margin: 1.25rem 0 0; }
figcaption { font-size: .9rem; color: var(--quiet); margin-top: .35rem;
  font-variant-numeric: tabular-nums; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; }
.zoom { display: block; padding: 0; border: 0; background: none; cursor: zoom-in; border-radius: 8px; }
.zoom img { display: block; width: 100%; height: auto; border-radius: 8px; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
dialog { max-width: 100vw; max-height: 100vh; padding: 0; border: 0; background: none; }
dialog:focus-visible { outline: 0; }
dialog::backdrop { background: #000d; }
dialog img { display: block; width: 96vw; height: 96vh; object-fit: contain; cursor: zoom-out; }
table { width: 100%; border-collapse: collapse; margin-top: .75rem; }
th, td { padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--rule); text-align: left;
  vertical-align: top; font-weight: inherit; overflow-wrap: anywhere; }
thead th { font-size: .85rem; color: var(--quiet); }
tbody tr:last-child > * { border-bottom: 0; }
.conditions tbody th { width: 30%; min-width: 7rem; color: var(--quiet); }
.legend tbody th { width: 1%; white-space: nowrap; padding-right: 1.25rem; }
.legend td.share { width: 1%; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.legend td { vertical-align: middle; }
.legend td:last-child { padding-right: 0; }
.swatch, .share-bar { display: inline-block; height: .95rem; border-radius: 3px;
  box-shadow: inset 0 0 0 1px #8889; }
.swatch { width: .95rem; margin-right: .6rem; vertical-align: -.12rem; }
.share-bar { display: block; min-width: 3px; }
.plot { display: block; width: calc(100% - 3.75rem); margin: 2.25rem .75rem 3rem 3rem; overflow: visible; }
.plot text { font-size: 12px; fill: var(--quiet); font-variant-numeric: tabular-nums; }
.plot svg { overflow: visible; }
.plot .y { text-anchor: end; dominant-baseline: central; }
.plot .y-name { dominant-baseline: central; }
.plot .x { text-anchor: middle; }
.plot .name { text-anchor: end; }
.grid { stroke: var(--rule); }
.line { fill: none; stroke: var(--line); stroke-width: 1.5; }
.dot, .bar { fill: var(--mark); }
.over { fill: var(--miss); }
.level { stroke: var(--level); stroke-width: 1.5; stroke-dasharray: 6 4; }
.plot .level-name { fill: var(--level); font-weight: 600; stroke: var(--card); stroke-width: 4px;
  paint-order: stroke; stroke-linejoin: round; }
.start { stroke: var(--quiet); }
.plot .start-name { font-weight: 600; stroke: var(--card); stroke-width: 4px; paint-order: stroke; }
.strip { font-size: .8rem; color: var(--quiet); width: calc(100% - 3.75rem); margin: 0 .75rem 0 3rem; }
p.strip { margin-top: .9rem; color: var(--miss); font-weight: 600; }
svg.strip { display: block; height: 14px; background: var(--page); border-radius: 3px; overflow: visible; }
.miss { fill: var(--miss); }
.reach { fill: transparent; }
.mark { fill: var(--miss); stroke: var(--card); stroke-width: 2; cursor: pointer; }
a:hover .mark, a:focus-visible .mark { r: 9px; }
.legend td.wide, .calibration td.wide { width: 60%; }
.legend td.more, .legend th.more { padding-left: .75rem; white-space: nowrap; text-align: right; }
.worst { border-top: 1px solid var(--rule); padding-top: 1rem; scroll-margin-top: .5rem; }
.worst:target { border-top-color: var(--mark); box-shadow: 0 -2px 0 var(--mark); }
.worst figcaption { margin: 0 0 .6rem; font-size: 1rem; color: var(--ink); overflow-wrap: anywhere; }
.five { display: grid; grid-template-columns: 2fr 1fr 1fr; gap: .6rem; align-items: start; }
.five > :first-child { grid-row: span 2; }
.five .zoom { width: 100%; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .9rem 0 0; padding: 0; list-style: none;
  font-size: .9rem; }
.key .swatch { margin-right: .35rem; }
.scroller { overflow-x: auto; margin-top: .75rem; }
.scroller.cut { mask-image: linear-gradient(to right, #000 calc(100% - 3.5rem), #0000); }
.hint { visibility: hidden; } .scroller.cut + .hint { visibility: visible; }
.matrix { width: auto; font-size: .85rem; font-variant-numeric: tabular-nums; }
.matrix th, .matrix td { border: 0; padding: .3rem .4rem; text-align: center; min-width: 2.4rem;
  overflow-wrap: normal; white-space: nowrap; vertical-align: middle; color: var(--ink); }
.matrix thead th { vertical-align: bottom; }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); }
.matrix tbody th { text-align: right; position: sticky; left: 0; background: var(--card); }
.matrix td { border-radius: 3px; }
.hit { background: color-mix(in srgb, var(--good) calc(var(--share) * 75%), var(--page)); }
.slip { background: color-mix(in srgb,
  var(--miss) calc(8% * min(1, var(--share) * 1000) + var(--share) * 75%), var(--page)); }
.calibration td { vertical-align: middle; white-space: nowrap; font-variant-numeric: tabular-nums; }
.calibration td:last-child { padding-right: 0; text-align: right; }
.calibration th { white-space: nowrap; }
.calibration th:last-child { padding-right: 0; text-align: right; }
.legend th.more:last-child { padding-right: 0; }
.scale { display: block; position: relative; height: .9rem; background: var(--page); border-radius: 3px; }
.scale span { display: block; height: 100%; background: var(--mark); border-radius: 3px; }
.scale i { position: absolute; top: -.2rem; bottom: -.2rem; width: 3px; margin-left: -1px;
  background: var(--level); }
.problems { margin: .75rem 0 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
.changes th, .changes td { font-variant-numeric: tabular-nums; }
.changes td { white-space: nowrap; }
.by-class th, .by-class td, .changes thead th { overflow-wrap: normal; }
.better { color: var(--good); } .worse { color: var(--miss); }
@media (max-width: 42rem) {
  main { padding: 1.5rem .75rem 2rem; }
  section { padding: 1rem; }
  .pair { grid-template-columns: 1fr; gap: .35rem; }
  .more { display: none; }
  .changes { font-size: .85rem; }
  .changes th, .changes td { padding-right: .4rem; }
  .by-class { font-size: .8rem; } .by-class thead th { font-size: .75rem; }
  .changes td.interval { white-space: normal; }
  .five { grid-template-columns: 1fr 1fr; }
  .five > :first-child { grid-area: 1 / 1 / 2 / -1; }
  .tiles div { padding: .75rem .9rem; }
  .tiles .value { font-size: 1.25rem; }
}
"""

# Enlarges the picture that was clicked; a click or Escape closes it. Marks a table that is cut at the right.
SCRIPT = """
const dialog = document.querySelector('dialog');
document.addEventListener('click', event => {
  const picture = event.target.closest('.zoom');
  if (picture) {
    dialog.replaceChildren(picture.firstElementChild.cloneNode());
    dialog.showModal();
  } else if (dialog.open) dialog.close();
});
for (const box of document.querySelectorAll('.scroller')) {
  const mark = () => box.classList.toggle('cut', box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  box.addEventListener('scroll', mark);
  addEventListener('resize', mark);
  mark();
}
"""


def page(title: str, body: str) -> str:
    """Put a body (HTML) under a title (text) into a page."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="lw_refinenet_ros">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
<dialog aria-label="Enlarged picture"></dialog>
<script>{SCRIPT}</script>
</body>
</html>
"""
