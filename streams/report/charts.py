"""Charts as SVG text, for pages that may not load anything. Pygal draws them."""

import re
import sys
import zlib
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple, TypeVar

import pygal
from pygal.style import Style

from models.outputs import TierCutoffs

#: Maximum number of points per line: a screen shows no more.
_MAX_POINTS = 200
_LABELS = 6
_ADDED = re.compile(r"<!--.*?-->|<script.*?</script>", re.DOTALL)
_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    font_family="system-ui, sans-serif",
    opacity=".8",
    label_font_size=15,
    major_label_font_size=15,
    legend_font_size=16,
    title_font_size=18,
)
# Importing pygal registers a finder of a form that Python 3.12 dropped, for plugins that are not used here; pytest
# fails on it.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]


T = TypeVar("T")


class Daily(NamedTuple):
    """Customers per tier at the end of each day: a list per tier, starting with the day `first` (days since 1970)."""

    first: int
    tiers: dict[str, list[int]]


def spread(items: Sequence[T], most: int) -> Sequence[T]:
    """Return at most `most` of the items, in order and evenly spaced, always with the last one."""
    step = max(1, -(-len(items) // most))
    return items[::-1][::step][::-1]


def tiers_by_day(title: str, daily: Daily) -> str:
    """Return a stacked chart of the customers per tier, with the highest tier on top."""
    chart = pygal.StackedLine(
        fill=True, show_dots=False, show_minor_x_labels=False, x_labels_major_count=_LABELS, **_options(title)
    )
    days = len(next(iter(daily.tiers.values()), []))
    step = max(1, -(-days // _MAX_POINTS))
    places = range(days - 1, -1, -step)[::-1]  # always includes the last day
    begin = date(1970, 1, 1) + timedelta(days=daily.first)
    chart.x_labels = [str(begin + timedelta(days=place)) for place in places]
    for tier, counts in daily.tiers.items():
        chart.add(tier, [counts[place] for place in places])
    return _text(chart)


def cutoffs_by_day(title: str, cutoffs: Sequence[TierCutoffs]) -> str:
    """Return a chart of a scheme's cut-offs over time: one line per tier, and the number of ranked customers.

    `cutoffs` must not be empty. The number of customers has the scale on the right.
    """
    chart = pygal.Line(show_dots=False, show_minor_x_labels=False, x_labels_major_count=_LABELS, **_options(title))
    shown = spread(cutoffs, _MAX_POINTS)
    chart.x_labels = [each.effective_at[:10] for each in shown]
    for last in shown[-1].cutoffs:
        # Another version of the policy may have other tiers.
        cuts = [{cutoff.tier: float(cutoff.cut) for cutoff in each.cutoffs}.get(last.tier) for each in shown]
        chart.add(f"{last.tier} (top {last.top * 100:g}%)", cuts)
    chart.add("ranked (right)", [each.population for each in shown], secondary=True)
    return _text(chart)


def bars(title: str, rows: Sequence[Sequence[str | int]]) -> str:
    """Return a chart with two bars for each row (name, under A, under B); no rows, no text."""
    if not rows:
        return ""
    chart = pygal.Bar(**_options(title))
    chart.x_labels = [str(row[0]) for row in rows]
    for place, name in ((1, "A"), (2, "B")):
        chart.add(name, [row[place] for row in rows])
    return _text(chart)


def _options(title: str) -> dict[str, object]:
    shown = {"include_x_axis": True, "legend_at_bottom": True, "truncate_label": -1, "truncate_legend": -1}
    plain = {"js": [], "disable_xml_declaration": True, "explicit_size": False, "no_prefix": False}
    return {
        "title": title,
        "style": _STYLE,
        "value_formatter": "{:,.10g}".format,
        "width": 760,
        "height": 420,
        "margin_right": 40,  # the last label is centred on its point
        **shown,
        **plain,
    }


def _text(chart: pygal.Graph) -> str:
    """Return the chart without pygal's comments and scripts: a date would make pages differ, and no script may run."""
    chart.uuid = f"{zlib.crc32(repr(chart.raw_series).encode()):08x}"  # pygal's is random, so pages would differ
    return _ADDED.sub("", chart.render(is_unicode=True))
