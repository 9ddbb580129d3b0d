"""Certificates that no authority vouches for, or that name nobody."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.simulators import der
from tests.simulators.mutants.row import Row, drop, without
from tests.simulators.removed import Edit
from tests.simulators.sigstore_authorities import DAY, Authority, Link, at, certify, key_usage, new_key
from tests.simulators.sigstore_logs import spki


def issued(**changes):
    """Return a case whose signer's certificate has these things in it."""

    def make(sim):
        for name, value in changes.items():
            setattr(sim.ca, name, value)
        return sim.make()

    return make


def signed_late(sim):
    sim.ca.lifetime = timedelta(seconds=4)
    return sim.make()


def expired(link):
    """Return a case in which a certificate above the signer's ended between issuing and signing (CVE-2026-24122)."""

    def make(sim):
        ca, now = sim.ca, sim.clock.now
        valid = (now - DAY, now + timedelta(seconds=4))
        if link == "anchor":
            key = ca.anchor.key
            ca.anchor = Link(certify("sim root", key, None, valid, authority_extensions(1)), key)
        key = ca.intermediate.key
        dates = valid if link == "intermediate" else (now - DAY, now + DAY)
        ca.intermediate = Link(certify("sim intermediate", key, ca.anchor, dates, authority_extensions(0)), key)
        return sim.make()

    return make


def authority_extensions(length):
    return [(x509.BasicConstraints(ca=True, path_length=length), True), (key_usage("key_cert_sign"), True)]


def anchored(length=1, *more):
    """Return a case whose anchor forbids what the intermediate beneath it, which stands in the root too, issued."""

    def make(sim):
        ca, valid = sim.ca, (sim.clock.now - DAY, sim.clock.now + DAY)
        ca.anchor = Link(certify("sim root", ca.anchor.key, None, valid, [*authority_extensions(length), *more]), ca.anchor.key)
        key = ca.intermediate.key
        ca.intermediate = Link(certify("sim intermediate", key, ca.anchor, valid, authority_extensions(0)), key)
        return sim.make()

    return make


def ca_window(start, end):
    def make(sim):
        sim.ca.window = (at(sim, start), at(sim, end))
        return sim.make()

    return make


def another_authority(sim):
    """Return a case in which an authority of the same names, and of other keys, issued the certificate."""
    real = sim.ca.trusted()
    sim.ca = Authority(sim.clock, sim.ct)
    sim.ca.logs = []  # their promise names the issuer
    sim.change["root"] = lambda root: {**root, "certificateAuthorities": [real]}
    return sim.make()


def its_own_authority(sim):
    key = sim.key
    extensions = [
        (key_usage("digital_signature"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
        (x509.SubjectAlternativeName(sim.ca.names), True),
    ]
    alone = certify("self", key, None, (sim.clock.now, sim.clock.now + DAY), extensions)
    sim.ca.issue = lambda _: alone
    sim.ca.listed = [alone]
    return sim.make()


def sct(**changes):
    def make(sim):
        sim.ct.change.update(changes)
        return sim.make()

    return make


def sct_for_another_issuer(sim):
    other, real = new_key(), sim.ct.promise
    sim.ct.promise = lambda body, _: real(body, spki(other))
    return sim.make()


def sct_window(start, end):
    def make(sim):
        sim.ct.window = (at(sim, start), at(sim, end))
        return sim.make()

    return make


def many_scts(sim):
    sim.ca.logs *= 33
    return sim.make()


USERNAME = "1.3.6.1.4.1.57264.1.7"
NAME = x509.UniformResourceIdentifier("https://git.example/else")
PATH = (
    Edit(
        "verify.chain",
        "return tuple(_verifier(store, moment).verify(leaf, list(links)).chain)",
        "return (leaf, *authority.certificates)",
    ),
)


def unreadable(sim):
    return sim.make().with_bundle(lambda bundle: bundle["verificationMaterial"]["certificate"].update(rawBytes="MAA="))


def nobody_to_vouch(sim):
    sim.change["root"] = lambda root: {**root, "certificateAuthorities": []}
    return sim.make()


def issued_after_the_end(sim):
    """Return a case whose certificate began after its issuer's had ended: names fit, no moment does."""
    ca, now = sim.ca, sim.clock.now
    ca.intermediate = Link(
        certify("sim intermediate", ca.intermediate.key, ca.anchor, (now - 2 * DAY, now - DAY), authority_extensions(0)),
        ca.intermediate.key,
    )
    return sim.make()


KIND = "signed_by != (SignatureAlgorithm.RSA if key.kind == RSA else SignatureAlgorithm.ECDSA)"
CLIMB = (Edit("verify.chain", "verification.Store([anchor])", "verification.Store(list(authority.certificates))"),)
NAMED = drop("verify.issuing", "if isinstance(extension.value, x509.NameConstraints):")
LENGTH = (Edit("verify.issuing", "return length is None or depth <= length", "return True"),)
ABOVE = (Edit("verify.issuing", " and _is_path(certificates)", ""),)
FOR_SERVERS = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
EXCLUDED = x509.NameConstraints(None, [x509.UniformResourceIdentifier("git.example")])
CERTIFICATES = "check_certificates(path, times, place)"
CHAIN = {
    "a certificate that cannot be read": Row(unreadable, "SK-SIG-008", ()),
    "a root without authorities": Row(nobody_to_vouch, "SK-ROOT-001", ()),
    # Path building refuses it too, in the words of a foreign certificate.
    "certificates that were never valid at once": Row(issued_after_the_end, "SK-TIME-002", ()),
    "an authority of the same names": Row(another_authority, "SK-ROOT-005", PATH),
    "a certificate for servers": Row(
        issued(usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
        "SK-ROOT-005",
        drop("verify.issuing", "if usage is not None and ExtendedKeyUsageOID.CODE_SIGNING not in usage:"),
    ),
    "a certificate without a purpose": Row(
        issued(usages=[]),
        "SK-ROOT-005",
        (
            Edit(
                "verify.issuing",
                "        .require_present(ExtendedKeyUsage, verification.Criticality.AGNOSTIC, _require_code_signing)\n",
                "",
            ),
        ),
    ),
    # Its path is one certificate long, so that who reads the issuer after it needs another index.
    "a certificate that is its own authority": Row(
        its_own_authority,
        "SK-ROOT-005",
        (*drop("verify.chain", "if signing.certificate in authority.certificates:"), Edit("verify.chain", "path[1]", "path[-1]")),
    ),
    "an authority's certificate": Row(
        issued(more=[(x509.BasicConstraints(ca=True, path_length=None), True)]),
        "SK-ROOT-005",
        drop("verify.chain", "if isinstance(constraints, x509.BasicConstraints) and constraints.ca:"),
    ),
    "a key that is not for signatures": Row(
        issued(key_usage=key_usage("key_agreement")),
        "SK-ROOT-005",
        (Edit("verify.chain", " or not usage.digital_signature", ""),),
    ),
    "a key that may certify too": Row(
        issued(key_usage=key_usage("digital_signature", "key_cert_sign")),
        "SK-ROOT-005",
        (Edit("verify.chain", " or usage.key_cert_sign", ""),),
    ),
    "a certificate without a key usage": Row(
        issued(key_usage=None),
        "SK-ROOT-005",
        (Edit("verify.chain", "if not isinstance(usage, x509.KeyUsage) or ", "if isinstance(usage, x509.KeyUsage) and ("), Edit("verify.chain", "usage.key_cert_sign:", "usage.key_cert_sign):")),
    ),
    "a signer that constrains names": Row(
        issued(more=[(x509.NameConstraints([x509.DNSName("acme.example")], None), True)]),
        "SK-ROOT-005",
        drop("verify.chain", "if x509.NameConstraints.oid in signing.extensions:"),
    ),
    "an extension that is critical and not known": Row(
        issued(more=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)]), "SK-ROOT-005", PATH
    ),
    "a certificate that expired": Row(signed_late, "SK-TIME-002", without("verify.chain", CERTIFICATES)),
    "an intermediate that expired": Row(expired("intermediate"), "SK-TIME-002", without("verify.chain", CERTIFICATES)),
    "an anchor that expired": Row(
        expired("anchor"),
        "SK-TIME-002",
        (Edit("verify.chain", CERTIFICATES, "check_certificates(path[:-1], times, place)"),),
    ),
    "a name that the anchor excludes": Row(anchored(1, (EXCLUDED, True)), "SK-ROOT-005", CLIMB),
    "a path longer than the anchor allows": Row(anchored(0), "SK-ROOT-005", CLIMB),
    "an anchor for servers": Row(anchored(1, FOR_SERVERS), "SK-ROOT-005", CLIMB),
    # Once more, where the path ends at the intermediate because nothing above it is said to bind the signer.
    "a name that an anchor above excludes": Row(anchored(1, (EXCLUDED, True)), "SK-ROOT-005", NAMED),
    "a path longer than an anchor above allows": Row(anchored(0), "SK-ROOT-005", LENGTH),
    "an anchor above for servers": Row(anchored(1, FOR_SERVERS), "SK-ROOT-005", ABOVE),
    "an authority after its window": Row(
        ca_window(-DAY, timedelta()),
        "SK-TIME-003",
        without("verify.chain", 'check_window(f"the certificate authority {authority.name}", authority.valid, times, place)'),
    ),
    "two names": Row(issued(names=[NAME, NAME]), "SK-IDENT-001", drop("verify.chain", "if len(names) != 1:")),
    "a name of another kind": Row(
        issued(names=[x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]),
        "SK-IDENT-001",
        (
            Edit(
                "verify.chain",
                "        case _:\n            raise AmbiguousIdentity(",
                "        case _:\n            return 'other', ''\n            raise AmbiguousIdentity(",
            ),
        ),
    ),
    "a user name of another type": Row(
        issued(names=[x509.OtherName(x509.ObjectIdentifier(USERNAME), b"\x16\x04user")]),
        "SK-SIG-008",
        drop("verify.extensions", "if encode_utf8_string(raw) != content:"),
    ),
    "an extension with a tail": Row(
        issued(extensions={8: der.utf8("https://issuer.example") + b"\0"}),
        "SK-SIG-008",
        drop("verify.extensions", "if encode_utf8_string(raw) != content:"),
    ),
    "two issuers": Row(
        issued(extensions={1: b"https://one.example", 8: der.utf8("https://two.example")}),
        "SK-IDENT-001",
        drop("verify.extensions", "if found.setdefault(name, value) != value:"),
    ),
    "a certificate log's promise of another certificate": Row(
        sct(promise=lambda message: message + b"\0"), "SK-TLOG-007", without("tlog.sct", "key.verify(sct.signature, message)")
    ),
    "a certificate log's promise under another issuer": Row(
        sct_for_another_issuer, "SK-TLOG-007", without("tlog.sct", "key.verify(sct.signature, message)")
    ),
    "a certificate log's promise that states another hash": Row(
        sct(algorithm=lambda _: b"\5\3"), "SK-TLOG-007", (Edit("tlog.sct", 'if hashed != "sha256" or ', "if "),)
    ),
    "a certificate log's promise that states another kind of signature": Row(
        sct(algorithm=lambda _: b"\4\1"), "SK-TLOG-007", (Edit("tlog.sct", f" or {KIND}", ""),)
    ),
    "a certificate log after its window": Row(
        sct_window(-2 * DAY, -DAY), "SK-TIME-003", drop("verify.chain", "if not log.valid.holds(when):")
    ),
    "33 certificate logs": Row(many_scts, "SK-SIG-008", drop("verify.chain", "if len(scts) > limits.LOG_ENTRIES:")),
}
