"""Times that nobody attests, or at which somebody was not trusted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.simulators import der
from tests.simulators.mutants.row import Row, drop, without
from tests.simulators.removed import Edit
from tests.simulators.sigstore_authorities import DAY, at, new_key


def stamped(other):
    def make(sim):
        sim.change["stamped"] = lambda _: other
        return sim.make("dsse", ("v2",))

    return make


def stamped_by_another_key(sim):
    sim.tsa.signers = lambda info: [der.signer_info(info, sim.tsa.leaf.certificate, new_key())]
    return sim.make()


def unreadable(sim):
    sim.tsa.stamp = lambda _: b"0\0"
    return sim.make()


def stamped_twice(sim):
    one = sim.tsa.signers
    sim.tsa.signers = lambda info: [*one(info), *one(info)]
    return sim.make()


def authority_for(*usages, critical=True, more=()):
    def make(sim):
        sim.tsa.usages, sim.tsa.critical, sim.tsa.more = list(usages), critical, list(more)
        sim.tsa.certify(sim.clock.now + DAY)
        return sim.make()

    return make


def authority_window(start=None, end=None):
    def make(sim):
        sim.tsa.window = (at(sim, start or -DAY), at(sim, end) if end is not None else None)
        return sim.make()

    return make


def authority_anchor_expired(sim):
    sim.tsa.certify(sim.clock.now - DAY)
    return sim.make()


def authority_leaf_expired(sim):
    sim.tsa.valid = (sim.clock.now - 2 * DAY, sim.clock.now - DAY)
    sim.tsa.certify(sim.clock.now + DAY)
    return sim.make()


def log_window(kind, start, end):
    def make(sim):
        log = sim.log2 if kind == "v2" else sim.log1
        log.window = (at(sim, start), at(sim, end))
        return sim.make("dsse", (kind,))

    return make


def too_early(form, logs):
    """Return a case that is verified a moment before its times."""

    def make(sim):
        case = sim.make(form, logs)
        return replace(case, now=sim.clock.now - timedelta(seconds=1))

    return make


def without_times(sim):
    case = sim.make("dsse", ("v2",))
    return case.with_bundle(lambda bundle: bundle["verificationMaterial"].pop("timestampVerificationData"))


def key_window(start, end, *, timed=True):
    def make(sim):
        sim.key_window = (sim.clock.now + start, sim.clock.now + end)
        case = sim.make("dsse", ("v2",), "key")
        return case if timed else case.with_bundle(lambda bundle: bundle["verificationMaterial"].pop("timestampVerificationData"))

    return make


NOT_STAMPED = without("verify.times", "verifier.verify_message(response, signature)")
PURPOSE = drop("verify.times", "if not _is_for_timestamps_alone(authority.certificates[0]):")
# The library refuses a wrong purpose too, and not an authority's certificate.
PURPOSE_TWICE = (*PURPOSE, *NOT_STAMPED)
PAST = without("verify.verify", "check_future(attested.times, now, place)")
LOG_WINDOW = without("verify.verify", 'check_window(f"the log {log.name}", log.valid, attested.times, place)')
KEY_WINDOW = without("verify.verify", 'check_window(f"the key {trusted.name}", trusted.valid, times, place)')
TIMES = {
    "a timestamp that cannot be read": Row(unreadable, "SK-TIME-005", ()),
    "a timestamp of another signature": Row(stamped(b"another signature"), "SK-TIME-005", NOT_STAMPED),
    "a timestamp by another key": Row(stamped_by_another_key, "SK-TIME-005", NOT_STAMPED),
    "a timestamp with two signers": Row(
        stamped_twice,
        "SK-TIME-005",
        drop("verify.times", "if len(tokens) != 1:"),
    ),
    "a timestamp authority's leaf that expired": Row(authority_leaf_expired, "SK-TIME-005", NOT_STAMPED),
    "a timestamp authority's anchor that expired": Row(authority_anchor_expired, "SK-TIME-005", NOT_STAMPED),
    "a timestamp authority before its window": Row(
        authority_window(start=DAY), "SK-TIME-003", drop("verify.times", "if authority.valid.holds(when):", becomes="if True:")
    ),
    "a timestamp authority after its window": Row(
        authority_window(end=timedelta()), "SK-TIME-003", drop("verify.times", "if authority.valid.holds(when):", becomes="if True:")
    ),
    "a timestamp authority for code signing too": Row(
        authority_for(ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING), "SK-TIME-005", PURPOSE_TWICE
    ),
    "a timestamp authority's purpose that is not critical": Row(
        authority_for(ExtendedKeyUsageOID.TIME_STAMPING, critical=False), "SK-TIME-005", PURPOSE_TWICE
    ),
    "a timestamp authority that is a CA": Row(
        authority_for(ExtendedKeyUsageOID.TIME_STAMPING, more=[(x509.BasicConstraints(ca=True, path_length=None), True)]),
        "SK-TIME-005",
        PURPOSE,
    ),
    "a promise's time still to come": Row(too_early("dsse", ("dsse",)), "SK-TIME-004", PAST),
    "a timestamp still to come": Row(too_early("dsse", ("v2",)), "SK-TIME-004", PAST),
    "a log after its window": Row(
        log_window("dsse", -DAY, timedelta()),
        "SK-TIME-003",
        LOG_WINDOW,
    ),
    "a v2 log before its window": Row(
        log_window("v2", DAY, 2 * DAY),
        "SK-TIME-003",
        LOG_WINDOW,
    ),
    "a key after its window": Row(
        key_window(-DAY, timedelta()),
        "SK-TIME-003",
        KEY_WINDOW,
    ),
    "a key with a window and no time": Row(
        key_window(-DAY, DAY, timed=False),
        "SK-TIME-001",
        (Edit("verify.verify", "    if not times:\n        raise NoAttestedTime(", "    if False:\n        raise NoAttestedTime("),),
    ),
    "a certificate and no time": Row(without_times, "SK-TIME-001", drop("verify.chain", "if not times:")),
}
