# syntax=docker/dockerfile:1

FROM python:3.11.15-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/tidemark
# Dependencies first: this layer is rebuilt only when the lock changes.
COPY requirements-runtime.lock /src/
RUN /opt/tidemark/bin/pip install --requirement /src/requirements-runtime.lock
COPY pyproject.toml README.md LICENSE /src/
COPY models /src/models
COPY config /src/config
COPY streams /src/streams
RUN /opt/tidemark/bin/pip install --no-deps /src

FROM python:3.11.15-slim-bookworm
LABEL org.opencontainers.image.title="tidemark" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/tidemark/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TIDEMARK_DATA_DIR=/var/lib/tidemark
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tidemark \
    && install --directory --owner=tidemark --group=tidemark /var/lib/tidemark
COPY --from=build /opt/tidemark /opt/tidemark
USER tidemark
WORKDIR /var/lib/tidemark
EXPOSE 6066
# Connects directly to the loopback address, ignoring proxy settings; urllib raises on 4xx and 5xx.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('TIDEMARK_WEB_PORT', '6066') + '/health', timeout=4)"]
ENTRYPOINT ["tidemark"]
CMD ["worker"]
