"""Log entries about something else, or that the log did not sign."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.simulators.mutants.row import Row, drop, without
from tests.simulators.removed import Edit
from tests.simulators.sigstore import OTHER, Simulator
from tests.simulators.sigstore_logs import b64, proof, root_hash


def body(form, kind, change):
    """Return a case in which a log of the first generation holds a body changed in place, all else being about it."""

    def make(sim):
        def changed(document):
            change(document["spec"])
            return document

        sim.log1.change["body"] = changed
        return sim.make(form, (kind,))

    return make


def set_hash(*path):
    def change(spec):
        for name in path:
            spec = spec[name]
        spec["value"] = OTHER

    return change


def other_signature(*path, twice=False):
    def change(spec):
        for name in path[:-1]:
            spec = spec[name]
        raw = b64(b"another signature").encode()
        spec[path[-1]] = b64(raw) if twice else raw.decode()

    return change


def second_signature(spec):
    spec["signatures"].append(spec["signatures"][0])


def other_verifier(form, kind, by="identity", pem=None):
    def make(sim):
        sim.change["verifier"] = lambda _: pem or sim.ca.issue(sim.key).public_bytes(serialization.Encoding.PEM)
        return sim.make(form, (kind,), by)

    return make


def key_of_the_certificate(form, kind):
    def make(sim):
        sim.change["verifier"] = lambda _: sim.public_pem()
        return sim.make(form, (kind,))

    return make


def body_of_another_kind(sim):
    case = sim.make("message", ("hashedrekord",))

    def change(bundle):
        bundle["verificationMaterial"]["tlogEntries"][0]["kindVersion"]["kind"] = "rekord"

    sim.log1.change["body"] = lambda document: {
        **document,
        "kind": "hashedrekord",
        "spec": {**document["spec"], "signature": {**document["spec"]["signature"], "format": "x509"}},
    }
    case = sim.make("message", ("hashedrekord",))
    return case.with_bundle(change)


def body_beside_the_leaf(sim):
    return sim.make("dsse", ("v2",)).with_bundle(
        lambda bundle: bundle["verificationMaterial"]["tlogEntries"][0].update(canonicalizedBody=b64(b"{}"))
    )


def two_indexes(sim):
    return sim.make("dsse", ("v2",)).with_bundle(lambda bundle: bundle["verificationMaterial"]["tlogEntries"][0].update(logIndex="1"))


def v2_of_another_digest(sim):
    sim.key = ec.generate_private_key(ec.SECP384R1())

    def change(document):
        spec = document["spec"]["hashedRekordV002"]
        spec["data"] = {"algorithm": "SHA2_384", "digest": b64(bytes(48))}
        spec["signature"]["verifier"]["keyDetails"] = "PKIX_ECDSA_P384_SHA_384"
        return document

    sim.log2.change["body"] = change
    sim.change["signature"] = lambda _: sim.key.sign(b"the file", ec.ECDSA(hashes.SHA256()))
    return replace(sim.make("message", ("v2",)), content=None)


def proof_hash(sim):
    def change(document):
        document["hashes"][0] = b64(bytes(32))
        return document

    sim.log1.change["proof"] = change
    return sim.make()


def absent_leaf(kind):
    """Return a case in which the log holds another leaf at the place."""

    def make(sim):
        log = sim.log2 if kind == "v2" else sim.log1
        log.change["leaf"] = lambda raw: raw + b" "
        return sim.make("dsse", (kind,))

    return make


def checkpoint_of_a_smaller_tree(sim):
    def change(document):
        leaves = sim.log1.leaves
        index = int(document["logIndex"])
        shorter = leaves[: index + 1]
        return {
            **document,
            "treeSize": str(len(shorter)),
            "rootHash": b64(root_hash(shorter)),
            "hashes": [b64(item) for item in proof(shorter, index)],
        }

    sim.log1.change["proof"] = change
    return sim.make()


def checkpoint_of_another_key(kind):
    def make(sim):
        log = sim.log2 if kind == "v2" else sim.log1
        real = log.line
        other = type(log)(sim.clock, log.host)

        def line(text):
            # Under this log's id.
            raw = other.key.sign(text.encode()) if kind == "v2" else other.key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
            return f"\u2014 {log.host} {b64(log.log_id[:4] + raw)}\n"

        log.line = line
        case = sim.make("dsse", (kind,))
        log.line = real
        return case

    return make


def checkpoint_of_another_origin(sim):
    sim.log2.change["checkpoint"] = lambda text: text.replace("log2.example", "log3.example", 1)
    return sim.make("dsse", ("v2",))


def entry_of_the_other_generation(sim):
    sim.log1.add = sim.log2.add
    return sim.make().with_bundle(
        lambda bundle: bundle["verificationMaterial"]["tlogEntries"][0].update(kindVersion={"kind": "dsse", "version": "0.0.1"})
    )


def promise_of(**changes):
    def make(sim):
        sim.log1.change["promise"] = lambda document: {**document, **changes}
        return sim.make()

    return make


def promise_about_nothing(sim):
    """The log signed a promise without a body; the evidence says that it is of a v2 entry, whose body may be left out."""
    sim.log1.change["promise"] = lambda document: {**document, "body": ""}

    def change(bundle):
        entry = bundle["verificationMaterial"]["tlogEntries"][0]
        entry["kindVersion"]["version"] = "0.0.2"
        del entry["canonicalizedBody"], entry["inclusionProof"]

    return sim.make("message", ("hashedrekord",), version="0.1").with_bundle(change)


OTHER_ARTIFACT = drop("verify.entries", "if known != said.digest:")
OTHER_SIGNATURE = drop("verify.entries", "if [by.signature for by in said.signatures] != [logged.signature]:")
OTHER_VERIFIER = drop("verify.entries", "if not fits:")
NOT_SIGNED = (Edit("tlog.checkpoint", "            key.verify(line.signature, message)", "            pass"),)
NOT_PROMISED = without("tlog.entry_v1", "key.verify(entry.promise, message)")
ENTRIES = {
    "hashedrekord of another file": Row(body("message", "hashedrekord", set_hash("data", "hash")), "SK-BIND-003", OTHER_ARTIFACT),
    "hashedrekord of another document": Row(body("simple", "hashedrekord", set_hash("data", "hash")), "SK-BIND-003", OTHER_ARTIFACT),
    "an envelope logged as a file": Row(
        lambda sim: sim.make("dsse", ("hashedrekord",)),
        "SK-TLOG-006",
        drop("verify.entries", "if said.over is Over.ARTIFACT and logged.payload is not None:"),
    ),
    "rekord of another file": Row(body("blob", "rekord", set_hash("data", "hash")), "SK-BIND-003", OTHER_ARTIFACT),
    "dsse of another payload": Row(body("dsse", "dsse", set_hash("payloadHash")), "SK-BIND-003", OTHER_ARTIFACT),
    "intoto of another payload": Row(body("att", "intoto", set_hash("content", "payloadHash")), "SK-BIND-003", OTHER_ARTIFACT),
    "hashedrekord of another signature": Row(
        body("message", "hashedrekord", other_signature("signature", "content")), "SK-BIND-003", OTHER_SIGNATURE
    ),
    "rekord of another signature": Row(body("simple", "rekord", other_signature("signature", "content")), "SK-BIND-003", OTHER_SIGNATURE),
    "dsse of another signature": Row(body("att", "dsse", other_signature("signatures", 0, "signature")), "SK-BIND-003", OTHER_SIGNATURE),
    "intoto of another signature": Row(
        body("dsse", "intoto", other_signature("content", "envelope", "signatures", 0, "sig", twice=True)), "SK-BIND-003", OTHER_SIGNATURE
    ),
    "dsse of two signatures": Row(body("dsse", "dsse", second_signature), "SK-BIND-003", OTHER_SIGNATURE),
    "hashedrekord of another certificate": Row(other_verifier("message", "hashedrekord"), "SK-BIND-003", OTHER_VERIFIER),
    "rekord of another certificate": Row(other_verifier("blob", "rekord"), "SK-BIND-003", OTHER_VERIFIER),
    "dsse of another certificate": Row(other_verifier("att", "dsse"), "SK-BIND-003", OTHER_VERIFIER),
    "intoto of another certificate": Row(other_verifier("dsse", "intoto"), "SK-BIND-003", OTHER_VERIFIER),
    "hashedrekord of another key": Row(
        other_verifier("simple", "hashedrekord", "key", Simulator().public_pem()), "SK-BIND-003", OTHER_VERIFIER
    ),
    "dsse of the certificate's bare key": Row(key_of_the_certificate("dsse", "dsse"), "SK-BIND-003", OTHER_VERIFIER),
    "a certificate where a key signed": Row(other_verifier("dsse", "dsse", "key"), "SK-BIND-003", OTHER_VERIFIER),
    "a body of another kind than the entry": Row(
        body_of_another_kind, "SK-TLOG-006", drop("tlog.entry_v1", "if said != (entry.kind, entry.version):")
    ),
    "a v2 body beside the leaf": Row(body_beside_the_leaf, "SK-BIND-003", drop("verify.entries", "if entry.body and entry.body != leaf:")),
    "a v2 entry of two indexes": Row(
        two_indexes, "SK-BIND-003", drop("verify.entries", "if entry.proof is not None and entry.proof.index != entry.index:")
    ),
    "a v2 entry of a digest that is not known": Row(
        v2_of_another_digest,
        "SK-BIND-003",
        (Edit("verify.entries", "if digest is None:", "if digest is None:\n        return entry.body\n    if False:"),),
    ),
    "a hash of the proof": Row(proof_hash, "SK-TLOG-001", drop("tlog.merkle", "if implied != root:")),
    "a leaf that is not there": Row(absent_leaf("dsse"), "SK-TLOG-001", drop("tlog.merkle", "if implied != root:")),
    "a v2 leaf that is not there": Row(absent_leaf("v2"), "SK-TLOG-001", drop("tlog.merkle", "if implied != root:")),
    "a checkpoint of another tree": Row(
        checkpoint_of_a_smaller_tree,
        "SK-TLOG-004",
        drop("verify.entries", "if (signed.checkpoint.size, signed.checkpoint.root) != (proof.size, proof.root):"),
    ),
    "a checkpoint by another key": Row(checkpoint_of_another_key("dsse"), "SK-TLOG-003", NOT_SIGNED),
    "a v2 checkpoint by another key": Row(checkpoint_of_another_key("v2"), "SK-TLOG-003", NOT_SIGNED),
    "a v2 checkpoint of another origin": Row(
        checkpoint_of_another_origin,
        "SK-TLOG-003",
        (
            *drop("tlog.checkpoint", "if origin is not None and checkpoint.origin != origin:"),
            Edit("tlog.checkpoint", "name = checkpoint.origin if origin is not None", "name = origin if origin is not None"),
        ),
    ),
    # Of such an entry's checkpoint the trust root does not know the first line: without this any tree of the log's key would do.
    "a v1 entry under a v2 checkpoint": Row(
        entry_of_the_other_generation,
        "SK-TLOG-003",
        drop("tlog.checkpoint", "if not _NUMBERED.fullmatch(origin):"),
    ),
    "a promise of another body": Row(promise_of(body=b64(b"{}")), "SK-TLOG-005", NOT_PROMISED),
    "a promise about nothing": Row(promise_about_nothing, "SK-TLOG-005", drop("tlog.entry_v1", "if not entry.body:")),
    "a promise at another time": Row(promise_of(integratedTime=1), "SK-TLOG-005", NOT_PROMISED),
    "a promise of another index": Row(promise_of(logIndex=1), "SK-TLOG-005", NOT_PROMISED),
    "a promise of another log": Row(promise_of(logID="00"), "SK-TLOG-005", NOT_PROMISED),
}
