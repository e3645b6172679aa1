"""Pieces of HTML pages that need no network and run no script. Their content security policy forbids both."""

from collections.abc import Iterable, Sequence
from html import escape

from models.outputs import TierCutoffs

Row = Sequence[str | int]

END = "</body></html>\n"
_CUTOFF_HEADS = ("from", "ranked", "tier and above", "cut", "target", "reached", "held at day's end")
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid #ccd}h3{margin-bottom:.3rem}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}caption{text-align:left;font-weight:600}
th,td{padding:.2rem .8rem;border:1px solid #dde;text-align:right}th:first-child,td:first-child{text-align:left}
thead{background:#f2f4f8}.same{background:#eef}.pair{display:flex;flex-wrap:wrap;gap:1rem}.pair>*{flex:1 1 30rem}
caption{white-space:nowrap}svg{max-width:45rem;width:100%;height:auto}
"""
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head><body>
"""


def head(title: str) -> str:
    """Return the beginning of a page, up to and including `<body>`; END closes it."""
    return _HEAD.format(title=escape(title), style=_STYLE)


def cutoff_table(caption: str, cutoffs: Iterable[TierCutoffs]) -> str:
    """Return a table of cut-offs over time, one row per tier.

    Each row has three shares of the ranked customers: the target, those who reach the cut, and those who hold the tier.
    """
    rows: list[Row] = []
    for each in cutoffs:
        for cutoff in each.cutoffs:
            shares = (cutoff.top, cutoff.share, cutoff.held)
            texts = ["" if share is None else f"{share:.2%}" for share in shares]
            rows.append([each.effective_at, each.population, cutoff.tier, str(cutoff.cut), *texts])
    return table(caption, _CUTOFF_HEADS, rows)


def table(caption: str, heads: Sequence[str], rows: Iterable[Row], same: Sequence[str] = ()) -> str:
    """Return a table as HTML. A cell is highlighted if its row and its column have the same name and `same` has it."""
    drawn = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(
        "<tr>" + "".join(_cell(cell, row[0], heads[place], same) for place, cell in enumerate(row)) + "</tr>\n"
        for row in rows
    )
    head = f"<thead><tr>{drawn}</tr></thead>"
    return f"<table><caption>{escape(caption)}</caption>{head}<tbody>{body}</tbody></table>"


def _cell(cell: str | int, row: str | int, head: str, same: Sequence[str]) -> str:
    mark = ' class="same"' if head in same and row == head else ""
    return f"<td{mark}>{f'{cell:,}' if isinstance(cell, int) else escape(cell)}</td>"
