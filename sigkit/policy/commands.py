"""The commands that a refusal tells a person to paste: they make what is missing. Pure.

A line that begins with `sigkit` can be run as it is, but for words in capitals, which only the user can fill in; what is said to a person
is a comment of the shell.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.policy.model import IdentityRequirement, KeyRequirement

if TYPE_CHECKING:
    from collections.abc import Sequence

_PUBLIC_GOOD: Final = ("--trusted-root", "public-good")  # whose services sign without being named
# No instance has an authority of one's own, and its signers have keys.
_OWN_AUTHORITY: Final = ("--key", "KEY", "--cert", "CERT", "--cert-chain", "CHAIN", "--trusted-root", "ROOT", "--signing-config", "CONFIG")


class Thing(Enum):
    """What is judged: it decides what is a signature, and which commands make one."""

    IMAGE = "image"
    FILE = "file"


class Said(Data):
    """What kind of statement is looked for: signatures, or attestations of a type (None: of any)."""

    attested: bool
    predicate_type: str | None = None


SIGNED: Final = Said(attested=False)


def sign_command(thing: Thing, artifact: str, require: KeyRequirement | IdentityRequirement, said: Said, given: Sequence[str] = ()) -> str:
    """Return the command by which those whom `require` asks for say what is missing.

    Args:
        thing: what it is about.
        artifact: its name, as a word of the shell.
        require: who must say it.
        said: what.
        given: further options.
    """
    from shlex import join

    suffix, into = ("", ()) if thing is Thing.IMAGE else ("-blob", ("--bundle", "OUT"))
    verb, asked = f"sign{suffix}", tuple(given)
    if said.attested:
        verb, asked = f"attest{suffix}", ("--type", said.predicate_type or "TYPE", "--predicate", "PREDICATE", *given)
    who, by = _signer(require)
    return f"{join(['sigkit', verb, *asked, *who, *into])} {artifact}  # {by}if the {thing.value} is yours; else ask its publisher"


def ask_command(thing: Thing, predicate_type: str) -> str:
    """Return the command by which a statement of this type is asked for, without who made it and about what."""
    from shlex import quote

    return f"sigkit verify{'' if thing is Thing.IMAGE else '-blob'}-attestation --type {quote(predicate_type)}"


def _signer(require: KeyRequirement | IdentityRequirement) -> tuple[tuple[str, ...], str]:
    """Return the options that say who signs, and where it is logged, and the same for a person."""
    options = require.anchor.signs_with if require.anchor else ()
    if isinstance(require, KeyRequirement):
        return ("--key", "KEY", *(options or ())), f"KEY: the private one of {require.key.name}; "
    if options is None:
        options = _OWN_AUTHORITY
    return () if options == _PUBLIC_GOOD else options, f"as {require.identity}, "
