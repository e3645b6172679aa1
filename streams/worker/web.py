"""The worker's web pages: `/metrics`, `/health` (is it alive?) and `/ready` (does it work?).

If a policy ranks customers, there are `/cutoffs` and `/cutoffs.json` too. Faust's own pages (its index, router and
tables) are off. The size and the time of a request are bounded, and idle connections are closed. If a token is set,
every page but `/health` and `/ready` requires it.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import faust
from aiohttp.web import AppRunner, HTTPGatewayTimeout, HTTPUnauthorized, Request, Response, StreamResponse, middleware
from faust.web.drivers.aiohttp import Web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr

from streams.metrics.collectors import Metrics
from streams.worker.cutoff_page import CutoffHistory
from streams.worker.readiness import Readiness

#: The pages that show only the state of the process: open to any supervisor.
HEALTH, READY = "/health", "/ready"
#: How long (seconds) a connection may be idle, or take to send its request.
IDLE_S = 15.0
#: How long (seconds) an answer may take.
ANSWER_S = 10.0
#: How long (seconds) a request's body is read and discarded; no page uses it.
_LINGER_S = 1.0
#: The largest request body (bytes).
_MAX_BODY = 4_096

_Handler = Callable[[Request], Awaitable[StreamResponse]]


class Pages(Web):
    """Faust's web server without Faust's pages, and with limits."""

    default_blueprints: ClassVar[Any] = ()
    production_blueprints: ClassVar[Any] = ()
    debug_blueprints: ClassVar[Any] = ()
    optional_blueprints: ClassVar[Any] = ()

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._runner = AppRunner(
            self.web_app, access_log=None, keepalive_timeout=IDLE_S, lingering_time=_LINGER_S, shutdown_timeout=1.0
        )


def web_options(token: SecretStr | None) -> dict[str, Any]:
    """Return the options of the web application: its limits, and the check of `token` (None: no check)."""

    @middleware
    async def guard(request: Request, handler: _Handler) -> StreamResponse:
        if token is not None and request.path not in {HEALTH, READY} and not _shows(request, token.get_secret_value()):
            raise HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        try:
            async with asyncio.timeout(ANSWER_S):
                return await handler(request)
        except TimeoutError:
            raise HTTPGatewayTimeout from None

    return {"client_max_size": _MAX_BODY, "middlewares": [guard]}


def _shows(request: Request, token: str) -> bool:
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    # Compared in constant time, as bytes: a header may hold characters outside ASCII.
    return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(errors="replace"), token.encode())


def add_pages(app: faust.App, metrics: Metrics, readiness: Readiness, cutoffs: CutoffHistory | None = None) -> None:
    """Add the pages to a Faust app; `cutoffs` is None if no cut-offs are computed."""

    @app.page("/metrics")
    async def metrics_page(_web: Any, _request: Any) -> Any:
        return Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.page(HEALTH)
    async def health_page(web: Any, _request: Any) -> Any:
        return web.json({"status": "alive"})

    @app.page(READY)
    async def ready_page(web: Any, _request: Any) -> Any:
        obstacles = readiness.obstacles()
        return web.json({"ready": not obstacles, "obstacles": obstacles}, status=503 if obstacles else 200)

    if cutoffs is not None:
        _add_cutoffs(app, cutoffs)


def _add_cutoffs(app: faust.App, cutoffs: CutoffHistory) -> None:
    drawing = asyncio.Lock()  # drawing keeps a processor busy: one page at a time, outside the event loop

    @app.page("/cutoffs")
    async def cutoffs_page(_web: Any, _request: Any) -> Any:
        async with drawing:
            return Response(text=await asyncio.to_thread(cutoffs.as_page), content_type="text/html")

    @app.page("/cutoffs.json")
    async def cutoffs_json(_web: Any, _request: Any) -> Any:
        return Response(body=cutoffs.as_json(), content_type="application/json")
