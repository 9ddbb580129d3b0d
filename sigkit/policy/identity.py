"""Which identities are meant: issuer and subject together, and any of Fulcio's extensions, each exactly or by an expression. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, assert_never

from sigkit.data import NOTHING, Data
from sigkit.policy.expression import fits_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.verify.facts import IdentitySigner


class Exactly(Data):
    """This text, character by character."""

    text: str


class Expression(Data):
    """Texts whose whole fits this expression (sigkit.policy.expression), which was checked."""

    text: str


class AnyText(Data):
    """Whatever is there, also nothing: the issuer under an authority of one's own, which vouches for whom it names."""


TextMatch: TypeAlias = Exactly | Expression
IssuerMatch: TypeAlias = Exactly | Expression | AnyText


class IdentityPattern(Data):
    """Identities that are meant. `kind` is that of the subject alternative name, "" for any."""

    issuer: IssuerMatch
    subject: TextMatch
    extensions: Mapping[str, TextMatch] = NOTHING
    kind: str = ""

    def differs(self, signer: IdentitySigner) -> tuple[str, ...]:
        """Return what of `signer` is not as it is meant, as `name value`; nothing when it is one of those meant."""
        found: list[str] = []
        if not fits(self.subject, signer.subject):
            found.append(f"subject {signer.subject}")
        if self.kind and signer.kind != self.kind:
            found.append(f"subject of kind {signer.kind}")
        if not fits(self.issuer, signer.issuer):
            found.append(f"issuer {signer.issuer or '(none)'}")
        for name, wanted in self.extensions.items():
            value = signer.extensions.get(name)
            # What the certificate does not say fits nothing, not even an expression that fits the empty text.
            if value is None or not fits(wanted, value):
                found.append(f"{name} {'(absent)' if value is None else value}")
        return tuple(found)

    def issuer_but_for_a_slash(self, signer: IdentitySigner) -> str:
        """Return the signer's issuer if a slash at its end is all in which the signer is not as it is meant; else ""."""
        wanted, found = self.issuer, signer.issuer
        if not isinstance(wanted, Exactly) or found not in {f"{wanted.text}/", wanted.text.removesuffix("/")} - {wanted.text}:
            return ""
        return found if len(self.differs(signer)) == 1 else ""

    def __str__(self) -> str:
        """Write the pattern for people."""
        issuer = "" if isinstance(self.issuer, AnyText) else f" of {describe_text(self.issuer)}"
        rest = "".join(f", {name} {describe_text(wanted)}" for name, wanted in self.extensions.items())
        kind = f"{self.kind} " if self.kind else ""
        return f"{kind}{describe_text(self.subject)}{issuer}{rest}"


def fits(wanted: IssuerMatch, text: str) -> bool:
    """Tell whether the whole text is what is wanted."""
    match wanted:
        case Exactly(exact):
            return text == exact
        case Expression(expression):
            return fits_whole(expression, text)
        case AnyText():
            return True
        case _:
            assert_never(wanted)


def describe_text(wanted: TextMatch) -> str:
    """Write for people what text is wanted."""
    return wanted.text if isinstance(wanted, Exactly) else f"/{wanted.text}/"
