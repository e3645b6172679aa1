"""`tidemark worker` with a short group session, so that tests do not wait for a dead member to be missed.

Started as `python -m tests.support.worker SECONDS`. The embedded broker lets a member that joins wait for half the
session, and one that takes over for all of it. Faults that the environment asks for are in `tests.support.faults`.
Nothing else differs from `python -m streams worker`.
"""

import os
import sys

from config.settings import Settings, load_settings
from streams.worker import main as run
from streams.worker.app import build
from streams.worker.faust_app import TidemarkApp
from tests.support import faults


def main() -> None:
    session_s = float(sys.argv.pop(1))
    faults.install()

    def build_with_short_session(settings: Settings) -> TidemarkApp:
        app = build(settings)
        app.conf.broker_session_timeout = session_s
        app.conf.broker_heartbeat_interval = session_s / 6
        if timeout_s := os.environ.get("TIDEMARK_TEST_PRODUCER_TIMEOUT"):
            app.conf.producer_request_timeout = float(timeout_s)
        return app

    run.build = build_with_short_session
    run.run_worker(load_settings())


if __name__ == "__main__":
    main()
