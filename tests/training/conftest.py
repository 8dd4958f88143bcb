"""Training is compared bit for bit: as users have it, compiled with all optimisations."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def as_users_have_it(optimised):
    yield
