"""Coverage-guided fuzzing of the parsers of evidence: nothing but the package's own errors leaves them.

    python tests/fuzz/parsers.py all 60                                    every parser for 60 seconds
    python tests/fuzz/parsers.py bundle [-max_total_time=60] [CORPUS…]     one of them; options are libFuzzer's

Needs atheris (dependency group `fuzz`), which has wheels for x86-64 glibc only. Seeds are what the published vectors hold.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import atheris

with atheris.instrument_imports(include=["sigkit"]):
    from sigkit import limits
    from sigkit.errors import Place, SigkitError
    from sigkit.evidence import legacy
    from sigkit.evidence.bundle import parse_bundle
    from sigkit.evidence.envelope import parse_envelope_document
    from sigkit.evidence.form import Found, evidence_of_bundle
    from sigkit.evidence.simple_signing import parse_simple_signing
    from sigkit.evidence.statement import parse_statement
    from sigkit.keys.public import parse_public_key
    from sigkit.tlog.checkpoint import parse_checkpoint
    from sigkit.tlog.entry import LogEntry
    from sigkit.tlog.entry_v1 import parse_body
    from sigkit.tlog.note import parse_note
    from sigkit.trust.bundled import load_public_good
    from sigkit.trust.trusted_root import parse_trusted_root
    from sigkit.verify.bind import Artifact
    from sigkit.verify.chain import parse_signing_certificate
    from sigkit.verify.times import verify_timestamps
    from sigkit.verify.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = Path(os.environ.get("SIGKIT_VECTORS", "/nowhere"), "sigstore-conformance/test/assets")
PLACE = Place("fuzzed")
LIMITS = limits.DEFAULT
ROOT = load_public_good()
NOW = datetime(2026, 11, 26, tzinfo=UTC)
KINDS = (("hashedrekord", "0.0.1"), ("dsse", "0.0.1"), ("intoto", "0.0.2"), ("rekord", "0.0.1"))


def _bodies(raw: bytes) -> None:
    for kind, version in KINDS:
        try:
            parse_body(LogEntry(0, bytes(32), kind, version, 0, None, None, raw), PLACE, LIMITS)
        except SigkitError:
            continue


def _note(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    parse_checkpoint(parse_note(text, PLACE).text, PLACE)


def _verify(raw: bytes) -> None:
    verify(evidence_of_bundle(raw, Found("fuzzed", None, "file")), Artifact.of_content(b"content"), ROOT, NOW, LIMITS)


TARGETS: dict[str, Callable[[bytes], object]] = {
    "bundle": lambda raw: parse_bundle(raw, LIMITS, PLACE),
    "envelope": lambda raw: parse_envelope_document(raw, LIMITS, PLACE),
    "statement": lambda raw: parse_statement(raw, LIMITS, PLACE),
    "simple-signing": lambda raw: parse_simple_signing(raw, LIMITS, PLACE),
    "rekor-bundle": lambda raw: legacy.parse_rekor_bundle(raw, LIMITS, PLACE),
    "chain": lambda raw: legacy.parse_chain(raw, PLACE),
    "key": lambda raw: parse_public_key(raw, PLACE),
    "certificate": lambda raw: parse_signing_certificate((raw,), PLACE),
    "timestamp": lambda raw: verify_timestamps((raw,), b"signature", ROOT.timestamp_authorities, PLACE),
    "trusted-root": lambda raw: parse_trusted_root(raw, "fuzzed", PLACE, LIMITS),
    "body": _bodies,
    "note": _note,
    "verify": _verify,
}


def fuzz_all(seconds: str) -> int:
    """Fuzz each target for so long in a process of its own, from the published vectors; return how many found something."""
    found = 0
    with tempfile.TemporaryDirectory(prefix="sigkit-fuzz-") as directory:
        seeds = Path(directory, "seeds")
        seeds.mkdir()
        for number, path in enumerate(sorted(VECTORS.rglob("*.json"))):
            shutil.copy(path, seeds / str(number))
        for name in TARGETS:
            command = [
                sys.executable,
                __file__,
                name,
                f"-max_total_time={seconds}",
                "-timeout=20",
                f"-artifact_prefix={os.getcwd()}/fuzz-{name}-",
            ]
            found += subprocess.run([*command, str(seeds)], check=False).returncode != 0
    return found


def main() -> None:
    """Fuzz the target that is named until libFuzzer is done or something escapes, or all of them with `all SECONDS`."""
    match sys.argv[1:]:
        case ["all", seconds]:
            sys.exit(fuzz_all(seconds))
        case [name, *_] if name in TARGETS:
            target = TARGETS[name]
        case _:
            sys.exit(f"usage: {sys.argv[0]} all SECONDS, or {{{','.join(TARGETS)}}} [libFuzzer's options]")

    def one(raw: bytes) -> None:
        with contextlib.suppress(SigkitError):
            target(raw)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
