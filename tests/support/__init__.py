"""What several test files share. Their assertions tell as much as those of a test."""

import pytest

pytest.register_assert_rewrite("tests.support.expected", "tests.support.live", "tests.support.restarts")
