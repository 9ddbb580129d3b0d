"""What is written of a bundle is read back the same, whatever it holds, and is what other readers need."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sigkit import limits
from sigkit.errors import NOWHERE
from sigkit.evidence.bundle import V03, Bundle, CertificateMaterial, KeyMaterial, MessageSignature, parse_bundle, write_bundle
from sigkit.evidence.envelope import IN_TOTO_TYPE, Envelope
from sigkit.tlog.entry import InclusionProof, LogEntry

NUMBERS = st.integers(0, 2**63 - 1)
HASHES = st.binary(min_size=32, max_size=32)
SOME = st.binary(min_size=1, max_size=40)
PROOFS = st.builds(InclusionProof, NUMBERS, NUMBERS, HASHES, st.lists(HASHES, max_size=5).map(tuple), st.text(min_size=1, max_size=60))
ENTRIES = st.builds(
    LogEntry, NUMBERS, SOME, st.text(max_size=20), st.text(max_size=9), NUMBERS, st.none() | SOME, PROOFS, st.binary(max_size=60)
)
BUNDLES = st.builds(
    Bundle,
    st.just(V03),
    st.builds(KeyMaterial, st.text(max_size=40)) | st.builds(CertificateMaterial, st.tuples(SOME)),
    st.builds(Envelope, st.binary(), st.just(IN_TOTO_TYPE), SOME) | st.builds(MessageSignature, SOME, st.none()),
    st.lists(ENTRIES, max_size=3, unique_by=lambda entry: (entry.log_id, entry.index)).map(tuple),
    st.lists(SOME, max_size=3, unique=True).map(tuple),
)


@given(BUNDLES)
def test_what_is_written_is_read_back_the_same(bundle):
    assert parse_bundle(write_bundle(bundle), limits.DEFAULT, NOWHERE) == bundle


def test_numbers_are_text_and_zero_is_written():
    proof = InclusionProof(0, 1, bytes(32), (), "note")
    bundle = Bundle(V03, KeyMaterial("h"), MessageSignature(b"s", None), (LogEntry(0, b"i", "k", "v", 0, None, proof, b""),), (b"t",))
    material = json.loads(write_bundle(bundle))["verificationMaterial"]
    (entry,) = material["tlogEntries"]
    assert (entry["logIndex"], entry["inclusionProof"]["logIndex"], entry["inclusionProof"]["treeSize"]) == ("0", "0", "1")
    assert "integratedTime" not in entry
    assert "inclusionPromise" not in entry
    assert entry["inclusionProof"]["hashes"] == []


def test_a_key_alone_writes_nothing_of_logs_and_times():
    material = json.loads(write_bundle(Bundle(V03, KeyMaterial("h"), MessageSignature(b"s", None))))["verificationMaterial"]
    assert material == {"publicKey": {"hint": "h"}}
