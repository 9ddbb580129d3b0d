"""A threshold counts signers: no order of elements or signatures changes how many."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from sigkit.digest import Digest
from sigkit.errors import Place
from sigkit.policy.decision import Met
from sigkit.policy.distinct import count_distinct, signer_id
from sigkit.policy.identity import Exactly, IdentityPattern
from sigkit.policy.model import AllOf, Anchor, IdentityRequirement
from sigkit.verify.facts import IdentitySigner, KeySigner

HERE = Place("policy.yaml")
ANCHOR = Anchor("root", Digest.of(b""), Digest.of(b""))
LEAF = IdentityRequirement(IdentityPattern(Exactly("i"), Exactly("s")), ANCHOR, HERE)


def signer(name: str, extensions=None) -> IdentitySigner:
    return IdentitySigner("issuer", name, extensions or {})


def met(names) -> Met:
    return Met("", HERE, tuple(signer(name) for name in names))


def by_trying(offers: list[str]) -> int:
    """Count by trying every order of the elements, each taking the first signer that is free in every order of its signers."""
    if not offers:
        return 0
    first, rest = offers[0], offers[1:]
    without = by_trying(rest)
    return max([without, *(1 + by_trying(["".join(set(other) - {name}) for other in rest]) for name in first)])


@given(st.lists(st.text(alphabet="abcd", max_size=3), max_size=5))
def test_as_many_elements_count_as_can_have_signers_of_their_own(offers):
    met_elements = [(LEAF, met(offer)) for offer in offers if offer]
    assert count_distinct(met_elements) == by_trying([offer for offer in offers if offer])


def test_the_order_of_elements_changes_nothing():
    offers = ["ab", "a", "bc", "c"]
    counts = {count_distinct([(LEAF, met(offer)) for offer in order]) for order in permutations(offers)}
    assert counts == {3}


def test_many_elements_and_signers_are_counted_without_recursion():
    chain = [(LEAF, met([f"{index}", f"{index + 1}"])) for index in range(2_000)]
    assert count_distinct(list(reversed(chain))) == 2_000


def test_an_element_that_takes_several_keys_takes_nobody_elses():
    key = KeySigner(Digest.of(b"k"), "ecdsa-p256", "k")
    several = (AllOf((LEAF,), HERE), Met("", HERE, (key,)))
    assert count_distinct([several, (LEAF, met("a"))]) == 2


def test_c21_a_signer_is_a_key_or_issuer_and_subject_whatever_the_certificate():
    assert signer_id(signer("a")) == signer_id(signer("a", {"buildSignerURI": "x"}))
    assert signer_id(signer("a")) != signer_id(IdentitySigner("other", "a", {}))
    assert signer_id(KeySigner(Digest.of(b"k"), "ecdsa-p256", "one")) == signer_id(KeySigner(Digest.of(b"k"), "ecdsa-p256", "two"))
