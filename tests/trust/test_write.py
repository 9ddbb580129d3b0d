"""What is written for one's own services says what was meant, and is read by others' clients."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from sigkit import limits
from sigkit.errors import Place, UnsupportedTrustedRoot
from sigkit.keys.public import parse_public_key
from sigkit.tlog.note import ED25519_TYPE, key_id_of
from sigkit.trust.bundled import load_public_good
from sigkit.trust.root import TrustedRoot, Window
from sigkit.trust.signing_config import AnyOne, EveryOne, Exactly, Service, parse_signing_config
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.trust.write import (
    WRITTEN,
    certificate_authority_of,
    certificate_log_of,
    encode_signing_config,
    encode_trusted_root,
    log_of,
    timestamp_authority_of,
)
from tests.simulators.sigstore_authorities import Authority, CertificateLog, Tsa
from tests.simulators.sigstore_logs import Clock, LogV1, LogV2, spki

ALWAYS = Window(datetime(2026, 1, 1, tzinfo=UTC), None)
CLOSED = Window(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, 23, 59, 59, 999000, tzinfo=UTC))
PLACE = Place("root.json")


def parse(raw: bytes) -> TrustedRoot:
    return parse_trusted_root(raw, "own", PLACE, limits.DEFAULT)


def content(root: TrustedRoot) -> tuple:
    """Return what a root says, without the file that says it."""
    return tuple(
        [tuple(getattr(item, name) for name in type(item).__match_args__ if name != "source") for item in listed]
        for listed in (root.logs, root.certificate_authorities, root.ct_logs, root.timestamp_authorities)
    )


@pytest.fixture
def made() -> TrustedRoot:
    clock = Clock()
    certificate_log = CertificateLog(clock)
    authority, tsa = Authority(clock, certificate_log), Tsa(clock)
    return TrustedRoot(
        "own",
        WRITTEN.digest,
        (),
        (certificate_authority_of("https://ca.example", [authority.intermediate.certificate, authority.anchor.certificate], ALWAYS, "us"),),
        (
            log_of("https://log1.example", parse_public_key(spki(LogV1(clock).key), PLACE), CLOSED, "us"),
            log_of("https://log2.example:8443", parse_public_key(spki(LogV2(clock).key), PLACE), ALWAYS, "us"),
        ),
        (certificate_log_of("https://ct.example", parse_public_key(spki(certificate_log.key), PLACE), ALWAYS, ""),),
        (timestamp_authority_of("https://tsa.example", [tsa.leaf.certificate, tsa.anchor.certificate], ALWAYS, "us"),),
    )


def test_what_is_written_is_what_is_read(made):
    assert content(parse(encode_trusted_root(made))) == content(made)


def test_a_log_is_named_by_its_id_alone(made):
    """A root of version 0.1 has no id of a checkpoint's key beside it, and sigstore-js would take that for the log's."""
    assert not any("checkpointKeyId" in log for log in json.loads(encode_trusted_root(made))["tlogs"])


def test_a_real_root_is_written_as_it_was_read():
    root = load_public_good()
    assert content(parse(encode_trusted_root(root))) == content(root)


def test_instances_stand_in_the_order_in_which_they_began(made):
    swapped = TrustedRoot("own", made.digest, (), made.certificate_authorities, made.logs[::-1], made.ct_logs, made.timestamp_authorities)
    assert encode_trusted_root(swapped) == encode_trusted_root(made)


@pytest.mark.oracle
def test_sigstore_python_reads_it(made, tmp_path):
    models = pytest.importorskip("sigstore.models")
    (tmp_path / "root.json").write_bytes(encode_trusted_root(made))
    read = models.TrustedRoot.from_file(str(tmp_path / "root.json"))
    assert len(read.get_fulcio_certs()) == 2
    assert len(read.get_timestamp_authorities()) == 1


def test_the_id_of_an_ed25519_log_is_that_of_its_key_under_a_note():
    key = b"".join(
        (bytes.fromhex("302a300506032b6570032100"), bytes.fromhex("e932791ae6e7a840a46164c904786426d5e7821dd8b29a00d61cae72afdd4da4"))
    )
    log = log_of("https://log.example:8443/x", parse_public_key(key, PLACE), ALWAYS, "")
    assert log.log_id == key_id_of("log.example", ED25519_TYPE, key[-32:])


def test_the_origin_of_a_log_is_its_host_without_the_port(made):
    assert made.logs[1].origin == "log2.example"


def test_a_key_that_clients_cannot_read_is_not_written():
    from cryptography.hazmat.primitives.asymmetric import rsa

    odd = parse_public_key(spki(rsa.generate_private_key(65537, 2560)), PLACE)
    with pytest.raises(UnsupportedTrustedRoot):
        log_of("https://log.example", odd, ALWAYS, "")


@pytest.mark.parametrize("selector", [AnyOne(), EveryOne(), Exactly(2)])
def test_a_signing_config_is_read_as_it_was_meant(selector):
    service = Service("https://log.example", 2, ALWAYS, "us")
    raw = encode_signing_config(logs=[service], log_selector=selector)
    config = parse_signing_config(raw, PLACE, limits.DEFAULT)
    assert config.logs == (service,)
    assert config.log_selector == selector
    assert {"rekorTlogConfig", "tsaConfig"} <= set(json.loads(raw))


@pytest.mark.oracle
def test_sigstore_python_reads_a_signing_config(tmp_path):
    models = pytest.importorskip("sigstore.models")
    now = Window(datetime(2020, 1, 1, tzinfo=UTC), None)
    raw = encode_signing_config(
        [Service("https://ca.example", 1, now, "us")],
        [Service("https://issuer.example", 1, now, "us")],
        [Service("https://log.example", 2, now, "us")],
        [Service("https://tsa.example/api/v1/timestamp", 1, now, "us")],
    )
    (tmp_path / "config.json").write_bytes(raw)
    read = models.SigningConfig.from_file(str(tmp_path / "config.json"))
    assert read.get_oidc_url() == "https://issuer.example"
