"""docs/metrics.md, written from the closed list of metrics. `make docs` writes it; a test fails if it is out of date.

Run as `python -m streams.metrics.docs FILE`.
"""

import sys
from pathlib import Path

from streams.metrics.catalogue import LABELS, METRICS, MetricDefinition

_HEAD = """\
# Metrics

What a worker tells Prometheus at `/metrics`: the whole list. This page is written by `make docs`; do not edit it.

Counters have `_total` at the end of their names, histograms `_bucket`, `_sum` and `_count`. Names carry their units.
Dashboards are in [config/grafana](../config/grafana), rules and alerts in [config/prometheus](../config/prometheus);
what to do when an alert fires is in the [runbook](runbook.md).

## The list

| metric | type | labels | meaning | what to do |
|---|---|---|---|---|
"""

_LABELS = """
## Labels

No label names a customer, an order or an offset, and none takes its values from an event unless they are on a fixed
list. Only partitions that a worker holds at the moment are told, so a sum over workers counts each once.

| label | its values |
|---|---|
"""

_BUCKETS = """
## Buckets

| histogram | upper ends |
|---|---|
"""


def render() -> str:
    """Return the page."""
    labels = "".join(f"| `{label}` | {bound} |\n" for label, bound in LABELS.items())
    buckets = "".join(
        f"| `{metric.name}` | {', '.join(f'{end:,}' for end in metric.buckets)} |\n"
        for metric in METRICS
        if metric.buckets
    )
    return _HEAD + "".join(map(_row, METRICS)) + _LABELS + labels + _BUCKETS + buckets


def _row(metric: MetricDefinition) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} | {metric.act} |\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
