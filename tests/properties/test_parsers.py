"""Whatever comes from outside, a parser gives a value or one of our refusals; and it takes what it should.

Three kinds of input: any bytes, a valid document with bytes changed, and a valid document with one member taken out or replaced.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit import limits, strict
from sigkit.digest import Digest, parse_digest
from sigkit.errors import NOWHERE, SigkitError
from sigkit.evidence.bundle import parse_bundle
from sigkit.evidence.simple_signing import parse_simple_signing
from sigkit.evidence.statement import parse_statement
from sigkit.keys.public import parse_public_key
from sigkit.net.url import parse_url
from sigkit.oci.auth import parse_challenges, parse_token
from sigkit.oci.descriptor import parse_platform
from sigkit.oci.image import parse_image_config
from sigkit.oci.manifest import parse_manifest
from sigkit.oci.reference import parse_reference
from sigkit.policy.document import parse_document
from sigkit.runtime.config import parse_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEX = "a" * 64
DIGEST = f"sha256:{HEX}"
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 3}
CHILD = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": DIGEST, "size": 9}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2},
    "layers": [LAYER],
    "subject": CHILD,
    "annotations": {"a": "b"},
}
INDEX = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [{**CHILD, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}],
}
IMAGE = {
    "os": "linux",
    "architecture": "amd64",
    "config": {
        "User": "1:2",
        "Env": ["A=b"],
        "Entrypoint": ["/x"],
        "Cmd": ["y"],
        "WorkingDir": "/",
        "Labels": {"l": "m"},
        "Volumes": {"/v": {}},
    },
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
}
STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "r.example/a", "digest": {"sha256": HEX}, "annotations": {"k": "v"}}],
    "predicateType": "https://sigstore.dev/cosign/sign/v1",
    "predicate": {},
}
SIMPLE_SIGNING = {
    "critical": {
        "identity": {"docker-reference": "r.example/a"},
        "image": {"docker-manifest-digest": DIGEST},
        "type": "cosign container image signature",
    },
    "optional": None,
}
BUNDLE = {
    "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "verificationMaterial": {"publicKey": {"hint": "h"}},
    "dsseEnvelope": {
        "payload": base64.b64encode(json.dumps(STATEMENT).encode()).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": "AAAA", "keyid": ""}],
    },
}
RUNTIME = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "process": {"args": ["/bin/sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["A=b"]},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}], "resources": {"pids": {"limit": 5}}},
}
PEM = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
"""
POLICY = b"""apiVersion: sigkit.dev/v1alpha1
rules:
  - images: [registry.example/**]
    keys: {one: [prod.pub]}
"""


class Parser(NamedTuple):
    """A parser of bytes, and a document that it takes."""

    name: str
    parse: Callable[[bytes], object]
    seed: bytes


def as_text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    """Feed a parser of text: what is not UTF-8 is refused where text comes from."""
    return lambda raw: parse(strict.decode_utf8(raw, NOWHERE))


PARSERS = [
    Parser("json", lambda raw: strict.parse_json(raw, most_bytes=10_000), json.dumps(BUNDLE).encode()),
    Parser("manifest", lambda raw: parse_manifest(raw, Digest.of(raw), NOWHERE), json.dumps(MANIFEST).encode()),
    Parser("index", lambda raw: parse_manifest(raw, Digest.of(raw), NOWHERE), json.dumps(INDEX).encode()),
    Parser("image-config", lambda raw: parse_image_config(raw, NOWHERE), json.dumps(IMAGE).encode()),
    Parser("bundle", lambda raw: parse_bundle(raw, limits.DEFAULT, NOWHERE), json.dumps(BUNDLE).encode()),
    Parser("statement", lambda raw: parse_statement(raw, limits.DEFAULT, NOWHERE), json.dumps(STATEMENT).encode()),
    Parser("simple-signing", lambda raw: parse_simple_signing(raw, limits.DEFAULT, NOWHERE), json.dumps(SIMPLE_SIGNING).encode()),
    Parser("token", lambda raw: parse_token(raw, NOWHERE), b'{"token": "t", "expires_in": 60, "issued_at": "2026-01-01T00:00:00Z"}'),
    Parser("runtime-config", lambda raw: parse_config(raw, NOWHERE), json.dumps(RUNTIME).encode()),
    Parser("public-key", lambda raw: parse_public_key(raw, NOWHERE), PEM),
    Parser("policy", lambda raw: parse_document(raw, NOWHERE), POLICY),
    Parser("reference", as_text(parse_reference), f"r.example:5000/a/b:v1@{DIGEST}".encode()),
    Parser("digest", as_text(parse_digest), DIGEST.encode()),
    Parser("platform", as_text(parse_platform), b"linux/arm64/v8"),
    Parser("url", as_text(parse_url), b"https://r.example:5000/v2/?a=b"),
    Parser("challenges", as_text(parse_challenges), b'Bearer realm="https://r.example/token",service="s", Basic realm="x"'),
]
JSON_PARSERS = [parser for parser in PARSERS if parser.seed.startswith(b"{")]

each = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([DIGEST, HEX, "", "/../x", "\x1b[2J"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


def paths(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every member and item of a JSON value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield (*at, key)
        yield from paths(inner, (*at, key))


@st.composite
def damaged_json(draw, seed: bytes) -> bytes:
    """Give the document with one member or item taken out, replaced, or put under another name."""
    document = json.loads(seed)
    path = draw(st.sampled_from(sorted(paths(document), key=str)))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    match draw(st.sampled_from(["remove", "replace", "add"])):
        case "remove":
            del holder[path[-1]]
        case "replace":
            holder[path[-1]] = draw(json_values)
        case _ if isinstance(holder, dict):
            holder[draw(st.text(max_size=10))] = copy.deepcopy(holder[path[-1]])
        case _:
            holder.append(draw(json_values))
    return json.dumps(document).encode()


def takes_or_refuses(parser: Parser, raw: bytes) -> None:
    """Parse; anything but a value or a refusal of ours is raised."""
    with contextlib.suppress(SigkitError):
        parser.parse(raw)


@each
def test_a_valid_document_is_taken(parser):
    parser.parse(parser.seed)


@each
@given(raw=st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(parser, raw):
    takes_or_refuses(parser, raw)


@each
@given(data=st.data())
def test_changed_bytes_are_parsed_or_refused(parser, data):
    raw = bytearray(parser.seed)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        raw[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    takes_or_refuses(parser, bytes(raw))


@pytest.mark.parametrize("parser", JSON_PARSERS, ids=lambda parser: parser.name)
@given(data=st.data())
def test_a_document_with_another_member_is_parsed_or_refused(parser, data):
    takes_or_refuses(parser, data.draw(damaged_json(parser.seed)))


@pytest.mark.parametrize("parser", JSON_PARSERS, ids=lambda parser: parser.name)
def test_a_member_twice_is_refused(parser):
    with pytest.raises(SigkitError):
        parser.parse(parser.seed[:-1] + b"," + parser.seed[1:])


@pytest.mark.parametrize("parser", [p for p in PARSERS if p in JSON_PARSERS or p.name == "policy"], ids=lambda parser: parser.name)
def test_what_is_nested_a_hundred_thousand_deep_is_refused(parser):
    with pytest.raises(SigkitError):
        parser.parse(b"[" * 100_000)
