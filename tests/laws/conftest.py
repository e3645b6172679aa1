"""How hard the laws are tried: 50 examples each, or as many as TIDEMARK_LAW_EXAMPLES says (`make test-all`: 2,000)."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws",
    max_examples=int(os.environ.get("TIDEMARK_LAW_EXAMPLES", "50")),
    derandomize="CI" in os.environ,  # what fails there fails for whoever repeats it
    deadline=None,  # a slow machine breaks no law
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
settings.load_profile("laws")
