"""Trust roots that are fetched: whatever a mirror sends or a disk holds, the answer is the published target or a refusal of ours."""

from __future__ import annotations

import contextlib
import functools
import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical

from sigkit import limits
from sigkit.errors import Place, SigkitError
from sigkit.trust.signing_config import parse_signing_config
from sigkit.trust.store import Memory
from sigkit.trust.tuf import Client
from tests.simulators.tuf import TufSimulator

TARGET = b"the root"
NAMES = ("2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json")
PLACE = Place("p")

flips = st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 7)), min_size=1, max_size=3)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@functools.cache
def repository() -> tuple[bytes, dict[str, bytes], datetime]:
    sim = TufSimulator(datetime(2026, 6, 1, tzinfo=UTC))
    sim.targets_files["t"] = TARGET
    sim.publish()
    sim.rotate("timestamp")
    sim.sign("timestamp")
    return sim.pinned, dict(sim.files), sim.now


@functools.cache
def odd_repository() -> tuple[TufSimulator, dict[str, bytes]]:
    sim = TufSimulator(datetime(2026, 6, 1, tzinfo=UTC))
    sim.targets_files["t"] = TARGET
    sim.publish()
    return sim, dict(sim.files)


class Served:
    """A mirror of these files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def fetch_metadata(self, name: str, most_bytes: int) -> bytes | None:
        del most_bytes
        return self.files.get(name)

    def fetch_target(self, path: str, most_bytes: int) -> bytes | None:
        return self.fetch_metadata(f"targets/{path}", most_bytes)

    def place(self, name: str) -> Place:
        return Place("mirror", name)


def flipped(raw: bytes, where: list[tuple[int, int]]) -> bytes:
    changed = bytearray(raw)
    for index, bit in where:
        changed[index % len(changed)] ^= 1 << bit
    return bytes(changed)


def answers_rightly_or_refuses(files: dict[str, bytes], kept: dict[str, bytes], mirror: bool = True) -> None:
    pinned, _, when = repository()
    try:
        found = Client(pinned, PLACE, Memory(dict(kept), "cache"), Served(files) if mirror else None, when).target("t")
    except SigkitError:
        return
    assert found == TARGET


@given(st.sampled_from(NAMES), flips)
def test_bits_that_a_mirror_flips_change_no_target(name, where):
    _, files, _ = repository()
    answers_rightly_or_refuses({**files, name: flipped(files[name], where)}, {})


@given(st.sampled_from(NAMES), json_values)
def test_nor_do_other_documents(name, value):
    _, files, _ = repository()
    answers_rightly_or_refuses({**files, name: json.dumps(value).encode()}, {})


@given(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(["signed", "signatures", "keys", "roles", "meta", "targets", "version", "expires"])),
    json_values,
)
def test_nor_do_members_that_are_replaced(name, path, value):
    _, files, _ = repository()
    document = json.loads(files[name])
    inner = document
    for member in path:
        if isinstance(inner, dict) and isinstance(inner.get(member), dict):
            inner = inner[member]
    if isinstance(inner, dict) and inner:
        inner[min(inner)] = value
    answers_rightly_or_refuses({**files, name: json.dumps(document).encode()}, {})


@given(
    st.sampled_from(["keytype", "scheme", "public", "threshold", "keyids", "expires", "version", "spec_version", "consistent_snapshot"]),
    json_values
    | st.sampled_from(["00" * 32, "ecdsa", "rsa", "ed25519", "-----BEGIN PUBLIC KEY-----", "1.0.99", "2.0", "9999-12-31T23:59:59Z"]),
)
def test_a_root_that_is_signed_and_says_odd_things_ends_in_no_other_way(member, value):
    """Change one member of what the root says of the timestamp's role, and sign that as it must be signed."""
    sim, files = odd_repository()
    document = json.loads(files["1.root.json"])["signed"]
    document["version"] = 2
    role = document["roles"]["timestamp"]
    key = document["keys"][role["keyids"][0]]
    holder = next(inner for inner in (role, key, key["keyval"], document) if member in inner)
    holder[member] = value
    try:
        payload = str(encode_canonical(document)).encode()
    except FormatError:
        return
    signature = sim.signers["root"][0].sign(payload)
    raw = json.dumps({"signed": document, "signatures": [signature.to_dict()]}).encode()
    try:
        found = Client(sim.pinned, PLACE, Memory({}, "cache"), Served({**files, "2.root.json": raw}), sim.now).target("t")
    except SigkitError:
        return
    assert found == TARGET


@given(st.sampled_from(("2.root.json", "timestamp.json", "snapshot.json", "targets.json", "target-t")), flips, st.booleans())
def test_bits_that_a_disk_flips_change_no_target(name, where, mirror):
    pinned, files, when = repository()
    memory = Memory({}, "cache")
    Client(pinned, PLACE, memory, Served(files), when).target("t")
    answers_rightly_or_refuses(files, {**memory.files, name: flipped(memory.files[name], where)}, mirror)


@given(
    st.dictionaries(
        st.sampled_from(["mediaType", "caUrls", "oidcUrls", "rekorTlogUrls", "rekorTlogConfig", "tsaUrls", "tsaConfig"]), json_values
    )
)
def test_a_signing_config_is_read_or_refused(members):
    document = {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json", **members}
    with contextlib.suppress(SigkitError):
        parse_signing_config(json.dumps(document).encode(), PLACE, limits.DEFAULT)
