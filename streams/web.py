"""The worker's web pages: `/metrics` for Prometheus and `/health` for whoever supervises it."""

from collections.abc import Callable
from typing import Any

import faust
from aiohttp.web import Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from streams.metrics import Metrics


def add_pages(app: faust.App, metrics: Metrics, recovered: Callable[[], bool]) -> None:
    """Add the pages to a Faust app; `recovered()` says whether partitions are held and recovered."""

    @app.page("/metrics")
    async def metrics_page(_web: Any, _request: Any) -> Any:
        return Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.page("/health")
    async def health_page(web: Any, _request: Any) -> Any:
        return web.json({"status": "alive", "recovered": recovered()})
