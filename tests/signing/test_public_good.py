"""Whose tokens the public-good instance takes."""

from __future__ import annotations

import pytest

from sigkit import limits
from sigkit.errors import Place
from sigkit.signing.public_good import is_asked, near_issuer, takes_issuer
from sigkit.trust.bundled import load_public_good, load_public_good_signing_config
from sigkit.trust.root import TrustedRoot, Window
from sigkit.trust.signing_config import Service
from sigkit.trust.trusted_root import parse_trusted_root
from tests.simulators.sigstore import Simulator


@pytest.mark.parametrize(
    ("issuer", "taken"),
    [
        ("https://token.actions.githubusercontent.com", True),
        ("https://token.actions.githubusercontent.com/acme", True),
        ("https://token.actions.githubusercontent.com/", False),
        ("http://token.actions.githubusercontent.com", False),
        ("https://token.actions.githubusercontent.com.evil.example", False),
        ("https://gitlab.com", True),
        ("https://gitlab.acme.example", False),
        ("https://oidc.eks.eu-west-1.amazonaws.com/id/ABCDEF", True),
        ("https://oidc.eks.eu-west-1.evil.com/id/ABCDEF", False),
        ("https://oidc.eks.evil.example/x.amazonaws.com/id/ABCDEF", False),
        ("https://eastus.oic.prod-aks.azure.com/1-2/3-4/", True),
        ("https://container.googleapis.com/v1/projects/p/locations/l/clusters/c", True),
        ("", False),
    ],
)
def test_an_issuer_is_taken_letter_by_letter(issuer, taken):
    assert takes_issuer(issuer) is taken


@pytest.mark.parametrize(
    ("issuer", "meant"),
    [
        ("https://token.actions.githubusercontent.com/", "https://token.actions.githubusercontent.com"),
        ("http://accounts.google.com", "https://accounts.google.com"),
        ("https://OAuth2.sigstore.dev/auth//", "https://oauth2.sigstore.dev/auth"),
        ("accounts.google.com", "https://accounts.google.com"),
        ("https://accounts.google.com", ""),
        ("https://issuer.example", ""),
    ],
)
def test_a_near_miss_is_named(issuer, meant):
    assert near_issuer(issuer) == meant


FULCIO = "https://fulcio.sigstore.dev"


@pytest.mark.parametrize(
    ("whose", "url", "asked"),
    [
        ("its", FULCIO, True),
        ("its", "https://fulcio.sigstore.dev/", True),
        ("its", "https://other.example", True),  # its root alone: whoever that is, speaks for it
        ("another's", "https://ca.example", False),
        ("another's", FULCIO, True),
        ("both", "https://ca.example", False),
        ("both", FULCIO, True),
    ],
)
def test_it_is_asked_where_one_of_its_authorities_would_get_the_token(whose, url, asked):
    copy = load_public_good()
    other = parse_trusted_root(Simulator().root(), "public-good", Place("r"), limits.DEFAULT)  # its name makes it no other
    both = TrustedRoot("mine", other.digest, (), (*other.certificate_authorities, *copy.certificate_authorities))
    root = {"its": copy, "another's": other, "both": both}[whose]
    assert is_asked(root, [Service(url, 1, Window(None, None), "")]) is asked


def test_the_copy_of_its_signing_config_names_an_issuer_that_it_takes():
    assert takes_issuer(load_public_good_signing_config().issuers[0].url)
