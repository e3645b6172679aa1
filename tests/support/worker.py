"""`tidemark worker` with a short group session, so that tests do not wait for a dead member to be missed.

Started as `python -m tests.support.worker SECONDS`. The embedded broker lets a member that joins wait for half the
session, and one that takes over for all of it. Nothing else differs from `python -m streams worker`.
"""

import sys

from config.settings import Settings, load_settings
from streams import run
from streams.app import TidemarkApp, build


def main() -> None:
    session_s = float(sys.argv.pop(1))

    def build_with_short_session(settings: Settings) -> TidemarkApp:
        app = build(settings)
        app.conf.broker_session_timeout = session_s
        app.conf.broker_heartbeat_interval = session_s / 6
        return app

    run.build = build_with_short_session
    run.run_worker(load_settings())


if __name__ == "__main__":
    main()
