"""C14, identity expressions: they fit the whole name or nothing, and a refusal lists who was found."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sigkit.evidence.attach import attach
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """An image that the simulated instance's identity signed."""
    with MisbehavingRegistry() as registry:
        made = Release.prepare(tmp_path_factory.mktemp("release"), registry.address)
        sim = Simulator()
        with open_registry(RegistryOptions()) as client:
            resolved = resolve(client, parse_reference(made.reference))

            def statement(document):
                return {**document, "subject": [{"digest": {"sha256": resolved.digest.hex}}], "predicateType": PREDICATE_SIGNATURE}

            sim.change["statement"] = statement
            case = sim.make("dsse", ("dsse",))
            attach(client, resolved, case.parts["bundle"], PREDICATE_SIGNATURE, datetime.now(UTC))
        (made.home / "root.json").write_bytes(case.root)
        yield made


def verify(release: Release, expression: str, issuer: str = ISSUER):
    wanted = ("--certificate-identity-regexp", expression, "--certificate-oidc-issuer", issuer)
    return release.sigkit("verify", *wanted, "--trusted-root", "root.json", release.reference)


def literally(text: str) -> str:
    return "".join(f"[{character}]" if character in ".+?*()[]{}|" else character for character in text)


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param(literally(SUBJECT)[:-1], id="its beginning"),
        pytest.param(literally(SUBJECT[1:]), id="its end"),
        pytest.param(f"{literally(SUBJECT)}x", id="more than it"),
    ],
)
def test_c14_what_fits_a_part_fits_nothing_and_who_was_found_is_listed(release, expression):
    done = verify(release, expression)
    assert done.status == 1
    assert SUBJECT in done.said
    assert ISSUER in done.said


@pytest.mark.parametrize("form", ["{}", "^{}$"])
def test_c14_what_fits_the_whole_name_is_verified_with_anchors_or_without(release, form):
    assert verify(release, form.format(literally(SUBJECT))).status == 0


def test_c14_another_issuer_is_refused_whatever_the_name(release):
    assert verify(release, ".*", "https://other.example").status == 1


def test_c14_an_expression_that_is_none_is_a_usage_error(release):
    assert verify(release, "(").status == 2
