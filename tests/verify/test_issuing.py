"""A path that ends at an authority's lowest certificate proves what the whole one does."""

from __future__ import annotations

import pytest

from sigkit import limits
from sigkit.errors import NOWHERE
from sigkit.trust.bundled import load_public_good
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.verify.issuing import find_issuing
from tests.simulators.mutants import ROWS
from tests.simulators.mutants.chain import CHAIN, EXCLUDED, anchored
from tests.simulators.removed import Edit, edited
from tests.simulators.sigstore import Simulator

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
    assert find_issuing(authority.certificates).certificate == authority.certificates[0]


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
