"""sigstore's own TUF repository, as it was on a day, is followed from each of its roots to the bytes that come with sigkit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sigkit import limits
from sigkit.errors import MetadataExpired, Place
from sigkit.trust import bundled
from sigkit.trust.store import Memory
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.trust.tuf import Client

CHECKOUT = Path(__file__).resolve().parents[2]
PUBLISHED = CHECKOUT / "fixtures/tuf/root-signing"
PACKAGE = CHECKOUT / "sigkit/trust"
THEN = datetime(2026, 8, 22, tzinfo=UTC)
IN_PACKAGE = {
    "15.root.json": "public_good_root.json",
    "trusted_root.json": "public_good.json",
    "signing_config.v0.2.json": "public_good_signing_config.json",
}


def read(name: str) -> bytes | None:
    path = PACKAGE / IN_PACKAGE[name] if name in IN_PACKAGE else PUBLISHED / name
    return path.read_bytes() if path.exists() else None


class Mirror:
    """Serves the files by their versioned names, and targets by their hashes, as the real one does."""

    def fetch_metadata(self, name: str, most_bytes: int) -> bytes | None:
        raw = read(name if name.endswith(".root.json") else name.rpartition(".json")[0].rpartition(".")[2] + ".json")
        assert raw is None or len(raw) <= most_bytes
        return raw

    def fetch_target(self, path: str, most_bytes: int) -> bytes | None:
        raw = read(path.partition(".")[2])
        assert raw is None or len(raw) <= most_bytes
        return raw

    def place(self, name: str) -> Place:
        return Place("published", name)


@pytest.mark.parametrize("version", range(10, 16))  # that of version 11 has a key whose id is not its hash
def test_the_repository_is_followed_from_each_of_its_roots(version):
    pinned = read(f"{version}.root.json")
    assert pinned is not None
    client = Client(pinned, Place("pinned"), Memory({}, "cache"), Mirror(), THEN)
    raw = client.target("trusted_root.json")
    assert client.root.version == 15
    assert raw == read("trusted_root.json")
    assert client.target("signing_config.v0.2.json") == read("signing_config.v0.2.json")
    assert parse_trusted_root(raw, "public-good", Place("target"), limits.DEFAULT).logs


def test_a_week_later_it_had_to_be_newer():
    with pytest.raises(MetadataExpired):
        Client(
            bundled.load_public_good_tuf_root(), Place("pinned"), Memory({}, "cache"), Mirror(), datetime(2026, 8, 29, tzinfo=UTC)
        ).refresh()
