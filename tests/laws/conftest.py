"""The number of examples for each law: 50, or TIDEMARK_LAW_EXAMPLES (`make test-all`: 2,000)."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws",
    max_examples=int(os.environ.get("TIDEMARK_LAW_EXAMPLES", "50")),
    derandomize="CI" in os.environ,  # a failure there can be reproduced
    deadline=None,  # a slow machine breaks no law
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
settings.load_profile("laws")
