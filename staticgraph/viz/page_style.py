"""What pages of numbers share: the document around them, its style sheet, and the scripts that choose colours and sort
tables.

A page is one file that needs no network and no other file; a policy in it forbids it to load anything at all. The style
sheet and the scripts are plain text, put into the page as they are.
"""

from __future__ import annotations

import json
from html import escape

POLICY = ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
          "form-action 'none'")

STYLE = """
:root { color-scheme: light; --paper: #ffffff; --panel: #f5f7f9; --ink: #1b1f24; --quiet: #59636e; --line: #d5dbe1;
  --ahead: #2f74b8; --behind: #c2552d; --good: #1f7a3d; --bad: #b3261e; --on: #ffffff; --warm: #d9962b;
  --tint: #cfe0f2;
  --s0: #2f74b8; --s1: #c2552d; --s2: #1f7a3d; --s3: #8a4fb0; --s4: #b03a72; --s5: #8a6d1d; --s6: #28808f;
  --s7: #59636e; }
:root[data-theme="dark"] { color-scheme: dark; --paper: #14181d; --panel: #1d232a; --ink: #e8ecf0; --quiet: #a3aebb;
  --line: #38424d; --ahead: #5aa2e6; --behind: #ef8354; --good: #63c987; --bad: #ff8a80; --on: #10141a; --warm: #e9b457;
  --tint: #274766;
  --s0: #5aa2e6; --s1: #ef8354; --s2: #63c987; --s3: #bb8ee0; --s4: #ee7fb0; --s5: #d6b855; --s6: #5cc3d4;
  --s7: #a3aebb; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1rem; max-width: 74rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .quiet { color: var(--quiet); } code { font-family: ui-monospace, Menlo, Consolas, monospace; }
a { color: var(--ahead); }
.controls { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .35rem .9rem;
  align-items: center; padding: .5rem 0; background: var(--paper); border-bottom: 1px solid var(--line); }
.controls label { display: inline-flex; gap: .3rem; align-items: center; white-space: nowrap; min-height: 2rem; }
button, select, input[type="search"] { font: inherit; color: var(--ink); background: var(--panel);
  border: 1px solid var(--line); border-radius: 6px; padding: .2rem .6rem; min-height: 2rem; }
input[type="search"] { width: 9rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; }
.tile { background: var(--panel); border-radius: 8px; padding: .6rem .9rem; flex: 1 1 9rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.2; }
.case { border-top: 1px solid var(--line); padding: .5rem 0; break-inside: avoid; }
.case h3 { font-size: 1rem; margin: 0; display: inline; } .case .facts { color: var(--quiet); }
.verdict { font-weight: 600; white-space: nowrap; } .reached { color: var(--good); } .missed { color: var(--bad); }
.row { display: grid; grid-template-columns: 6.5rem 1fr; align-items: center; }
.row > span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: var(--quiet); font-size: 13px; }
svg.bar { width: 100%; display: block; overflow: visible; }
svg text { fill: var(--quiet); font-size: 12px; } svg text.on { fill: var(--on); font-weight: 600; }
svg text.beside { fill: var(--ink); } svg.scale text { font-size: 11px; }
.ahead { fill: var(--ahead); } .behind { fill: var(--behind); } .cold { fill: var(--s0); } .warm { fill: var(--warm); }
.one { stroke: var(--quiet); stroke-width: 1; } .wanted { stroke: var(--good); stroke-width: 2; stroke-dasharray: 3 2; }
.grid { stroke: var(--line); stroke-width: 1; } .roof { fill: none; stroke: var(--ink); stroke-width: 2; }
.suite0 { fill: var(--s0); } .suite1 { fill: var(--s1); } .suite2 { fill: var(--s2); } .suite3 { fill: var(--s3); }
.suite4 { fill: var(--s4); } .suite5 { fill: var(--s5); } .suite6 { fill: var(--s6); } .suite7 { fill: var(--s7); }
circle { stroke: var(--paper); stroke-width: 1; } .legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
.legend svg { width: 12px; height: 12px; } .scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
svg.roofline text.beside { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
svg.roofline { width: 100%; min-width: 34rem; max-width: 48rem; display: block; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th[data-sort] { cursor: pointer; text-decoration: underline dotted; }
details { margin: .5rem 0; } summary { cursor: pointer; min-height: 1.8rem; overflow-wrap: anywhere; }
td.words, th.words { text-align: left; } .none { fill: var(--line); }
svg.parts { border-radius: 4px; overflow: hidden; }
td.chained { border-left: 3px solid var(--s3); } td.prose { text-align: left; white-space: normal; min-width: 9rem; }
svg.key { vertical-align: -1px; }
.steps td:nth-child(2) { max-width: 15rem; overflow: hidden; text-overflow: ellipsis; }
.plan svg { max-width: 100%; min-width: 44rem; height: auto; display: block; }
.steps td:nth-child(3) { max-width: 10rem; overflow: hidden; text-overflow: ellipsis; }
.kernels td:first-child { max-width: 24rem; overflow: hidden; text-overflow: ellipsis; }
.share { display: inline-block; min-width: 5rem; padding-right: .25rem;
  background: linear-gradient(to right, var(--tint) var(--share), transparent var(--share)); }
.row.wide { grid-template-columns: minmax(6rem, 40%) 1fr; } .row.wide svg.bar { width: calc(100% - 4.5rem); }
pre { font: 12px/1.45 ui-monospace, Menlo, Consolas, monospace; margin: 0; padding: .6rem; background: var(--panel);
  border-radius: 6px; min-width: max-content; }
[hidden] { display: none !important; }
@media (max-width: 30rem) { body { padding: .6rem; } .controls { position: static; }
  .row { grid-template-columns: 5.2rem 1fr; } .tile { flex-basis: 7rem; } }
@media print { .controls { display: none; } }
"""

SCRIPT = """
"use strict";
const root = document.documentElement, all = (query) => Array.from(document.querySelectorAll(query));
const stored = (() => { try { return localStorage.getItem("theme"); } catch (error) { return null; } })();
const dark = window.matchMedia && matchMedia("(prefers-color-scheme: dark)");
function paint(theme) {
  root.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "light colours" : "dark colours";
}
paint(stored || (dark && dark.matches ? "dark" : "light"));
document.getElementById("theme").addEventListener("click", () => {
  const next = root.dataset.theme === "dark" ? "light" : "dark";
  paint(next);
  try { localStorage.setItem("theme", next); } catch (error) { /* a file may not be allowed to keep anything */ }
});
all("th[data-sort]").forEach((head) => head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex, down = head.dataset.sort !== "down";
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const order = (a, b) => { const x = Number(value(a)), y = Number(value(b));
    return Number.isNaN(x) || Number.isNaN(y) ? value(a).localeCompare(value(b)) : x - y; };
  head.dataset.sort = down ? "down" : "up";
  Array.from(body.rows).sort((a, b) => down ? order(b, a) : order(a, b)).forEach((row) => body.append(row));
}));
"""
"""Needs a button with the id "theme"; columns with data-sort are sorted by their cells' data-value, else their text."""

THEME_BUTTON = '<button id="theme" type="button">dark colours</button>'


def document(title: str, body: str, script: str = "") -> str:
    """The whole page. `body` is markup, the title is not; `script` follows the shared one."""
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n<script>{SCRIPT}{script}</script>\n</body>\n</html>\n")


def data_element(data: object) -> str:
    """Data in the page, for whoever wants to read it back; `<` is written so that no text of it can end the element."""
    return f'<script type="application/json" id="record">{json.dumps(data).replace("<", chr(92) + "u003c")}</script>'
