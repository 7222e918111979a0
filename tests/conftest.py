"""Fixtures that all tests share."""

import pytest
from goblins import Vat
from hypothesis import settings
from support import PLACES

# A busy machine makes any program seem slow.
settings.register_profile("any time", deadline=None)
settings.load_profile("any time")


@pytest.fixture
def vat():
    vat = Vat("home")
    yield vat
    vat.close()


@pytest.fixture
def other_vat():
    vat = Vat("abroad")
    yield vat
    vat.close()


@pytest.fixture(params=sorted(PLACES))
def place(request, tmp_path):
    """A store of each kind, to be left and opened again."""
    place = PLACES[request.param](tmp_path)
    yield place
    place.store.close()


@pytest.fixture
def memory(tmp_path):
    place = PLACES["memory"](tmp_path)
    yield place
    place.store.close()


@pytest.fixture
def rocks(tmp_path):
    place = PLACES["rocks"](tmp_path)
    yield place
    place.store.close()
