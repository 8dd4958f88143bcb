"""Training is compared bit for bit, with programs that are optimised."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def bits_of_optimised_programs(optimised):
    yield
