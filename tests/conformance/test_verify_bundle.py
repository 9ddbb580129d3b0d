"""Sigstore's conformance suite: every case by path and by digest, as its client protocol says, and each refusal by its code."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sigkit.cli.conformance import run

CASES = 70
IDENTITY = (
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/"
    "extremely-dangerous-oidc-beacon.yml@refs/heads/main"
)
ISSUER = "https://token.actions.githubusercontent.com"
FOLDER = Path(os.environ.get("SIGKIT_VECTORS", "/nowhere"), "sigstore-conformance/test/assets/bundle-verify")
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir()) if FOLDER.is_dir() else []

# What each case that must fail is refused as. Several fail for two reasons: the first that sigkit meets is named.
CODES = {
    "bundle-empty-certificate-chain_fail": "SK-PARSE-002",
    "bundle-from-wrong-instance_fail": "SK-TIME-001",  # nobody in the root knows log or authority, so nothing says when
    "bundle-invalid-base64-signature_fail": "SK-PARSE-003",
    "bundle-malformed-json_fail": "SK-PARSE-001",
    "bundle-negative-log-index_fail": "SK-PARSE-002",
    "bundle-unknown-version_fail": "SK-PARSE-008",
    "bundle-with-root-cert_fail": "SK-PARSE-002",
    "checkpoint-bad-keyhint_fail": "SK-TLOG-003",
    "checkpoint-wrong-roothash_fail": "SK-TLOG-004",
    "dsse-invalid-sig_fail": "SK-SIG-001",
    "dsse-mismatch-envelope_fail": "SK-BIND-003",
    "dsse-mismatch-sig_fail": "SK-BIND-003",
    "inclusion-proof-corrupted-hash_fail": "SK-TLOG-001",
    "incorrect-public-key_fail": "SK-BIND-003",
    "integrated-time-in-future_fail": "SK-TIME-002",
    "intoto-expired-certificate_fail": "SK-TIME-002",
    "intoto-log-entry-mismatch_fail": "SK-PARSE-004",  # base64 once where the log writes it twice
    "intoto-missing-inclusion-proof_fail": "SK-PARSE-002",
    "intoto-set-outside-signing-cert-validity_fail": "SK-TIME-002",
    "intoto-tsa-timestamp-outside-cert-validity_fail": "SK-TIME-002",
    "invalid-checkpoint-signature_fail": "SK-TLOG-003",
    "invalid-ct-key_fail": "SK-POLICY-009",  # the root has another log, so no known one promised to include the certificate
    "invalid-inclusion-proof_fail": "SK-PARSE-002",
    "managed-key-no-key_fail": "SK-SIG-002",
    "managed-key-wrong-key_fail": "SK-PARSE-007",
    "message-digest-mismatch_fail": "SK-BIND-001",
    "rekor2-checkpoint-missing-log-signature_fail": "SK-TLOG-002",
    "rekor2-checkpoint-missing-origin_fail": "SK-TLOG-002",
    "rekor2-checkpoint-missing-root-hash_fail": "SK-TLOG-002",
    "rekor2-checkpoint-missing-size_fail": "SK-TLOG-002",
    "rekor2-checkpoint-no-matching-signature_fail": "SK-TLOG-003",
    "rekor2-dsse-invalid-sig_fail": "SK-SIG-001",
    "rekor2-dsse-mismatch-envelope_fail": "SK-BIND-003",
    "rekor2-dsse-mismatch-sig_fail": "SK-BIND-003",
    "rekor2-no-inclusion-proof_fail": "SK-PARSE-002",
    "rekor2-no-timestamp_fail": "SK-TIME-001",
    "rekor2-timestamp-outside-trust-root-tsa-validity_fail": "SK-TIME-003",
    "rekor2-timestamp-outside-tsa-cert-validity_fail": "SK-TIME-005",
    "rekor2-timestamp-payload-mismatch_fail": "SK-TIME-005",
    "rekor2-timestamp-untrusted-tsa-with-embedded-cert_fail": "SK-TIME-005",  # not DER
    "rekor2-timestamp-untrusted-tsa-without-embedded-cert_fail": "SK-TIME-001",
    "rekor2-timestamp-with-incorrect-time_fail": "SK-PARSE-003",
    "set-invalid-signature_fail": "SK-TLOG-005",
    "signature-mismatch_fail": "SK-SIG-001",
    "trust-root-tlog-missing-validity-start_fail": "SK-PARSE-002",
    "wrong-hashedrekord-artifact_fail": "SK-BIND-003",
    "wrong-hashedrekord-cert-and-sig_fail": "SK-BIND-003",
    "wrong-hashedrekord-entry_fail": "SK-BIND-003",
    "wrong-material_fail": "SK-BIND-001",
}
EXECUTED = ("happy-path-v0.3", "rekor2-happy-path", "managed-key-happy-path", "managed-key-wrong-key_fail", "set-invalid-signature_fail")


@pytest.fixture(autouse=True)
def cases(vectors):
    return vectors


def arguments(name: str, by: str) -> list[str]:
    """Return the command line for a case, as the suite makes it of the folder's files."""
    folder = FOLDER / name

    def text(file: str, default: str) -> str:
        return (folder / file).read_text().strip() if (folder / file).exists() else default

    words = ["verify-bundle", "--bundle", str(folder / "bundle.sigstore.json")]
    if (folder / "key.pub").exists():
        words += ["--key", str(folder / "key.pub")]
    else:
        words += ["--certificate-identity", text("identity", IDENTITY), "--certificate-oidc-issuer", text("issuer", ISSUER)]
    if (folder / "trusted_root.json").exists():
        words += ["--trusted-root", str(folder / "trusted_root.json")]
    artifact = folder / "artifact" if (folder / "artifact").exists() else FOLDER / "a.txt"
    return [*words, str(artifact) if by == "path" else f"sha256:{hashlib.sha256(artifact.read_bytes()).hexdigest()}"]


def test_there_are_seventy_cases():
    assert len(NAMES) == CASES
    assert {name for name in NAMES if name.endswith("_fail")} == set(CODES)


@pytest.mark.parametrize("by", ["path", "digest"])
@pytest.mark.parametrize("name", NAMES or [pytest.param("", marks=pytest.mark.skip(reason="SIGKIT_VECTORS names no directory"))])
def test_case(name, by, capsys):
    status = run(arguments(name, by))
    told = capsys.readouterr()
    if name in CODES:
        assert status != 0
        assert CODES[name] in told.err
    else:
        assert (status, told.out) == (0, "verified\n"), told.err


@pytest.mark.parametrize("by", ["path", "digest"])
@pytest.mark.parametrize("name", EXECUTED)
def test_case_through_the_executable(name, by):
    program = Path(sys.executable).parent / "sigkit-conformance"
    command = [program] if program.exists() else [sys.executable, "-c", "from sigkit.cli.conformance import main; main()"]
    done = subprocess.run([*command, *arguments(name, by)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode == 0) == (not name.endswith("_fail")), done.stderr
    assert "Traceback" not in done.stderr


def test_another_identity_or_issuer_is_refused(capsys):
    words = arguments("happy-path-v0.3", "path")
    for position in (words.index(IDENTITY), words.index(ISSUER)):
        changed = [*words]
        changed[position] += "x"
        assert run(changed) == 1
    assert "SK-POLICY-009" in capsys.readouterr().err


def test_a_digest_that_is_the_name_of_a_file_is_a_file(tmp_path, monkeypatch):
    words = arguments("happy-path-v0.3", "digest")
    monkeypatch.chdir(tmp_path)
    (tmp_path / words[-1]).write_bytes(b"another file")
    assert run(words) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["sign-bundle", "--identity-token", "x", "--bundle", "b", "f"],
        ["verify-bundle", "--staging", "--bundle", "b", "--certificate-identity", "i", "--certificate-oidc-issuer", "u", "f"],
        ["verify-bundle", "--bundle", "b", "f"],
        ["verify-bundle", "--bundle", "b", "--key", "k", "--certificate-identity", "i", "f"],
    ],
    ids=["signing", "staging without its root", "nobody", "key and identity"],
)
def test_what_is_not_there_is_a_usage_error_by_name(words, capsys):
    assert run(words) == 2
    assert "usage error" in capsys.readouterr().err
