"""Issuers of identity tokens, and whom their tokens name: pure rules, one for each kind of issuer.

The answer is what a certificate will say: one subject alternative name, Fulcio's extensions, and the text that the client signs to
prove that it holds the key.

A template is text with claims in braces, `https://github.com/{job_workflow_ref}`; a claim that a template names must be there, unless a
question mark follows its name. An extension that would be empty is left out.

A URI in a certificate is one that Go (`net/url`, `crypto/x509`) reads, and writes again as it stands there: with another one, whatever is
built on them refuses the whole certificate. What a template makes is escaped for that as Go's `url.String` does it, so as Fulcio does, but
nothing that comes into it may be escaped already: a branch `ö` and a branch `%C3%B6` would have one name. Extensions hold the claims as
they are.

Source: sigstore/fulcio pkg/identity, pkg/config, docs/oid-info.md; RFC 3986; net/url and crypto/x509 of Go 1.26; SPIFFE-ID section 2.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final, TypeAlias

from sigkit.data import Data
from sigkit.errors import Place, UnnamableIdentity, UnverifiedEmail
from sigkit.verify import written_uri
from sigkit.verify.extensions import NAMES
from sigkit.verify.written_uri import PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.strict import Cursor, Json

AUDIENCE: Final = "sigstore"
EMAIL: Final = "email"
URI: Final = "uri"
USERNAME: Final = "username"

_ISSUER_OLD: Final = 1
_ISSUER: Final = 8
_TOKEN_SUBJECT: Final = 24
_FIRST_OWN: Final = 9  # extensions 9 to 23 can be claims of the stack's own tokens, by their names
_OWN: Final = {number: name for number, name in NAMES.items() if _FIRST_OWN <= number < _TOKEN_SUBJECT}
CLAIM_NAMES: Final = tuple(_OWN.values())
_NAME_CHARACTERS: Final = 2048
_PLACE: Final = Place("identity token")
_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
DOMAIN: Final = r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*"
_WRITTEN: Final = rf"(?:{PLAIN}|%[0-9A-Fa-f]{{2}})"
_URI: Final = re.compile(
    r"(?P<origin>[a-z][a-z0-9+.-]{0,30}://"
    rf"(?:(?=[^/:]{{1,253}}(?:[/:]|$)){DOMAIN}|\[(?P<address>[0-9A-Fa-f:.]{{2,45}})\])(?::[0-9]{{1,5}})?)"
    # Go leaves out an empty fragment: `main#` would be `main`.
    rf"(?:/{_WRITTEN}*(?:\?(?:{_WRITTEN}|\?)*)?(?:#(?:{_WRITTEN}|\?)+)?)?"
)
_SPIFFE_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)*")  # SPIFFE-ID section 2.2
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
FIELD: Final = re.compile(r"\{([^{}]+)\}")


class Subject(Data):
    """Who somebody is: what the client signs as a proof that it holds the key, the name in the certificate, and its kind."""

    proof: str
    kind: str  # EMAIL, URI or USERNAME
    name: str
    extensions: Mapping[int, str]  # beside the issuer's and the token's subject


class OwnIssuer(Data):
    """The stack's own: persons have an e-mail address, workloads a URI."""

    def name(self, subject: str, claims: Cursor) -> Subject:
        """Return whom verified claims name."""
        if claims.find("email"):
            return _email(claims)
        return Subject(subject, URI, _uri(subject)[0], _own_extensions(claims))

    def describe(self) -> dict[str, Json]:
        """Describe it as Fulcio's configuration does, which has no word for both."""
        return {"issuerType": "email", "challengeClaim": "email"}


class EmailIssuer(Data):
    """Names persons by a verified e-mail address."""

    def name(self, _: str, claims: Cursor) -> Subject:
        """Return whom verified claims name."""
        return _email(claims)

    def describe(self) -> dict[str, Json]:
        """Describe it as Fulcio's configuration does."""
        return {"issuerType": "email", "challengeClaim": "email"}


class UriIssuer(Data):
    """Names workloads by a URI on one host."""

    subject_domain: str  # scheme and host: `https://ci.example`

    def name(self, subject: str, _: Cursor) -> Subject:
        """Return whom verified claims name."""
        name, origin = _uri(subject)
        if origin != self.subject_domain:
            raise _unnamable("the subject lies on another host than the issuer speaks for", self.subject_domain, origin)
        return Subject(subject, URI, name, {})

    def describe(self) -> dict[str, Json]:
        """Describe it as Fulcio's configuration does."""
        return {"issuerType": "uri", "challengeClaim": "sub", "subjectDomain": self.subject_domain}


class UsernameIssuer(Data):
    """Names persons by a name that is not an address."""

    subject_domain: str

    def name(self, subject: str, _: Cursor) -> Subject:
        """Return whom verified claims name."""
        if "!" in subject or "@" in subject:
            raise _unnamable("the subject is no plain name", "no ! and no @", subject)
        return Subject(subject, USERNAME, f"{subject}!{self.subject_domain}", {})

    def describe(self) -> dict[str, Json]:
        """Describe it as Fulcio's configuration does."""
        return {"issuerType": "username", "challengeClaim": "sub", "subjectDomain": self.subject_domain}


class SpiffeIssuer(Data):
    """Names workloads by a SPIFFE ID of one trust domain."""

    trust_domain: str

    def name(self, subject: str, _: Cursor) -> Subject:
        """Return whom verified claims name."""
        name, origin = _uri(subject)
        if origin != f"spiffe://{self.trust_domain}":
            raise _unnamable("the subject is of another trust domain", f"spiffe://{self.trust_domain}", origin)
        if not _SPIFFE_PATH.fullmatch(name.removeprefix(origin)):
            raise _unnamable("the subject is no SPIFFE ID", "segments of letters, digits, '.', '-' and '_'", name)
        return Subject(subject, URI, name, {})

    def describe(self) -> dict[str, Json]:
        """Describe it as Fulcio's configuration does."""
        return {"issuerType": "spiffe", "challengeClaim": "sub", "spiffeTrustDomain": self.trust_domain}


class KubernetesIssuer(Data):
    """Names service accounts of one cluster."""

    def name(self, subject: str, claims: Cursor) -> Subject:
        """Return whom verified claims name."""
        return Subject(subject, URI, _service_account(claims), {})

    def describe(self) -> dict[str, Json]:
        """Describe it as Fulcio's configuration does."""
        return {"issuerType": "kubernetes", "challengeClaim": "sub"}


class CiIssuer(Data):
    """Names jobs by templates over their claims."""

    subject: str
    extensions: Mapping[int, str]
    begins: str = ""  # each name

    def name(self, subject: str, claims: Cursor) -> Subject:
        """Return whom verified claims name."""
        name = write_uri(_name_by(self.subject, claims))
        if not name.startswith(self.begins):
            raise _unnamable("the subject lies elsewhere than the issuer speaks for", f"{self.begins}…", name)
        filled = ((number, fill(template, claims)) for number, template in self.extensions.items())
        return Subject(subject, URI, name, {number: text for number, text in filled if text})

    def describe(self) -> dict[str, Json]:
        """Describe it as Fulcio's configuration does."""
        return {"issuerType": "ci-provider", "challengeClaim": "sub"}


IssuerKind: TypeAlias = OwnIssuer | EmailIssuer | UriIssuer | UsernameIssuer | SpiffeIssuer | KubernetesIssuer | CiIssuer


class Issuer(Data):
    """An issuer whose tokens are taken, and for whom they must be.

    `ca_file` names the authorities whose TLS certificate its server may show, beside those of this machine; "" for none.
    """

    url: str
    kind: IssuerKind
    audience: str = AUDIENCE
    ca_file: str = ""


class Named(Data):
    """Whom a token names, with everything that stands in the certificate about them."""

    subject: Subject
    extensions: Mapping[int, str]


def name_identity(issuer: Issuer, claims: Cursor) -> Named:
    """Return whom a verified token of this issuer names.

    Raises:
        UnverifiedEmail: (IDENT).
        UnnamableIdentity: (IDENT) a claim is missing, or speaks for what the issuer may not.
        WrongShape: (PARSE).
    """
    stated = claims.member("sub").text()
    named = issuer.kind.name(stated, claims)
    extensions = {_ISSUER_OLD: issuer.url, _ISSUER: issuer.url, **named.extensions, _TOKEN_SUBJECT: stated}
    for text in (named.name, *extensions.values()):
        _check_text(text)
    return Named(named, dict(sorted(extensions.items())))


def fill(template: str, claims: Cursor) -> str:
    """Put claims into a template; a number stands there as the token wrote it.

    Raises:
        UnnamableIdentity: (IDENT) a claim is missing, or is no text, whole number or truth value.
    """
    return FIELD.sub(lambda found: _claim(found[1], claims), template)


def _name_by(template: str, claims: Cursor) -> str:
    """Put claims into the template of a name, of which two jobs never get the same: where a claim ends is seen by what follows it."""
    for found in FIELD.finditer(template):
        value, follows = _claim(found[1], claims), template[found.end() : found.end() + 1]
        if follows and follows in value:
            raise _unnamable(f"the claim {found[1]} contains what ends it in the issuer's template", f"no {follows!r} in it", value)
    return fill(template, claims)


def _claim(name: str, claims: Cursor) -> str:
    value = claims.object().get(name.removesuffix("?"))
    if name.endswith("?") and value in (None, ""):
        return ""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str() if value:
            return value
        case _:
            raise _unnamable("a claim is missing that the issuer's templates name", name, "nothing" if value is None else "another type")


def _email(claims: Cursor) -> Subject:
    member, verified = claims.find("email"), claims.object().get("email_verified")
    if member is None:
        raise _unnamable("the token names no e-mail address", "email", "nothing")
    address = member.text()
    if verified is not True and verified not in ("true", "True"):
        raise UnverifiedEmail(
            "the issuer has not verified the e-mail address", place=_PLACE, expected="email_verified: true", got=address[:200]
        )
    if not is_email(address):
        raise _unnamable("malformed e-mail address", "one address", address)
    return Subject(address, EMAIL, address, {})


def write_uri(text: str) -> str:
    """Return the URI that a template's text means, escaped where Go escapes it: no two texts are one URI.

    Raises:
        UnnamableIdentity: (IDENT) it is none, or has an escape of its own, or what is half of one.
    """
    if "%" in text or not text.isprintable():
        raise _unnamable("the subject has a percent sign, or what cannot be seen", "a URI in which nothing is escaped", text)
    return _uri(written_uri.write_uri(text))[0]


def _uri(text: str) -> tuple[str, str]:
    found = _URI.fullmatch(text)
    if not found or (found["address"] and not _is_ipv6(found["address"])):
        raise _unnamable("the subject is no URI with a host", "scheme://host/…", text)
    return text, found["origin"]


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _service_account(claims: Cursor) -> str:
    kubernetes = claims.member("kubernetes.io")
    namespace, account = kubernetes.member("namespace").text(), kubernetes.member("serviceaccount").member("name").text()
    if not _LABEL.fullmatch(namespace) or not _LABEL.fullmatch(account):
        raise _unnamable("malformed namespace or service account", "names of Kubernetes", f"{namespace}/{account}")
    return f"https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{account}"


def _own_extensions(claims: Cursor) -> dict[int, str]:
    found = claims.object()
    return {number: _claim(name, claims) for number, name in _OWN.items() if name in found}


def _check_text(text: str) -> None:
    if not text or len(text) > _NAME_CHARACTERS or not text.isprintable():
        raise _unnamable("the name is empty, too long, or not printable", f"1 to {_NAME_CHARACTERS} characters", f"{len(text)} characters")


def _unnamable(problem: str, expected: str, got: str) -> UnnamableIdentity:
    return UnnamableIdentity(problem, place=_PLACE, expected=expected[:200], got=got[:200])


def is_email(text: str) -> bool:
    """Tell whether this is one e-mail address."""
    return bool(_EMAIL.fullmatch(text)) and ".." not in text
