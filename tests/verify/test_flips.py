"""Evidence of every form with one thing in it changed: refused, or nothing more is proved and everything said less is said to be so."""

from __future__ import annotations

import base64
import binascii
import json
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import SigkitError
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_logs import LogV1, b64

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.verify.facts import Facts

CASES = {
    "identity, dsse, both logs": Simulator().make("dsse", ("dsse", "v2")),
    "identity, file, rekord": Simulator().make("message", ("rekord",), version="0.2"),
    "key, intoto": Simulator().make("dsse", ("intoto",), "key", "0.1"),
    "key, file, v2": Simulator().make("message", ("v2",), "key"),
    "identity, simple signing": Simulator().make("simple", ("hashedrekord",)),
    "identity, envelope": Simulator().make("att", ("dsse",)),
    "key, detached": Simulator().make("blob", ("hashedrekord",), "key"),
}
GOOD = {name: case.judge() for name, case in CASES.items()}


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(document, str):
        yield path, document
    elif isinstance(document, (dict, list)):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from leaves(value, (*path, key))


def flip(text: str, position: int, bit: int) -> str:
    """Flip a bit of what base64 stands for, or of a character."""
    try:
        raw = bytearray(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raw = bytearray()
    if len(raw) < 8:  # a number or a word
        at = position % len(text)
        return text[:at] + chr(ord(text[at]) ^ 1 << bit % 7) + text[at + 1 :]
    raw[position % len(raw)] ^= 1 << bit
    return b64(bytes(raw))


def proves_no_more(facts: Facts, good: Facts) -> bool:
    """Tell whether every fact was there before, and what is missing now is named as unchecked."""
    fewer = all(set(getattr(facts, name)) <= set(getattr(good, name)) for name in ("inclusions", "promises", "times", "certificate_logs"))
    same = (facts.signature, facts.signer) == (good.signature, good.signer)
    lost = len(good.inclusions) + len(good.promises) + len(good.times) - len(facts.inclusions) - len(facts.promises) - len(facts.times)
    return fewer and same and (lost == 0 or len(facts.unchecked) > len(good.unchecked))


@pytest.mark.parametrize("name", CASES)
@given(leaf=st.integers(min_value=0), position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_one_flipped_bit_is_refused_or_proves_no_more(name, leaf, position, bit):
    case = CASES[name]
    parts = {part: json.loads(raw) if raw.startswith(b"{") and part != "layer" else raw.decode() for part, raw in case.parts.items()}
    every = list(leaves(parts))
    path, text = every[leaf % len(every)]
    holder: Any = parts
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = flip(text, position, bit)
    changed = {part: value.encode() if isinstance(value, str) else json.dumps(value).encode() for part, value in parts.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's, of serial numbers that are not positive
            facts = replace(case, parts=changed).judge()
    except SigkitError:
        return
    assert proves_no_more(facts, GOOD[name])


def test_the_order_of_entries_changes_no_fact():
    case = CASES["identity, dsse, both logs"]
    facts = case.with_bundle(lambda bundle: bundle["verificationMaterial"]["tlogEntries"].reverse()).judge()
    good = GOOD["identity, dsse, both logs"]
    assert set(facts.inclusions) == set(good.inclusions)
    assert (facts.promises, facts.signer, facts.certificate_logs) == (good.promises, good.signer, good.certificate_logs)
    assert set(facts.times) == set(good.times)


def test_what_nobody_knows_beside_good_evidence_takes_nothing_away_and_is_named():
    sim = Simulator()
    stranger = LogV1(sim.clock, "stranger.example")

    def add(bundle):
        entry = json.loads(json.dumps(bundle["verificationMaterial"]["tlogEntries"][0]))
        entry["logId"]["keyId"] = b64(stranger.log_id)
        bundle["verificationMaterial"]["tlogEntries"].insert(0, entry)

    case = sim.make()
    good, facts = case.judge(), case.with_bundle(add).judge()
    assert (facts.inclusions, facts.promises, facts.times) == (good.inclusions, good.promises, good.times)
    assert [item.why for item in facts.unchecked] == ["the trust root holds no such log"]
