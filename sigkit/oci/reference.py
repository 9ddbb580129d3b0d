"""References as users type them, with one canonical name for each repository.

The grammar is the distribution project's (github.com/distribution/reference 0.6.0, regexp.go and normalize.go): docker.io where no registry
is named, `library/` where docker.io gets one component. It is narrower in some points, so that one repository has one name for policy to
judge and for signatures to hold: a registry's name is brought to lower case and an IPv6 address to its short form; a port has no leading
zeros, is at most 65535, and is left out where it is the one that is asked anyhow; every name of Docker Hub's registry stands for docker.io;
`App/x` is an upper-case repository, not a registry named `App` (the grammar's own FIXME says so).

Not handled here: two names of one host, such as its address and its DNS name. A rule for the one is no rule for the other.
"""

from __future__ import annotations

import re
from typing import Final

from sigkit.data import Data
from sigkit.digest import SIZES, Digest, parse_digest
from sigkit.errors import MalformedDigest, MalformedReference, Place

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
DEFAULT_TAG: Final = "latest"

PATH_CHARACTERS: Final = 255  # the distribution project's RepositoryNameTotalLengthMax
REGISTRY_CHARACTERS: Final = 261  # a DNS name has 253 at most, then colon and port

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[(?P<v6>[a-fA-F0-9:]+)\])(?::(?P<port>[0-9]+))?")
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+")
# Asked without TLS (RFC 6761 section 6.3 and the loopback addresses); all others with TLS, unless the operator says otherwise.
_LOOPBACK = re.compile(r"(?:.*\.)?localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")
_BARE_HEX = re.compile(r"[0-9a-f]{64}")


class Repository(Data):
    """A repository's canonical name: registry `docker.io` and path `library/busybox`."""

    registry: str
    path: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"


class Reference(Data):
    """What a user typed: a repository with a tag, a digest, or both. With a digest, the tag is shown and never looked up."""

    text: str
    repository: Repository
    tag: str | None
    digest: Digest | None

    def __str__(self) -> str:
        return self.text


def parse_reference(text: str, place: Place | None = None) -> Reference:
    """Parse `[registry/]repository[:tag][@digest]`; without tag and digest the tag is `latest`.

    Args:
        text: kept as typed for printing.
        place: where it was read; the default is an argument of the operator.

    Raises:
        MalformedReference: with the part that is wrong and, where it can be guessed, what was meant.

    Source: github.com/distribution/reference 0.6.0, normalize.go.
    """
    where = place or Place.operator(text)
    name, at, digest_text = text.partition("@")
    _check_form(text, name, where)
    written, path = _split_registry(name)
    registry = _canonical_registry(written, where)
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    path, colon, tag = path.partition(":")
    if colon and tag.partition(":")[0] in SIZES:
        meant = f"{name[: name.index(tag) - 1]}@{tag}"
        raise MalformedReference("a digest follows a colon", place=where, got=f":{tag}", remedy=f"did you mean {meant} ?")
    if path.lower() != path:
        meant = text.replace(path, path.lower(), 1)
        raise MalformedReference("the repository has upper-case letters", place=where, got=path, remedy=f"did you mean {meant} ?")
    repository = Repository(registry, check_path(path, where))
    if colon:
        check_tag(tag, where)
    digest = _parse_digest(digest_text, where) if at else None
    return Reference(text, repository, tag if colon else None if at else DEFAULT_TAG, digest)


def parse_repository(name: str, place: Place) -> Repository:
    """Parse a full name, `registry/path`, into its canonical form.

    Raises:
        MalformedReference: registry or path are not of the grammar.
    """
    registry, _, path = name.partition("/")
    return Repository(_canonical_registry(registry, place), check_path(path, place))


def check_path(path: str, place: Place) -> str:
    """Return `path` if it may be a repository's name within its registry.

    Raises:
        MalformedReference: it may not.
    """
    if not _PATH.fullmatch(path):
        raise MalformedReference(
            "malformed repository", place=place, expected="lower-case letters and digits, with . _ - inside and / between", got=path
        )
    if len(path) > PATH_CHARACTERS:
        raise MalformedReference("the repository's name is too long", place=place, expected=f"at most {PATH_CHARACTERS} characters")
    return path


def check_tag(tag: str, place: Place) -> str:
    """Return `tag` if it may name a manifest.

    Raises:
        MalformedReference: it may not.

    Source: OCI distribution-spec 1.1 "Pulling manifests".
    """
    if not _TAG.fullmatch(tag):
        raise MalformedReference(
            "malformed tag", place=place, expected="1 to 128 letters, digits and _ . - , not starting with . or -", got=tag[:160]
        )
    return tag


def _check_form(text: str, name: str, place: Place) -> None:
    if not name or name.startswith(":"):
        raise MalformedReference("the reference names no repository", place=place, expected="registry/repository:tag", got=text)
    if scheme := _SCHEME.match(text):
        raise MalformedReference("a reference has no scheme", place=place, got=scheme[0], remedy=f"did you mean {text[scheme.end() :]} ?")
    if _BARE_HEX.fullmatch(name):
        raise MalformedReference("64 hexadecimal digits name no repository", place=place, expected="repository@sha256:<64 hex>", got=name)


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return first, rest
    return DOCKER_HUB, name


def fold_registry(name: str) -> str:
    """Return the one name of a registry: without the port that is asked anyhow, and docker.io for its aliases.

    Args:
        name: `host` or `host:port`, in lower case. A host without a dot keeps its port, which is what makes it a registry.
    """
    host, _, port = name.rpartition(":")
    if port == ("80" if _LOOPBACK.fullmatch(host) else "443") and (host == "localhost" or host.endswith("]") or "." in host):
        name = host
    return DOCKER_HUB if name in _DOCKER_HUB_NAMES else name


def _canonical_registry(registry: str, place: Place) -> str:
    found = _REGISTRY.fullmatch(registry)
    if not found or len(registry) > REGISTRY_CHARACTERS:
        raise MalformedReference("malformed registry", place=place, expected="host, host:port or [IPv6]:port", got=registry)
    port = found["port"]
    if port is not None and (port.startswith("0") or int(port[:6]) > 65535):
        raise MalformedReference("malformed port", place=place, expected="1 to 65535, without leading zeros", got=port)
    host = found["host"].lower()
    if found["v6"] is not None:
        import ipaddress

        try:
            host = f"[{ipaddress.IPv6Address(found['v6']).compressed}]"
        except ValueError as err:
            raise MalformedReference("malformed IPv6 address", place=place, got=found["v6"]) from err
    folded = fold_registry(host if port is None else f"{host}:{port}")
    if port == "80" and folded.endswith(":80") and "." in host:
        # Where plain HTTP is allowed, the same registry as without the port; and with TLS nobody serves there.
        remedy = "leave it out; --allow-http-registry asks there"
        raise MalformedReference("port 80 is plain HTTP's own", place=place, got=registry, remedy=remedy)
    return folded


def _parse_digest(text: str, place: Place) -> Digest:
    try:
        return parse_digest(text, place)
    except MalformedDigest as err:
        remedy = ""
        algorithm, colon, encoded = text.partition(":")
        if colon and algorithm in SIZES and encoded.lower() != encoded:
            remedy = "write the hexadecimal digits in lower case"
        elif colon and algorithm in SIZES:
            remedy = f"{algorithm} has {2 * SIZES[algorithm]} hexadecimal digits, this has {len(encoded)}"
        raise MalformedReference("malformed digest", place=place, expected=err.expected, got=err.got, remedy=remedy) from err
