"""Who a policy trusts, from its file: keys, trusted roots, certificate authorities, and the authorities that rules name.

What stands here decides whose word counts, so nothing has a second meaning: one key has one name, an identity has an issuer unless an
authority of one's own certifies it, and an expression that fits nothing it should is warned of by `policy check`.
"""

from __future__ import annotations

import os.path
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from sigkit import limits
from sigkit.data import NOTHING, Data
from sigkit.errors import FileUnreadable, MalformedExpression, MalformedOption, NoSuchRoot, Place, SameKeyTwice, SigkitError
from sigkit.keys.public import parse_public_key
from sigkit.policy.document import meant
from sigkit.policy.expression import find_fault
from sigkit.policy.identity import AnyText, Exactly, Expression, IdentityPattern
from sigkit.policy.load_witnesses import parse_witnesses
from sigkit.policy.model import (
    KEYLESS_DEMANDS,
    NO_DEMANDS,
    Anchor,
    Demands,
    IdentityRequirement,
    KeyRequirement,
    signing_options,
)
from sigkit.trust.pins import is_name
from sigkit.trust.root import TrustedKey, TrustedRoot, with_witnesses
from sigkit.trust.store import NO_ALLOWANCE, Allowance
from sigkit.verify.extensions import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sigkit.digest import Digest
    from sigkit.keys.public import PublicKey
    from sigkit.policy.document import Field
    from sigkit.policy.identity import IssuerMatch, TextMatch
    from sigkit.tlog.cosignature import NoteKey
    from sigkit.trust.store import NamedRoot, RootStore

    ReadFile = Callable[[str], bytes]

T = TypeVar("T")

PUBLIC_GOOD: Final = "public-good"  # the root that is meant where none is named, unless the policy gives this name to one of its own
KINDS: Final = ("email", "uri", "username", "dns", "ip")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NUMBER = re.compile(r"[0-9]{1,2}")
_DAYS = re.compile(r"([0-9]{1,4})d", re.ASCII)
_EXTENSIONS: Final = tuple(dict.fromkeys(name for name in NAMES.values() if name != "issuer"))
_DEMANDS: Final = ("logEntries", "logInclusions", "timestamps", "certificateLogs", "witnesses")


class Root(Data):
    """A trusted root, or a certificate authority of one's own, that a policy can name."""

    root: TrustedRoot
    anchor: Anchor
    digest: Digest  # of the file
    defaults: Demands  # of identities that it certifies
    names_issuers: bool  # its certificates say which issuer knew the signer, so a policy must say which one it means


class Trust:
    """Everything that rules can name. A root on which none of them counts is not handed to verification."""

    def __init__(self, read_file: ReadFile, roots: RootStore | None) -> None:
        """Start empty; `read_file` gives the bytes of a file, named as the policy names it; `roots` has this machine's trust roots."""
        self.read_file = read_file
        self._roots = roots
        self.keys: dict[str, TrustedKey] = {}
        self.trusted_roots: dict[str, Root] = {}
        self.certificate_authorities: dict[str, Root] = {}
        self.authorities: dict[str, KeyRequirement | IdentityRequirement] = {}

    def root(self, field: Field | None) -> Root:
        """Return the trusted root that a field names; the public-good instance's where there is none.

        Raises:
            MalformedPolicy: (PARSE) no root has that name.
        """
        name = field.text() if field else PUBLIC_GOOD
        if name not in self.trusted_roots:
            if name != PUBLIC_GOOD:
                _fail_unknown(field, "trusted root", name, (*self.trusted_roots, PUBLIC_GOOD))
            self.trusted_roots[name] = _of_machine(PUBLIC_GOOD, PUBLIC_GOOD, self.pinned(PUBLIC_GOOD, NO_ALLOWANCE))
        return self.trusted_roots[name]

    def pinned(self, name: str, allowance: Allowance) -> NamedRoot:
        """Return a trust root of this machine.

        Raises:
            SigkitError: as `RootStore.load`.
        """
        if self._roots is None:
            from sigkit.clock import SystemClock
            from sigkit.trust.store import find_store

            self._roots = find_store(SystemClock(), None)
        return self._roots.load(name, allowance)

    def roots_of(self, leaves: Iterable[KeyRequirement | IdentityRequirement]) -> tuple[Root, ...]:
        """Return the roots that these count on, each once."""
        counted: dict[Anchor | None, dict[str, NoteKey]] = {}
        for leaf in leaves:
            named = {witness.identifier: witness for witness in leaf.demands.witnessed_by}
            counted.setdefault(leaf.anchor, {}).update(named)
        known = (*self.trusted_roots.values(), *self.certificate_authorities.values())
        return tuple(_witnessed(root, tuple(counted[root.anchor].values())) for root in known if root.anchor in counted)

    def unnamed(self, leaves: Iterable[KeyRequirement | IdentityRequirement]) -> tuple[str, ...]:
        """Return what is defined and stands in none of these."""
        named = tuple(leaves)
        anchors = {leaf.anchor for leaf in named}
        keys = {leaf.key.name for leaf in named if isinstance(leaf, KeyRequirement)}
        authorities = [name for name, leaf in self.authorities.items() if leaf not in named]
        roots = [name for name, root in self.trusted_roots.items() if not any(a and a.logs == root.root.digest for a in anchors)]
        certifying = [name for name, root in self.certificate_authorities.items() if root.anchor not in anchors]
        return (
            *(f"key `{name}`" for name in self.keys if name not in keys),
            *(f"trusted root `{name}`" for name in roots if name != PUBLIC_GOOD),
            *(f"certificate authority `{name}`" for name in certifying),
            *(f"authority `{name}`" for name in authorities),
        )


def _witnessed(root: Root, witnesses: tuple[NoteKey, ...]) -> Root:
    if not witnesses:
        return root
    return Root(with_witnesses(root.root, witnesses), root.anchor, root.digest, root.defaults, root.names_issuers)


def _trusted(root: TrustedRoot, name: str, signs_with: tuple[str, ...]) -> Root:
    return Root(root, Anchor(name, root.digest, root.digest, signs_with), root.digest, KEYLESS_DEMANDS, names_issuers=True)


def _of_machine(name: str, pinned: str, found: NamedRoot) -> Root:
    return _trusted(found.root, name, signing_options(pinned, found.signing))


def parse_trust(found: Mapping[str, Field], read_file: ReadFile, roots: RootStore | None = None) -> Trust:
    """Parse `keys`, `trustedRoots`, `certificateAuthorities` and `authorities` of a policy.

    Raises:
        SigkitError: as `load_policy`.
    """
    trust = Trust(read_file, roots)
    if "keys" in found:
        _parse_keys(found["keys"], trust)
    for name, value in _named(found, "trustedRoots"):
        trust.trusted_roots[name] = _parse_trusted_root(name, value, trust)
    for name, value in _named(found, "certificateAuthorities"):
        trust.certificate_authorities[name] = _parse_certificate_authority(name, value, trust)
    for name, value in _named(found, "authorities"):
        trust.authorities[name] = _parse_authority(name, value, trust)
    return trust


def _named(found: Mapping[str, Field], block: str) -> Iterable[tuple[str, Field]]:
    if block not in found:
        return
    members = found[block].members()
    if not members:
        found[block].fail(f"`{block}` is empty", expected=f"at least one, or no `{block}`")
    for name, value in members.items():
        if not _NAME.fullmatch(name):
            value.fail(f"malformed name in `{block}`", expected="1 to 64 letters, digits, _ . and -", got=name)
        yield name, value


def _parse_keys(field: Field, trust: Trust) -> None:
    seen: dict[bytes, str] = {}
    for name, value in _named({"keys": field}, "keys"):
        key = TrustedKey(name, _parse_key(value, trust.read_file))
        if (other := seen.get(key.key.spki)) is not None:
            raise value.mark(
                SameKeyTwice("one key has two names", got=f"{other} and {name}: {key.key.fingerprint}", remedy=f"use `{other}` only")
            )
        seen[key.key.spki] = name
        trust.keys[name] = key


class _Content(NamedTuple):
    raw: bytes
    place: Place  # of the file, or of the field that holds it
    where: Field


def _read(field: Field, found: Mapping[str, Field], what: str, read_file: ReadFile) -> _Content:
    """Return the bytes that `file` names or `pem` holds."""
    given = [found[name] for name in ("file", "pem") if name in found]
    if len(given) != 1:
        field.fail(f"{what} has either `file` or `pem`", got="both" if given else "neither")
    where = given[0]
    text = where.text()
    if where.name == "pem":
        return _Content(text.encode(), where.place(), where)
    try:
        return _Content(read_file(text), Place.operator(text), where)
    except SigkitError as err:
        raise _at(err, where) from err


def _at(err: SigkitError, where: Field) -> SigkitError:
    # The fault lies in the file; what the operator can point at is the line that names it.
    if where.name == "file":
        inside = f" {err.place.inside}" if err.place.inside else ""
        err.problem = f"{err.problem} (file {err.place.source}{inside})"
    if isinstance(err, FileUnreadable):
        err.remedy = err.remedy or "the path is relative to the policy file"
    return where.mark(err)


def _parse_key(field: Field, read_file: ReadFile) -> PublicKey:
    content = _read(field, field.only("file", "pem"), "a key", read_file)
    try:
        return parse_public_key(content.raw, content.place)
    except SigkitError as err:
        raise _at(err, content.where) from err


def _parse_trusted_root(name: str, field: Field, trust: Trust) -> Root:
    from sigkit.trust.trusted_root import parse_trusted_root

    found = field.only("file", "pinned", "maxAge", "maxExpired")
    if ("file" in found) == ("pinned" in found):
        field.fail("a trusted root has either `file` or `pinned`", got="both" if "file" in found else "neither")
    if "pinned" in found:
        return _parse_pinned_root(name, found, trust)
    for limit in ("maxAge", "maxExpired"):
        if limit in found:
            found[limit].fail(f"`{limit}` goes with `pinned`", got="a file, whose age nobody knows")
    content = _read(field, {"file": found["file"]}, "a trusted root", trust.read_file)
    try:
        root = parse_trusted_root(content.raw, name, content.place, limits.DEFAULT)
    except SigkitError as err:
        raise _at(err, content.where) from err
    path = os.path.join(os.path.dirname(content.where.place().source), content.place.source)
    return _trusted(root, name, signing_options(f"./{path}" if is_name(path) else path, None))


def _parse_pinned_root(name: str, found: Mapping[str, Field], trust: Trust) -> Root:
    allowance = Allowance(
        _parse_days(found["maxAge"]) if "maxAge" in found else None,
        _parse_days(found["maxExpired"]) if "maxExpired" in found else NO_ALLOWANCE.max_expired,
    )
    try:
        named = trust.pinned(found["pinned"].text(), allowance)
    except (NoSuchRoot, MalformedOption) as err:  # the policy is wrong; a root that is too old is another matter
        raise found["pinned"].mark(err) from err
    return _of_machine(name, found["pinned"].text(), named)


def _parse_days(field: Field) -> timedelta:
    number = _DAYS.fullmatch(field.text())
    if not number:
        field.fail(f"`{field.name}` is no number of days", expected="7d, at most 9999d", got=field.text()[:40])
    return timedelta(days=int(number[1]))


def _parse_certificate_authority(name: str, field: Field, trust: Trust) -> Root:
    from sigkit.policy.chain_file import parse_certificate_authority

    found = field.only("file", "pem", "trustedRoot")
    content = _read(field, found, "a certificate authority", trust.read_file)
    try:
        authority = parse_certificate_authority(content.raw, name, content.place)
    except SigkitError as err:
        raise _at(err, content.where) from err
    logs = trust.root(found.get("trustedRoot")).root
    digest = authority.source.digest
    root = TrustedRoot(name, digest, (), (authority,), logs.logs, (), logs.timestamp_authorities)
    return Root(root, Anchor(name, digest, logs.digest), digest, NO_DEMANDS, names_issuers=False)


def _parse_authority(name: str, field: Field, trust: Trust) -> KeyRequirement | IdentityRequirement:
    found = field.only("key", "identity", "trustedRoot", "certificateAuthority", *_DEMANDS)
    if ("key" in found) == ("identity" in found):
        field.fail("an authority has either `key` or `identity`", got="both" if "key" in found else "neither")
    if "key" in found:
        return _parse_key_authority(field, found, trust)
    return parse_identity(found["identity"], found, trust, name)


def _parse_key_authority(field: Field, found: Mapping[str, Field], trust: Trust) -> KeyRequirement:
    if "certificateAuthority" in found:
        found["certificateAuthority"].fail("a key needs no certificate authority", remedy="remove it")
    if "certificateLogs" in found:
        found["certificateLogs"].fail("a key has no certificate that a log could hold", remedy="remove it")
    demands = _parse_demands(found, NO_DEMANDS)
    if demands == NO_DEMANDS:
        if "trustedRoot" in found:
            found["trustedRoot"].fail("nothing of this trusted root is asked for", remedy="add `logEntries` or `timestamps`, or remove it")
        return KeyRequirement(find_key(found["key"], trust), field.place())
    anchor = trust.root(found.get("trustedRoot")).anchor
    return KeyRequirement(find_key(found["key"], trust), field.place(), demands, anchor)


def find_key(field: Field, trust: Trust) -> TrustedKey:
    """Return the key that a field names.

    Raises:
        MalformedPolicy: (PARSE) there is none of that name.
    """
    return _find_named(field, "key", trust.keys)


def find_authority(field: Field, trust: Trust) -> KeyRequirement | IdentityRequirement:
    """Return the authority that a field names.

    Raises:
        MalformedPolicy: (PARSE) there is none of that name.
    """
    return _find_named(field, "authority", trust.authorities)


def _find_named(field: Field, kind: str, known: Mapping[str, T]) -> T:
    name = field.text()
    if name not in known:
        _fail_unknown(field, kind, name, known)
    return known[name]


def _fail_unknown(field: Field | None, kind: str, name: str, known: Iterable[str]) -> None:
    names = tuple(known)
    block = {"key": "keys", "authority": "authorities", "trusted root": "trustedRoots"}.get(kind, "certificateAuthorities")
    expected = "one of " + ", ".join(names) if names else f"a name under `{block}`"
    if field is not None:
        field.fail(f"there is no {kind} `{name[:80]}`", expected=expected, got=name[:80], remedy=meant(name, names))


def parse_identity(field: Field, beside: Mapping[str, Field], trust: Trust, label: str = "") -> IdentityRequirement:
    """Parse an identity.

    Args:
        field: the identity itself.
        beside: the fields of the authority that it stands in; none where a rule holds it.
        trust: what can be named.
        label: the authority's name.

    Raises:
        SigkitError: as `load_policy`.
    """
    if "trustedRoot" in beside and "certificateAuthority" in beside:
        beside["certificateAuthority"].fail(
            "an identity is certified by either a `trustedRoot` or a `certificateAuthority`",
            got="both",
            remedy="whose logs count stands under `certificateAuthorities`",
        )
    if "certificateAuthority" in beside:
        root = _find_named(beside["certificateAuthority"], "certificate authority", trust.certificate_authorities)
    else:
        root = trust.root(beside.get("trustedRoot"))
    found = field.only("issuer", "issuerRegExp", "subject", "subjectRegExp", "subjectKind", "extensions")
    says_issuer = root.names_issuers or "issuer" in found or "issuerRegExp" in found
    issuer: IssuerMatch = _parse_text(field, found, "issuer") if says_issuer else AnyText()
    pattern = IdentityPattern(
        issuer,
        _parse_text(field, found, "subject"),
        _parse_extensions(found["extensions"]) if "extensions" in found else NOTHING,
        found["subjectKind"].choice(*KINDS) if "subjectKind" in found else "",
    )
    return IdentityRequirement(pattern, root.anchor, field.place(), _parse_demands(beside, root.defaults), label)


def _parse_text(field: Field, found: Mapping[str, Field], name: str) -> TextMatch:
    expression = f"{name}RegExp"
    if (name in found) == (expression in found):
        got = "both" if name in found else "neither"
        remedy = "who knew the signer must be said: two issuers can know two people by one name" if name == "issuer" else ""
        field.fail(f"an identity has either `{name}` or `{expression}`", got=got, remedy=remedy)
    return Exactly(found[name].text()) if name in found else _parse_expression(found[expression])


def _parse_expression(field: Field) -> Expression:
    text = field.text()
    if fault := find_fault(text):
        error = MalformedExpression(fault.problem, expected="an expression in the syntax of RE2", got=text[:200])
        raise field.mark_inside(error, fault.offset)
    return Expression(text)


def _parse_extensions(field: Field) -> Mapping[str, TextMatch]:
    found: dict[str, TextMatch] = {}
    for name, value in field.only(*_EXTENSIONS).items():
        if value.is_text():
            found[name] = Exactly(value.text())
        else:
            found[name] = _parse_expression(value.require(value.only("regExp"), "regExp"))
    if not found:
        field.fail("`extensions` is empty", expected="at least one, or no `extensions`")
    return found


def _parse_demands(found: Mapping[str, Field], defaults: Demands) -> Demands:
    witnessed_by, witnesses = parse_witnesses(found["witnesses"]) if "witnesses" in found else ((), 0)
    return Demands(
        log_entries=_parse_number(found, "logEntries", defaults.log_entries),
        log_inclusions=_parse_number(found, "logInclusions", defaults.log_inclusions),
        timestamps=_parse_number(found, "timestamps", defaults.timestamps),
        certificate_logs=_parse_number(found, "certificateLogs", defaults.certificate_logs),
        witnesses=witnesses,
        witnessed_by=witnessed_by,
    )


def _parse_number(found: Mapping[str, Field], name: str, default: int) -> int:
    if name not in found:
        return default
    text = found[name].text()
    if not _NUMBER.fullmatch(text) or int(text) > limits.LOG_ENTRIES:
        found[name].fail(f"`{name}` is out of range", expected=f"0 to {limits.LOG_ENTRIES}", got=text)
    return int(text)
