"""What entries of logs prove when they are no part of evidence: the last line of defence behind the parsers."""

from __future__ import annotations

import pytest

from sigkit import limits
from sigkit.errors import CheckpointNotSigned, Place, UnsupportedEntry
from sigkit.evidence.bundle import CertificateMaterial, parse_bundle
from sigkit.evidence.envelope import Envelope, pre_authentication_encoding
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.verify.chain import parse_signing_certificate
from sigkit.verify.entries import Logged, verify_entries
from sigkit.verify.signature import OverBytes
from tests.simulators.sigstore import IN_TOTO, Simulator
from tests.simulators.sigstore_logs import b64

PLACE = Place("b")


def test_an_entry_behind_which_nothing_stands_is_refused():
    case = Simulator().make()
    bundle = parse_bundle(case.parts["bundle"], limits.DEFAULT, PLACE)
    logs = parse_trusted_root(case.root, "sim", PLACE, limits.DEFAULT).logs
    assert isinstance(bundle.material, CertificateMaterial)
    signing = parse_signing_certificate(bundle.material.chain, PLACE)
    assert isinstance(bundle.content, Envelope)
    payload = bundle.content.payload
    logged = Logged(OverBytes(pre_authentication_encoding(IN_TOTO, payload)), bundle.content.signature, payload, signing.key, signing.der)
    (entry,) = bundle.entries
    assert verify_entries((entry,), logged, logs, PLACE, limits.DEFAULT).inclusions
    bare = type(entry)(entry.index, entry.log_id, entry.kind, entry.version, entry.integrated_time, None, None, entry.body)
    with pytest.raises(UnsupportedEntry):
        verify_entries((bare,), logged, logs, PLACE, limits.DEFAULT)


def test_the_line_of_a_log_is_told_by_the_id_that_the_root_states():
    sim = Simulator()
    sim.log2.line = lambda text: f"\u2014 {sim.log2.host} {b64(b'abcd' + sim.log2.key.sign(text.encode()))}\n"  # type: ignore[method-assign]
    with pytest.raises(CheckpointNotSigned):
        sim.make(logs=("v2",)).judge()
    sim.change["root"] = lambda root: root["tlogs"][1].update(checkpointKeyId={"keyId": b64(b"abcd")}) or root
    assert [fact.log for fact in sim.make(logs=("v2",)).judge().inclusions] == [f"https://{sim.log2.host}"]
