"""The number of examples for each law: 100, or TIDEMARK_LAW_EXAMPLES."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws",
    max_examples=int(os.environ.get("TIDEMARK_LAW_EXAMPLES", "100")),
    derandomize="CI" in os.environ,  # a failure there can be reproduced
    deadline=None,  # a slow machine breaks no law
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
settings.load_profile("laws")
