"""The Grafana dashboards as a list of panels, from which `make docs` writes config/grafana/dashboards/*.json.

Run as `python -m config.dashboards DIRECTORY`. Expressions use the metrics of `streams.metrics.catalogue` and the rules
in config/prometheus; tests evaluate each of them on a real Prometheus.
"""

import json
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

_WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "prometheus"}


class Panel(NamedTuple):
    """A panel. `queries` are (legend, expression); `unit` is Grafana's name of the unit; `width` is in 24ths."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "table", "bargauge"] = "timeseries"
    width: int = 8
    about: str = ""


class Dashboard(NamedTuple):
    """A dashboard: rows of panels, each under a heading."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def _stat(title: str, expression: str, unit: str = "short", about: str = "") -> Panel:
    return Panel(title, (("", expression),), unit, "stat", 4, about)


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket[5m])))"


SRE = Dashboard(
    "tidemark-sre",
    "tidemark: workers",
    (
        (
            "At a glance",
            (
                _stat("Workers up", 'sum(up{job="tidemark"}) or vector(0)'),
                _stat("Workers ready", "sum(tidemark_ready)"),
                _stat("Alerts firing", 'count(ALERTS{alertname=~"Tidemark.+", alertstate="firing"}) or vector(0)'),
                _stat("Unread records", "sum(tidemark_lag_records)"),
                _stat("Stream time behind the clock", "max(tidemark_stream_time_lag_seconds)", "s"),
                _stat("Customers in state", "sum(tidemark_customers)"),
            ),
        ),
        (
            "Flow",
            (
                Panel("Events", (("{{topic}} {{outcome}}", "tidemark:events:rate1m"),), "ops"),
                Panel("Unread records by topic", (("{{topic}}", "tidemark:lag_records:sum"),)),
                Panel(
                    "Partitions with the most unread records",
                    (("{{topic}} {{partition}}", "topk(10, tidemark_lag_records)"),),
                    about="One partition far above the others: a hot key, or a stalled partition.",
                ),
                Panel(
                    "Latency from record to acknowledged effects",
                    (
                        ("p50", "tidemark:latency_seconds:p50_rate5m"),
                        ("p99", "tidemark:latency_seconds:p99_rate5m"),
                    ),
                    "s",
                ),
                Panel("Batch time, p99", (("", "tidemark:batch_seconds:p99_rate5m"),), "s"),
                Panel(
                    "Records per batch",
                    (
                        (
                            "mean",
                            "sum(rate(tidemark_batch_records_sum[5m])) / sum(rate(tidemark_batch_records_count[5m]))",
                        ),
                    ),
                ),
            ),
        ),
        (
            "Time",
            (
                Panel(
                    "Stream time behind the clock, by partition",
                    (("{{partition}}", "max by (partition) (tidemark_stream_time_lag_seconds)"),),
                    "s",
                    about="Stream time waits for unread records. It is always behind by at least the clock grace.",
                ),
                Panel(
                    "Watermarks applied",
                    (("{{instance}}", "sum by (instance) (rate(tidemark_ticks_total[1m]))"),),
                    "ops",
                ),
                Panel(
                    "Due evaluations",
                    (
                        ("scheduled", "sum(tidemark_due_scheduled)"),
                        ("done per second", "sum(rate(tidemark_due_evaluated_total[5m]))"),
                    ),
                ),
                Panel("Delay of due evaluations", (("oldest", "tidemark:due_lag_seconds:max"),), "s"),
                Panel("Lateness of late events, p95", (("", _quantile(0.95, "tidemark_lateness_seconds")),), "s"),
                Panel(
                    "Stream time",
                    (("{{partition}}", "max by (partition) (tidemark_stream_time_seconds) * 1000"),),
                    "dateTimeAsIso",
                    "stat",
                ),
            ),
        ),
        (
            "Problems with the input",
            (
                Panel("Dead letters", (("{{reason}}", "tidemark:dead_letters:rate5m"),), "ops"),
                Panel("Share of dead letters", (("", "tidemark:dead_letters:ratio_rate5m"),), "percentunit"),
                Panel("Notes", (("{{note}}", "sum by (note) (rate(tidemark_notes_total[5m]))"),), "ops"),
            ),
        ),
        (
            "State and broker",
            (
                Panel("State", (("{{instance}}", "sum by (instance) (tidemark_state_bytes)"),), "bytes"),
                Panel("Rows written to the changelog", (("", "sum(rate(tidemark_changelog_bytes_total[5m]))"),), "Bps"),
                Panel(
                    "Changelog records left to recover",
                    (
                        (
                            "{{instance}}",
                            "tidemark:recovery_remaining_records:sum or 0 * sum by (instance) (tidemark_ready)",
                        ),
                    ),
                ),
                Panel(
                    "Rebalances and rewinds, last hour",
                    (
                        ("rebalances", "sum(increase(tidemark_rebalances_total[1h]))"),
                        ("rewinds", "sum(increase(tidemark_rewinds_total[1h]))"),
                    ),
                ),
                Panel(
                    "Broker errors, last 5 minutes",
                    (
                        ("not acknowledged", "sum(increase(tidemark_producer_errors_total[5m])) or vector(0)"),
                        ("commits", "sum(increase(tidemark_commit_errors_total[5m]))"),
                    ),
                ),
                Panel(
                    "Policy versions",
                    (("", "count by (version, effective_from) (tidemark_policy_info)"),),
                    kind="table",
                    about="The number of workers that know each version; all should know the same versions.",
                ),
            ),
        ),
    ),
)

_OUTCOMES = "sum by (rule, tier, group, outcome) (increase(tidemark_care_outcomes_total[24h]))"

BUSINESS = Dashboard(
    "tidemark-business",
    "tidemark: tiers and care",
    (
        (
            "Customers",
            (
                _stat("Customers", "sum(tidemark_customers)"),
                _stat("Up, last 24 h", 'sum(increase(tidemark_tier_changes_total{direction="up"}[24h])) or vector(0)'),
                _stat(
                    "Down, last 24 h", 'sum(increase(tidemark_tier_changes_total{direction="down"}[24h])) or vector(0)'
                ),
                _stat(
                    "New, last 24 h", 'sum(increase(tidemark_tier_changes_total{direction="enter"}[24h])) or vector(0)'
                ),
                _stat("Care actions, last 24 h", "sum(increase(tidemark_care_actions_total[24h])) or vector(0)"),
                _stat("Orders per minute", 'sum(tidemark:events:rate1m{topic="orders", outcome="applied"}) * 60'),
            ),
        ),
        (
            "Tiers",
            (
                Panel("Customers by tier", (("{{scheme}} {{tier}}", "tidemark:tier_customers:sum"),), width=12),
                Panel(
                    "Share of customers by tier",
                    (("{{scheme}} {{tier}}", "tidemark:tier_share:ratio"),),
                    "percentunit",
                    "bargauge",
                    12,
                ),
            ),
        ),
        (
            "Flows",
            (
                Panel(
                    "Changes per hour, by direction",
                    (("{{scheme}} {{direction}}", "sum by (scheme, direction) (tidemark:tier_changes:increase1h)"),),
                    width=12,
                ),
                Panel(
                    "Changes per hour, by cause",
                    (("{{scheme}} {{cause}}", "sum by (scheme, cause) (tidemark:tier_changes:increase1h)"),),
                    width=12,
                ),
                Panel(
                    "Changes between tiers, last 24 h",
                    (("", "sum by (scheme, from, to) (increase(tidemark_tier_changes_total[24h]))"),),
                    kind="table",
                    width=24,
                ),
            ),
        ),
        (
            "Care",
            (
                Panel(
                    "Care actions per hour",
                    (("{{rule}} {{channel}} {{outcome}}", "tidemark:care_actions:increase1h"),),
                    width=12,
                ),
                Panel(
                    "Refusals per hour, by reason",
                    (("{{refusal}}", "sum by (refusal) (tidemark:care_refused:increase1h)"),),
                    width=12,
                    about="Proposed actions that governance refused: without consent, capped, over budget, …",
                ),
                Panel(
                    "Budget left",
                    (("{{budget}}", "tidemark:care_budget_left:ratio"),),
                    "percentunit",
                    "bargauge",
                    about="The share of each budget that is left in the current period, over all partitions.",
                ),
                Panel(
                    "Refusals per hour for lack of budget",
                    (("{{rule}}", 'sum by (rule) (tidemark:care_refused:increase1h{refusal="over_budget"})'),),
                ),
                Panel(
                    "Care outcomes, last 24 h",
                    (("", f"{_OUTCOMES} or vector(0)"),),
                    kind="table",
                    about="For rules with an attribution; `tidemark effects` gives the uplift with an interval.",
                ),
            ),
        ),
    ),
)

DASHBOARDS = (SRE, BUSINESS)


def render(dashboard: Dashboard) -> str:
    """Return the JSON that Grafana provisions."""
    panels: list[dict[str, Any]] = []
    x = y = 0
    for heading, row in dashboard.rows:
        panels.append(_place({"type": "row", "title": heading, "collapsed": False, "panels": []}, 0, y, _WIDTH, 1))
        x, y = 0, y + 1
        for panel in row:
            if x + panel.width > _WIDTH:
                x, y = 0, y + _height(row)
            panels.append(_place(_panel(panel), x, y, panel.width, _height(row)))
            x += panel.width
        y += _height(row)
    for number, shown in enumerate(panels, start=1):
        shown["id"] = number
    whole = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["tidemark"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "panels": panels,
    }
    return json.dumps(whole, indent=2) + "\n"


def _height(row: tuple[Panel, ...]) -> int:
    return 4 if all(panel.kind == "stat" for panel in row) else 8


def _place(shown: dict[str, Any], x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {**shown, "gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _panel(panel: Panel) -> dict[str, Any]:
    now = panel.kind in {"table", "bargauge", "stat"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "instant": now,
                "range": not now,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for place, (legend, expression) in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    for each in DASHBOARDS:
        Path(sys.argv[1], f"{each.uid}.json").write_text(render(each), encoding="utf-8")
