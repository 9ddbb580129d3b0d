"""Evidence about something else, or signed by somebody else."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.simulators.mutants.row import Row, drop, without
from tests.simulators.removed import Edit
from tests.simulators.sigstore import IMAGE, OTHER, Simulator
from tests.simulators.sigstore_logs import b64, spki


def of_subject(**changes):
    """Return a case whose only subject has these members."""

    def make(sim):
        sim.change["statement"] = lambda document: {**document, "subject": [{**document["subject"][0], **changes}]}
        return sim.make()

    return make


def two_subjects(sim):
    sim.change["statement"] = lambda document: {**document, "subject": [*document["subject"], {"digest": {"sha256": IMAGE}}]}
    return sim.make()


def other_simple(sim):
    sim.change["simple"] = lambda document: {
        **document,
        "critical": {**document["critical"], "image": {"docker-manifest-digest": f"sha256:{OTHER}"}},
    }
    return sim.make("simple", ("hashedrekord",))


def stated_digest(algorithm, value):
    def make(sim):
        def change(bundle):
            bundle["messageSignature"]["messageDigest"] = {"algorithm": algorithm, "digest": b64(value)}
            return bundle

        sim.change["bundle"] = change
        return replace(sim.make("message", ("v2",)), content=None)

    return make


BOUND = {
    # The digest of a subject is compared twice: once to find the subject, once so that none stays uncompared.
    "another artifact's statement": Row(
        of_subject(digest={"sha256": OTHER}),
        "SK-BIND-001",
        (
            Edit("verify.bind", "if any(digest in subject.digests for digest in artifact.digests)]", "]"),
            *drop("verify.bind", "if uncompared:"),
        ),
    ),
    "a further digest of a subject": Row(
        of_subject(digest={"sha256": IMAGE, "sha512": "00" * 64}), "SK-BIND-002", drop("verify.bind", "if uncompared:")
    ),
    "subjects that differ": Row(
        two_subjects,
        "SK-BIND-002",
        drop("verify.bind", "if (dict(other.annotations), other.untold) != (dict(subject.annotations), subject.untold):"),
    ),
    "a repository that is no text": Row(
        of_subject(annotations={"sigkit.dev/repository": 7}),
        "SK-BIND-002",
        drop("verify.bind", "if REPOSITORY_ANNOTATION in subject.untold:"),
    ),
    "another artifact's simple signing": Row(other_simple, "SK-BIND-001", drop("verify.bind", "if signed.digest not in artifact.digests:")),
    "another artifact's stated digest": Row(
        stated_digest("SHA2_256", bytes(32)), "SK-BIND-001", drop("verify.bind", "if known != message.digest:")
    ),
    "a stated digest that cannot be compared": Row(
        stated_digest("SHA2_512", bytes(64)),
        "SK-BIND-004",
        (Edit("verify.bind", "known = artifact.by(message.digest.algorithm)", "known = artifact.by('sha512') or message.digest"),),
    ),
}


def other_message(form, logs, **changes):
    """Return a case in which other bytes were signed, and everything else is about that signature."""

    def make(sim):
        sim.change["message"] = lambda _: b"other bytes"
        return replace(sim.make(form, logs), **changes)

    return make


def by_another_key(sim):
    case = sim.make("dsse", (), "key")
    return replace(case, keys=(Simulator().public_pem(),))


def by_another_key_under_its_hint(sim):
    other = Simulator()

    def change(bundle):
        bundle["verificationMaterial"]["publicKey"]["hint"] = b64(hashlib.sha256(spki(other.key)).digest())
        return bundle

    sim.change["bundle"] = change
    return replace(sim.make("dsse", (), "key"), keys=(other.public_pem(),))


def of_a_file_by_a_key_that_is_not_named(sim):
    def change(bundle):
        del bundle["verificationMaterial"]["publicKey"]["hint"]
        return bundle

    sim.change["bundle"] = change
    return replace(sim.make("message", (), "key"), keys=(Simulator().public_pem(),))


def ed25519_by_digest(sim):
    sim.key = ed25519.Ed25519PrivateKey.generate()
    return replace(sim.make("message", ("hashedrekord",)), content=None)


ANY_KEY = (Edit("verify.signature", "            continue\n        return trusted", "            pass\n        return trusted"),)
NOT_OVER_BYTES = (Edit("verify.signature", "return key.verify(signature, signed.message)", "return None"),)
SIGNED = {
    "an envelope's signature": Row(other_message("dsse", ("dsse",)), "SK-SIG-001", NOT_OVER_BYTES),
    "a document's signature": Row(other_message("simple", ("hashedrekord",)), "SK-SIG-001", NOT_OVER_BYTES),
    "a file's signature": Row(
        other_message("message", ("v2",)),
        "SK-SIG-001",
        (Edit("verify.signature", "return key.verify(signature, artifact.content)", "return None"),),
    ),
    "a digest's signature": Row(
        other_message("message", ("v2",), content=None),
        "SK-SIG-001",
        without("verify.signature", "return key.verify_digest(signature, fitting[-1])"),
    ),
    "a key that signs no digest": Row(
        ed25519_by_digest,
        "SK-BIND-004",
        (Edit("verify.signature", "if not fitting:", "if not fitting:\n        return None\n    if False:"),),
    ),
    "another key": Row(by_another_key, "SK-SIG-002", ANY_KEY),
    "a file's signature by a key that nothing names": Row(of_a_file_by_a_key_that_is_not_named, "SK-SIG-001", ANY_KEY),
    "another key under the hint of a trusted one": Row(by_another_key_under_its_hint, "SK-SIG-001", ANY_KEY),
}
