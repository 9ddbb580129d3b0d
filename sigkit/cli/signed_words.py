"""What the commands that sign say of what they made: who signed, and who vouches for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.strict import Json
    from sigkit.verify.facts import Facts


def signer_lines(facts: Facts) -> list[str]:
    """Return the lines of an answer about the signer, the logs and the times."""
    from sigkit.text import format_time
    from sigkit.verify.facts import KeySigner

    signer = facts.signer.signer
    if isinstance(signer, KeySigner):
        lines = [f"  by        key {signer.key} ({signer.kind})"]
    else:
        lines = [f"  by        {escape(signer.subject)}"]
        if signer.issuer:
            lines.append(f"  issuer    {escape(signer.issuer)}")
    lines += [f"  logged    {escape(fact.log)}, entry {fact.index}" for fact in facts.inclusions]
    return lines + [f"  at        {format_time(fact.when)}, says {escape(fact.authority)}" for fact in facts.times]


def signer_document(facts: Facts) -> dict[str, Json]:
    """Return the same for a program: `key` or `identity`, `logs`, `times`."""
    from sigkit.text import format_time
    from sigkit.verify.facts import KeySigner

    signer = facts.signer.signer
    who: dict[str, Json]
    if isinstance(signer, KeySigner):
        who = {"key": {"kind": signer.kind, "fingerprint": str(signer.key)}}
    else:
        who = {"identity": {"subject": signer.subject, "issuer": signer.issuer, "kind": signer.kind}}
    return {
        **who,
        "logs": [{"log": fact.log, "index": fact.index} for fact in facts.inclusions],
        "times": [{"time": format_time(fact.when), "authority": fact.authority, "kind": fact.kind.value} for fact in facts.times],
    }
