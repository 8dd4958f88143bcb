"""Training is compared bit for bit, so that programs are optimised as users have them."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def as_users_have_it(optimised):
    yield
