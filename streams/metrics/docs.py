"""docs/metrics.md, generated from the closed list of metrics by `make docs`. A test fails if the page is outdated.

Run as `python -m streams.metrics.docs FILE`.
"""

import sys
from pathlib import Path

from streams.metrics.catalogue import LABELS, METRICS, MetricDefinition

_HEAD = """\
# Metrics

All metrics that a worker exports at `/metrics`. `make docs` writes this page; do not edit it.

Names of counters end with `_total`, those of histograms with `_bucket`, `_sum` and `_count`. Names include their units.
Dashboards are in [config/grafana](../config/grafana), rules and alerts in [config/prometheus](../config/prometheus).
If an alert fires, see the [runbook](runbook.md).

## The list

| metric | type | labels | meaning | what to do |
|---|---|---|---|---|
"""

_LABELS = """
## Labels

No label identifies a customer, an order or an offset. A label takes values from events only if they are on a fixed
list. A worker exports only the partitions that it holds, so a sum over workers counts each partition once.

| label | values |
|---|---|
"""

_BUCKETS = """
## Buckets

| histogram | upper bounds |
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
