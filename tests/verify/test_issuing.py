"""A path that ends at an authority's lowest certificate proves what the whole one does."""

from __future__ import annotations

import pytest
from cryptography import x509

from sigkit import limits
from sigkit.errors import NOWHERE
from sigkit.trust.bundled import load_public_good
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.verify.issuing import find_issuing
from tests.simulators.mutants import ROWS
from tests.simulators.mutants.chain import CHAIN, EXCLUDED, FOR_SERVERS, anchored
from tests.simulators.removed import Edit, edited
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import DAY, Link, certify, key_usage, new_key

OTHER_NAME = x509.UniformResourceIdentifier("other.example")
FOR_DNS = (x509.NameConstraints([x509.DNSName("a.example")], None), True)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
WHOLE_PATHS = Edit("verify.chain", "_find_short_path(signing, authority) or ", "")


def verdict(case):
    """Return what verification says: the facts, or the code of the refusal."""
    from sigkit.errors import SigkitError  # of the package as it is imported now: edited or not

    try:
        return str(case.judge())
    except SigkitError as err:
        return err.code


@pytest.mark.parametrize("authority", load_public_good().certificate_authorities, ids=lambda authority: authority.valid.start.date())
def test_a_path_to_an_authority_of_the_public_good_instance_ends_at_its_lowest_certificate(authority):
    issuing = find_issuing(authority.certificates)
    assert issuing
    assert issuing.certificate == authority.certificates[0]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(anchored(1, (EXCLUDED, True)), id="names"),
        pytest.param(anchored(0), id="length"),
        pytest.param(CHAIN["an anchor for servers"].make, id="purpose"),
    ],
)
def test_a_path_goes_up_to_an_anchor_that_forbids_something(make):
    (authority,) = parse_trusted_root(make(Simulator()).root, "sim", NOWHERE, limits.DEFAULT).certificate_authorities
    assert find_issuing(authority.certificates) is None


def is_ca(length):
    return x509.BasicConstraints(ca=True, path_length=length), True


SIGNS = (key_usage("key_cert_sign"), True)
SAID = {  # by an authority's certificate, and whether a signer beneath it is accepted
    "nothing more": ([is_ca(None), SIGNS], True),
    "a name excluded": ([is_ca(None), SIGNS, (EXCLUDED, True)], False),
    "another name permitted": ([is_ca(None), SIGNS, (x509.NameConstraints([OTHER_NAME], None), True)], False),
    "names of a kind that the signer has not": (
        [is_ca(None), SIGNS, (x509.NameConstraints([x509.DNSName("a.example")], None), True)],
        True,
    ),
    "for servers": ([is_ca(None), SIGNS, FOR_SERVERS], False),
    "something critical and unknown": ([is_ca(None), SIGNS, (UNKNOWN, True)], False),
    "something unknown": ([is_ca(None), SIGNS, (UNKNOWN, False)], True),
    "a critical constraint on policies": ([is_ca(None), SIGNS, (x509.PolicyConstraints(0, None), True)], False),
    "no authority": ([(x509.BasicConstraints(ca=False, path_length=None), True), SIGNS], False),
    "no word of authority": ([SIGNS], False),
    "no usage": ([is_ca(None)], False),
    "a usage that is not signing certificates": ([is_ca(None), (key_usage("digital_signature"), True)], False),
    "lengths that suffice": ([is_ca(2), SIGNS], True),
}


def case_of(sim, *said):
    """Return a case under a chain of authorities, the anchor first, whose certificates have these extensions."""
    ca, valid, issuer = sim.ca, (sim.clock.now - DAY, sim.clock.now + DAY), None
    chain: list[x509.Certificate] = []
    for number, extensions in enumerate(said):
        key = new_key()
        issuer = Link(certify(f"authority {number}", key, issuer, valid, extensions), key)
        chain.insert(0, issuer.certificate)
    ca.listed, ca.intermediate = chain, issuer
    return sim.make()


@pytest.mark.parametrize("place", range(3), ids=["anchor", "between", "lowest"])
@pytest.mark.parametrize("name", SAID)
def test_whatever_a_certificate_of_an_authority_says_binds_the_same_on_whole_paths(name, place):
    chain = [SAID["nothing more"][0]] * 3
    chain[place], accepted = SAID[name]
    case = case_of(Simulator(), *chain)
    short = verdict(case)
    assert (short != "SK-ROOT-005") == accepted
    with edited(WHOLE_PATHS):
        assert verdict(case) == short


@pytest.mark.parametrize(("lengths", "accepted"), [((2, 1, 0), True), ((1, 1, 0), False), ((2, 0, 0), False), ((None, 1, 0), True)])
def test_lengths_count_what_is_between(lengths, accepted):
    case = case_of(Simulator(), *([is_ca(length), SIGNS] for length in lengths))
    short = verdict(case)
    assert (short != "SK-ROOT-005") == accepted
    with edited(WHOLE_PATHS):
        assert verdict(case) == short


@pytest.mark.parametrize("form", ["message", "dsse"])
def test_whole_paths_prove_the_same(form):
    case = Simulator().make(form)
    short = verdict(case)
    with edited(WHOLE_PATHS):
        assert verdict(case) == short


@pytest.mark.parametrize("name", CHAIN)
def test_whole_paths_refuse_the_same(name):
    case = ROWS[name].make(Simulator())
    short = verdict(case)
    with edited(WHOLE_PATHS):
        assert verdict(case) == short == ROWS[name].code
