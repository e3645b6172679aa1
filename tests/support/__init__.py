"""What several test files share. Failed assertions here show as much as those of a test."""

import pytest

pytest.register_assert_rewrite("tests.support.expected", "tests.support.live", "tests.support.restarts")
