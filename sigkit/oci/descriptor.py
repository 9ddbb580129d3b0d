"""Descriptors, which name content by media type, digest and size, and platforms.

Members that sigkit has no use for are ignored, as the specification asks. `urls` is one of them on purpose: content is fetched from
the repository that was asked for and from nowhere else (go-containerregistry#2293). `data` is another: bytes come from one place only.

Source: OCI image-spec 1.1, descriptor.md and image-index.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sigkit import limits
from sigkit.data import NOTHING, Data
from sigkit.digest import Digest, parse_digest
from sigkit.errors import MalformedReference, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.strict import Cursor, Json

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_PLATFORM_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ARM64_VARIANT = re.compile(r"v?([89])(?:\.([0-9]))?")
_ARCHITECTURES: Final = {
    "i386": "386",
    "i686": "386",
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
}
_NO_MATCH: Final = -1


class Platform(Data):
    """An operating system and a processor, by Go's names: `linux/amd64`, `linux/arm/v7`. No variant is the least one."""

    os: str
    architecture: str
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def fit(self, offered: Platform) -> int:
        """Say how well what is built for `offered` runs on this platform: the larger the better, negative when it does not run."""
        if (self.os, self.architecture) != (offered.os, offered.architecture):
            return _NO_MATCH
        match self.architecture:
            case "amd64":
                mine, theirs = _level(self.variant, "v1"), _level(offered.variant, "v1")
            case "arm":
                mine, theirs = _level(self.variant, "v7"), _level(offered.variant, "v7")
            case "arm64":
                return _arm64_fit(self.variant, offered.variant)
            case _:
                return 0 if self.variant == offered.variant else _NO_MATCH
        if mine is None or theirs is None:
            return 0 if self.variant == offered.variant else _NO_MATCH
        return theirs if theirs <= mine else _NO_MATCH


class Descriptor(Data):
    """The name of some content: what it is, its digest and its size in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = NOTHING
    artifact_type: str | None = None
    platform: Platform | None = None

    def encode(self) -> dict[str, Json]:
        """Return the members of its JSON object, in the specification's order."""
        members: dict[str, Json] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.platform:
            platform: dict[str, Json] = {"architecture": self.platform.architecture, "os": self.platform.os}
            if self.platform.variant:
                platform["variant"] = self.platform.variant
            members["platform"] = platform
        if self.annotations:
            members["annotations"] = dict(self.annotations)
        if self.artifact_type:
            members["artifactType"] = self.artifact_type
        return members


_MEMBERS = ("mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform")


def parse_descriptor(cursor: Cursor) -> Descriptor:
    """Read a descriptor.

    Raises:
        WrongShape: (PARSE) a member is missing or of another type.
        MalformedDigest: (DIGEST) the digest's algorithm is not accepted, or it is malformed.
    """
    check_spelling(cursor, _MEMBERS)
    digest = cursor.member("digest")
    artifact_type = cursor.find("artifactType")
    platform = cursor.find("platform")
    annotations = cursor.find("annotations")
    return Descriptor(
        media_type=parse_media_type(cursor.member("mediaType")),
        digest=parse_digest(digest.text(), digest.at()),
        size=cursor.member("size").integer(),
        annotations=annotations.texts(limits.ANNOTATIONS) if annotations else {},
        artifact_type=parse_media_type(artifact_type) if artifact_type and artifact_type.value != "" else None,
        platform=parse_platform_object(platform) if platform else None,
    )


def parse_media_type(cursor: Cursor) -> str:
    """Read a media type: `type/subtype`, without parameters (RFC 6838 section 4.2).

    Raises:
        WrongShape: it is something else.
    """
    text = cursor.text()
    if not _MEDIA_TYPE.fullmatch(text):
        cursor.fail("malformed media type", expected="type/subtype (RFC 6838)")
    return text


def check_spelling(cursor: Cursor, known: tuple[str, ...]) -> None:
    """Refuse a member that differs from a known one in case only.

    Readers written in Go match names without regard to case, and the last one wins: `Layers` beside `layers` is another image to them.

    Raises:
        WrongShape: there is one.
    """
    folded = {name.casefold() for name in known}
    for name in cursor.object():
        if name not in known and name.casefold() in folded:
            cursor.fail(
                f"member {name[:80]!r} differs from a known one in case only", expected="the specification's spelling", got=name[:80]
            )


def parse_platform(text: str, place: Place | None = None) -> Platform:
    """Parse `os/architecture[/variant]` as given with --platform; `x86_64` and `aarch64` are brought to Go's names.

    Raises:
        MalformedReference: (REF) it is something else.
    """
    parts = text.split("/")
    if len(parts) not in {2, 3} or not all(_PLATFORM_PART.fullmatch(part) for part in parts):
        raise MalformedReference(
            "malformed platform",
            place=place or Place.operator(text[:200]),
            expected="os/architecture or os/architecture/variant",
            got=text[:200],
        )
    return _canonical(parts[0], parts[1], parts[2] if len(parts) == 3 else None)


def host_platform() -> Platform:
    """Return the platform of the machine that this process runs on."""
    import os

    machine = os.uname().machine
    # An arm64 machine may run a 32-bit interpreter; what the kernel names is what containers run on.
    return _canonical("linux", machine, None)


def parse_platform_object(cursor: Cursor) -> Platform:
    """Read the members `os`, `architecture` and `variant` of a descriptor's platform, or of an image configuration.

    Raises:
        WrongShape: one is missing or malformed.
    """
    variant = cursor.find("variant")
    return _canonical(
        _platform_part(cursor.member("os")),
        _platform_part(cursor.member("architecture")),
        _platform_part(variant) if variant and variant.value != "" else None,
    )


def _platform_part(cursor: Cursor) -> str:
    text = cursor.text()
    if not _PLATFORM_PART.fullmatch(text):
        cursor.fail("malformed platform", expected="1 to 64 letters, digits and _ . -")
    return text


def _canonical(system: str, architecture: str, variant: str | None) -> Platform:
    os_name, machine = system.lower(), architecture.lower()
    if machine in {"armv5l", "armv5tel", "armel", "armv6l"}:
        machine, variant = "arm", variant or ("v6" if machine in {"armel", "armv6l"} else "v5")
    elif machine in {"armv7l", "armhf"}:
        machine, variant = "arm", variant or "v7"
    else:
        machine = _ARCHITECTURES.get(machine, machine)
    return Platform(os_name, machine, variant.lower() if variant else None)


def _level(variant: str | None, default: str) -> int | None:
    text = (variant or default).removeprefix("v")
    return int(text) if text.isascii() and text.isdecimal() and len(text) == 1 else None


def _arm64_fit(mine: str | None, offered: str | None) -> int:
    have, want = _ARM64_VARIANT.fullmatch(mine or "v8"), _ARM64_VARIANT.fullmatch(offered or "v8")
    if not have or not want:
        return 0 if mine == offered else _NO_MATCH
    have_minor, want_minor = int(have[2] or 0), int(want[2] or 0)
    # Armv9.n holds all of Armv8.(n+5) (Arm Architecture Reference Manual, A2.1); the other way round there is nothing.
    runs = want_minor <= have_minor if have[1] == want[1] else have[1] == "9" and want_minor <= have_minor + 5
    return 100 * int(want[1]) + want_minor if runs else _NO_MATCH
