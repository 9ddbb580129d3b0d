"""cosign beside sigkit on the evidence of a simulated instance: good of every kind, and every mutant.

So the simulator writes what real programs read, and sigkit never accepts what cosign refuses. What sigkit alone refuses is argued in
`STRICTER`. cosign has no order of its own for the older forms without a registry, and knows no window of a key: those are left out.
"""

from __future__ import annotations

import pytest

from sigkit.errors import SigkitError
from tests.simulators.mutants import ROWS
from tests.simulators.sigstore import FILE, Simulator

pytestmark = pytest.mark.peers

GOOD = [
    *(("dsse", logs) for logs in (("dsse",), ("intoto",), ("v2",), ("dsse", "v2"))),
    *(("message", logs) for logs in (("hashedrekord",), ("v2",), ("hashedrekord", "v2"))),
]
VERSIONED = [(form, logs, version) for form, logs in GOOD for version in ("0.1", "0.2", "0.3") if (version, logs[-1]) != ("0.1", "v2")]

_TIME = "the log's time is enough for cosign, and hides the timestamp"
_CLAIM = "cosign does not look at it; two readers of the certificate could see two signers"
STRICTER = {
    "a further digest of a subject": "one digest that fits is enough for cosign",
    "subjects that differ": "cosign takes the first",
    "a repository that is no text": "cosign gives it no meaning",
    "dsse of two signatures": "cosign looks for the signature among those of the entry",
    "a body of another kind than the entry": "cosign reads the kind from the body",
    "a timestamp that cannot be read": _TIME,
    "a timestamp by another key": _TIME,
    "a timestamp with two signers": _TIME,
    "a timestamp authority's leaf that expired": _TIME,
    "a timestamp authority's anchor that expired": _TIME,
    "a timestamp authority before its window": _TIME,
    "a timestamp authority after its window": _TIME,
    "a timestamp authority for code signing too": "the token's chain is good for cosign if the purpose is among others",
    "a timestamp authority's purpose that is not critical": "as above; RFC 3161 section 2.3 says critical and alone",
    "a timestamp authority that is a CA": "timestamp-authority#1416",
    "a promise's time still to come": "no clock is compared",
    "a timestamp still to come": "no clock is compared",
    "a v2 log before its window": "cosign compares the window of a log with the log's own time, and the second generation has none",
    "a certificate without a purpose": "Go takes it for every purpose",
    "an authority's certificate": "Go takes a CA for a signer",
    "a key that is not for signatures": "Go does not look at a leaf's key usage",
    "a key that may certify too": "as above; sigstore-python refuses it",
    "a certificate without a key usage": "as above; sigstore-python refuses it",
    "a signer that constrains names": "Go gives it no meaning in a leaf; sigstore-python refuses it",
    "two names": _CLAIM,
    "a user name of another type": _CLAIM,
    "two issuers": _CLAIM,
    "33 certificate logs": "a limit of sigkit's",
}


@pytest.fixture
def accepts(peer, tmp_path):
    """Return a function that asks cosign about a case, whoever signed it."""

    def ask(case):
        for name, content in (("bundle", case.parts["bundle"]), ("root", case.root), ("file", FILE), *(("key", key) for key in case.keys)):
            (tmp_path / name).write_bytes(content)
        anybody = ("--certificate-identity-regexp", ".*", "--certificate-oidc-issuer-regexp", ".*")
        who = ("--key", tmp_path / "key") if case.keys else anybody
        fixed = ("--bundle", tmp_path / "bundle", "--trusted-root", tmp_path / "root", *who)
        if b'"messageSignature"' in case.parts["bundle"]:
            done = peer("cosign", "verify-blob", *fixed, tmp_path / "file")
        else:
            algorithm, _, digest = case.digests[0].partition(":")
            kind = ("--type", "https://spdx.dev/Document", "--digest", digest, "--digestAlg", algorithm)
            done = peer("cosign", "verify-blob-attestation", *fixed, *kind)
        return done.returncode == 0, done.stderr

    return ask


@pytest.mark.parametrize("by", ["identity", "key"])
@pytest.mark.parametrize(("form", "logs", "version"), VERSIONED, ids=[f"{form}-{'+'.join(logs)}-{v}" for form, logs, v in VERSIONED])
def test_what_the_simulator_makes_both_accept(form, logs, version, by, accepts):
    case = Simulator().make(form, logs, by, version)
    assert case.judge()
    accepted, said = accepts(case)
    assert accepted, said


@pytest.mark.parametrize("name", ROWS)
def test_sigkit_accepts_nothing_that_cosign_refuses_and_what_it_alone_refuses_is_argued(name, accepts):
    case = ROWS[name].make(Simulator())
    if case.form != "bundle" or case.key_window:
        assert name not in STRICTER
        return
    with pytest.raises(SigkitError):
        case.judge()
    accepted, said = accepts(case)
    assert accepted is (name in STRICTER), said
