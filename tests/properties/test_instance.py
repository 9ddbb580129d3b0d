"""Evidence with certificates, logs and timestamps: a flipped bit never proves more, and order and strangers change nothing."""

from __future__ import annotations

import base64
import functools
import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import SigkitError
from tests.simulators.sigstore import Case, Simulator
from tests.simulators.sigstore_authorities import Tsa
from tests.simulators.sigstore_logs import LogV1, LogV2, b64

STRANGERS = Simulator()
MADE = [
    ("dsse", ("dsse", "v2"), "identity", "0.3"),
    ("dsse", ("intoto",), "identity", "0.2"),
    ("dsse", ("v2",), "key", "0.3"),
    ("message", ("hashedrekord", "v2"), "identity", "0.3"),
    ("message", ("rekord",), "key", "0.1"),
    ("simple", ("hashedrekord",), "identity", "0.3"),
    ("att", ("dsse",), "identity", "0.3"),
    ("blob", ("hashedrekord",), "identity", "0.3"),
]
BYTES = ("rawBytes", "sig", "signature", "payload", "digest", "keyId", "rootHash", "canonicalizedBody", "signedEntryTimestamp")
ENCODED = {*BYTES, "signedTimestamp", "body", "SignedEntryTimestamp", "SignedRFC3161Timestamp", "hashes"}
every = st.sampled_from(MADE)
bundles = st.sampled_from([made for made in MADE if made[0] in {"dsse", "message"}])


@functools.cache
def good(made: tuple[str, tuple[str, ...], str, str]) -> Case:
    return Simulator().make(*made)


@functools.cache
def proved(made: tuple[str, tuple[str, ...], str, str]):
    return claims_of(good(made).judge())


def claims_of(facts):
    """Return what is proved: everything but where it was found and what is said to be unchecked."""
    ordered = (sorted(map(repr, part)) for part in (facts.inclusions, facts.promises, facts.times, facts.certificate_logs))
    return facts.signature, facts.signer, *ordered


def proves_no_more(case: Case, made) -> bool:
    """Tell whether a case is refused, or proves what the good one does, or less of what others vouch for; never anything else."""
    try:
        facts = case.judge()
    except SigkitError:
        return True
    (signature, signer, *others), (expected_signature, expected_signer, *most) = claims_of(facts), proved(made)
    same = (signature, signer) == (expected_signature, expected_signer)
    return same and all(set(some) <= set(all_of_them) for some, all_of_them in zip(others, most, strict=True))


def byte_fields(document, path=()):
    """Yield the path of every text in a document that holds bytes in base64."""
    items = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for name, value in items:
        named = name if isinstance(name, str) else path[-1]
        if isinstance(value, str) and (named in ENCODED or (len(path) and path[-1] == "hashes")):
            yield (*path, name)
        yield from byte_fields(value, (*path, name))


def flip(raw: bytes, bit: int) -> bytes:
    bit %= 8 * len(raw)
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(made=every, part=st.integers(0, 9), bit=st.integers(0, 2**20))
def test_a_flipped_bit_of_a_part_proves_no_more(made, part, bit):
    case = good(made)
    name = sorted(case.parts)[part % len(case.parts)]
    changed = replace(case, parts={**case.parts, name: flip(case.parts[name], bit)})
    assert proves_no_more(changed, made)


@given(made=every, choice=st.integers(0, 99), bit=st.integers(0, 2**20))
def test_a_flipped_bit_of_what_is_encoded_in_it_proves_no_more(made, choice, bit):
    """Here base64 stays well-formed, so that what is changed are certificates, signatures, proofs and tokens."""
    case = good(made)
    documents = [(name, json.loads(raw)) for name, raw in sorted(case.parts.items()) if raw[:1] == b"{" and name != "layer"]
    fields = [(name, document, path) for name, document in documents for path in byte_fields(document)]
    if not fields:
        return
    name, document, path = fields[choice % len(fields)]
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = b64(flip(base64.b64decode(holder[path[-1]]), bit))
    assert proves_no_more(replace(case, parts={**case.parts, name: json.dumps(document).encode()}), made)


@given(made=bundles, data=st.data())
def test_the_order_of_entries_and_timestamps_changes_nothing(made, data):
    stamp = {"signedTimestamp": b64(Tsa(STRANGERS.clock).stamp(b"anything"))}

    def shuffle(bundle):
        material = bundle["verificationMaterial"]
        material["tlogEntries"] = data.draw(st.permutations(material["tlogEntries"]))
        stamps = material["timestampVerificationData"]
        stamps["rfc3161Timestamps"] = data.draw(st.permutations([*stamps["rfc3161Timestamps"], stamp]))

    assert claims_of(good(made).with_bundle(shuffle).judge()) == proved(made)


FOREIGN = {
    "entry": lambda bundle: bundle["verificationMaterial"]["tlogEntries"].append(
        LogV1(STRANGERS.clock, "stranger.example").add({"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": {}})
    ),
    "entry of the second generation": lambda bundle: bundle["verificationMaterial"]["tlogEntries"].append(
        LogV2(STRANGERS.clock, "stranger.example").add({})
    ),
    "timestamp": lambda bundle: bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"].append(
        {"signedTimestamp": b64(Tsa(STRANGERS.clock).stamp(b"anything"))}
    ),
    "cosignature": lambda bundle: [
        entry["inclusionProof"]["checkpoint"].update(
            envelope=entry["inclusionProof"]["checkpoint"]["envelope"] + f"\u2014 witness.example {b64(b'id..' + bytes(64))}\n"
        )
        for entry in bundle["verificationMaterial"]["tlogEntries"]
    ],
}


@given(made=bundles, names=st.lists(st.sampled_from(sorted(FOREIGN)), min_size=1, max_size=4, unique=True))
def test_what_nobody_knows_beside_good_evidence_is_named_and_changes_nothing(made, names):
    if made[-1] == "0.1":  # where each entry needs a promise
        names = [name for name in names if name != "entry of the second generation"]

    def add(bundle):
        for name in names:
            FOREIGN[name](bundle)

    facts = good(made).with_bundle(add).judge()
    assert claims_of(facts) == proved(made)
    assert len(facts.unchecked) >= len(names)
