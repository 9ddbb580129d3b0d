import pytest

from tests.simulators import gatehouse


@pytest.fixture
def host(tmp_path):
    """A host with a gate, a registry in memory and an engine that records."""
    yield from gatehouse.opened(tmp_path)
