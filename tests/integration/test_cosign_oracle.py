"""Odd bundles by a good key, judged by cosign 3 and by sigkit: sigkit never accepts what cosign refuses.

Where sigkit is stricter, the reason stands beside the case.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import SigkitError
from sigkit.evidence.attach import attach
from sigkit.evidence.collect import collect
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve
from sigkit.services.serve import running_registry
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify
from tests.simulators.evidence_maker import root_of, signed, statement
from tests.simulators.images import small_image

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.peers

KEY = generate("ecdsa-p256")
OTHER = Digest.of(b"another image")


class Verdict(Enum):
    """Accept: one good signature of the image."""

    ACCEPT = "accept"
    REFUSE = "refuse"


class Case(NamedTuple):
    """A bundle made for an image's digest, and what both programs say."""

    make: Callable[[Digest], dict[str, Any]]
    cosign: Verdict
    sigkit: Verdict


def of_subject(change: Callable[[Digest], list[dict[str, Any]]]) -> Callable[[Digest], dict[str, Any]]:
    return lambda digest: signed(KEY, statement(subject=change(digest)))


def of_statement(**changes: Any) -> Callable[[Digest], dict[str, Any]]:
    return lambda digest: signed(KEY, statement(subject=[{"digest": {"sha256": digest.hex}}], **changes))


def of_bundle(change: Callable[[dict[str, Any]], None]) -> Callable[[Digest], dict[str, Any]]:
    def make(digest: Digest) -> dict[str, Any]:
        bundle = of_statement()(digest)
        change(bundle)
        return bundle

    return make


def two_signatures(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] *= 2


ACCEPT, REFUSE = Verdict.ACCEPT, Verdict.REFUSE
CASES = {
    "plain": Case(of_statement(), ACCEPT, ACCEPT),
    "statement v0.1": Case(of_statement(_type="https://in-toto.io/Statement/v0.1"), ACCEPT, ACCEPT),
    "predicate with members": Case(of_statement(predicate={"a": [1, None]}), ACCEPT, ACCEPT),
    "predicate null": Case(of_statement(predicate=None), ACCEPT, ACCEPT),
    "all members of a subject": Case(
        of_subject(
            lambda d: [
                {"name": "n", "uri": "u:v", "digest": {"sha256": d.hex}, "downloadLocation": "d", "mediaType": "m", "annotations": {}}
            ]
        ),
        ACCEPT,
        ACCEPT,
    ),
    "two subjects": Case(of_subject(lambda d: [{"digest": {"sha256": OTHER.hex}}, {"digest": {"sha256": d.hex}}]), ACCEPT, ACCEPT),
    "numbers and lists as annotations": Case(
        of_subject(lambda d: [{"digest": {"sha256": d.hex}, "annotations": {"n": 1, "l": [1]}}]), ACCEPT, ACCEPT
    ),
    "another hint": Case(of_bundle(lambda b: b["verificationMaterial"].update(publicKey={"hint": "x"})), ACCEPT, ACCEPT),
    # Stricter: the digest that was not compared may be of another image.
    "a second digest": Case(of_subject(lambda d: [{"digest": {"sha256": d.hex, "sha512": Digest.of(b"x", "sha512").hex}}]), ACCEPT, REFUSE),
    # Stricter: an attestation is no signature.
    "predicate type of an SBOM": Case(of_statement(predicateType="https://spdx.dev/Document"), ACCEPT, REFUSE),
    # Stricter: the two versions of the published format, and no other.
    "another version of statement": Case(of_statement(_type="https://in-toto.io/Statement/v9"), ACCEPT, REFUSE),
    # Stricter: two subjects that say different things.
    "the digest twice": Case(
        of_subject(lambda d: [{"digest": {"sha256": d.hex}, "annotations": {"a": value}} for value in ("1", "2")]), ACCEPT, REFUSE
    ),
    "upper-case digest": Case(of_subject(lambda d: [{"digest": {"sha256": d.hex.upper()}}]), REFUSE, REFUSE),
    "another digest": Case(of_subject(lambda _: [{"digest": {"sha256": OTHER.hex}}]), REFUSE, REFUSE),
    "no subject": Case(of_subject(lambda _: []), REFUSE, REFUSE),
    "unknown member of the statement": Case(of_statement(extra=1), REFUSE, REFUSE),
    "unknown member of a subject": Case(of_subject(lambda d: [{"digest": {"sha256": d.hex}, "extra": 1}]), REFUSE, REFUSE),
    "predicate a string": Case(of_statement(predicate="x"), REFUSE, REFUSE),
    "predicate a list": Case(of_statement(predicate=[]), REFUSE, REFUSE),
    "two signatures": Case(of_bundle(two_signatures), REFUSE, REFUSE),
    "unknown member of the bundle": Case(of_bundle(lambda b: b.update(extra=1)), REFUSE, REFUSE),
    "another payload type": Case(of_bundle(lambda b: b["dsseEnvelope"].update(payloadType="text/plain")), REFUSE, REFUSE),
    "version 0.4": Case(of_bundle(lambda b: b.update(mediaType="application/vnd.dev.sigstore.bundle.v0.4+json")), REFUSE, REFUSE),
    "no signature": Case(of_bundle(lambda b: b["dsseEnvelope"].update(signatures=[])), REFUSE, REFUSE),
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with running_registry(tmp_path_factory.mktemp("storage")) as address, open_registry(RegistryOptions()) as client:
        yield address, client


@pytest.mark.parametrize("name", list(CASES))
def test_sigkit_accepts_nothing_that_cosign_refuses(name, registry, peer, tmp_path):
    address, client = registry
    case = CASES[name]
    assert case.cosign is ACCEPT or case.sigkit is REFUSE
    repository = Repository(address, "oracle/" + name.lower().replace(" ", "-").replace(".", "-"))
    small_image(name.encode()).push(client, repository, "v1")
    resolved = resolve(client, parse_reference(f"{repository}:v1"))
    attach(client, resolved, json.dumps(case.make(resolved.digest)).encode(), PREDICATE_SIGNATURE, datetime.now(UTC))

    (tmp_path / "k.pub").write_bytes(KEY.public.encode_pem())
    fixed = ("--key", tmp_path / "k.pub", "--insecure-ignore-tlog", "--allow-http-registry")
    done = peer("cosign", "verify", *fixed, f"{repository}@{resolved.digest}")
    assert (ACCEPT if done.returncode == 0 else REFUSE) is case.cosign, done.stderr
    assert judged_by_sigkit(client, repository, resolved.digest) is case.sigkit


def judged_by_sigkit(client, repository: Repository, digest: Digest) -> Verdict:
    (evidence,) = collect(client, repository, digest, limits.DEFAULT).evidence
    try:
        facts = verify(evidence, Artifact.of(digest), root_of(KEY), datetime.now(UTC), limits.DEFAULT)
    except SigkitError:
        return REFUSE
    return ACCEPT if facts.signature.predicate_type == PREDICATE_SIGNATURE else REFUSE
