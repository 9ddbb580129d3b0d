"""The image configuration: what an image wants to be run as, and the layers that it is made of.

Source: OCI image-spec 1.1, config.md. Docker's form has the same members; its further ones are ignored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.data import Data
from sigkit.digest import Digest, parse_digest
from sigkit.errors import NoSuchPlatform, Place
from sigkit.oci.descriptor import check_spelling, parse_platform_object
from sigkit.strict import encode_json, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sigkit.oci.descriptor import Platform
    from sigkit.strict import Cursor, Json

_TOP_MEMBERS = ("architecture", "os", "variant", "config", "rootfs")
_PROCESS_MEMBERS = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal")
_SIGNAL = re.compile(r"[A-Za-z0-9+]{1,16}")


class ImageConfig(Data):
    """What an image wants: platform, user, environment, command, directory. Empty means that the image does not say."""

    raw: bytes
    platform: Platform
    user: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    working_dir: str
    volumes: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    stop_signal: str | None
    labels: Mapping[str, str]
    diff_ids: tuple[Digest, ...]

    def argv(self, entrypoint: tuple[str, ...] | None, command: tuple[str, ...] | None) -> tuple[str, ...]:
        """Put the command line together: what a gate compares and what an engine starts must be the same.

        Args:
            entrypoint: replaces the image's, and drops its Cmd; None is the image's own.
            command: follows the entry point in the place of Cmd; None is the image's own.
        """
        usual = self.cmd if entrypoint is None else ()
        return (self.entrypoint if entrypoint is None else entrypoint) + (usual if command is None else command)


def parse_image_config(raw: bytes, place: Place) -> ImageConfig:
    """Read an image configuration, whose bytes the caller has checked against its digest.

    Raises:
        TooLarge, TooMany, TooDeep: (LIMIT).
        MalformedJson, WrongShape: (PARSE); a text that no process can be given (it holds a NUL) is one.
        MalformedDigest: (DIGEST) a diff_id.
    """
    top = parse_json(raw, most_bytes=limits.CONFIG_BYTES, place=place)
    check_spelling(top, _TOP_MEMBERS)
    process = top.find("config")
    if process is not None:
        check_spelling(process, _PROCESS_MEMBERS)
    labels = process.find("Labels") if process else None
    return ImageConfig(
        raw=raw,
        platform=parse_platform_object(top),
        user=_text(process, "User"),
        env=_env(process),
        entrypoint=_texts(process, "Entrypoint"),
        cmd=_texts(process, "Cmd"),
        working_dir=_working_dir(process),
        volumes=_names(process, "Volumes"),
        exposed_ports=_names(process, "ExposedPorts"),
        stop_signal=_stop_signal(process),
        labels=labels.texts(limits.CONFIG_ITEMS) if labels else {},
        diff_ids=_diff_ids(top.member("rootfs")),
    )


def encode_image_config(
    platform: Platform,
    diff_ids: Sequence[Digest],
    *,
    entrypoint: Sequence[str] = (),
    cmd: Sequence[str] = (),
    env: Sequence[str] = (),
    working_dir: str = "",
    user: str = "",
    labels: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of an image configuration; the same arguments give the same bytes, for there is no date in it."""
    wanted: dict[str, Json] = {
        "User": user,
        "Env": list(env),
        "Entrypoint": list(entrypoint),
        "Cmd": list(cmd),
        "WorkingDir": working_dir,
        "Labels": dict(labels or {}),
    }
    members: dict[str, Json] = {"architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        members["variant"] = platform.variant
    members["config"] = {name: value for name, value in wanted.items() if value}
    members["rootfs"] = {"type": "layers", "diff_ids": [str(digest) for digest in diff_ids]}
    return encode_json(members)


def check_platform(config: ImageConfig, platform: Platform, place: Place) -> None:
    """Refuse an image that was built for something that `platform` does not run.

    An index names platforms, but only the configuration is part of the image: a manifest without index has no other word on it.

    Raises:
        NoSuchPlatform: (REF).
    """
    if platform.fit(config.platform) < 0:
        raise NoSuchPlatform(f"the image is built for {config.platform}", place=place, expected=str(platform), got=str(config.platform))


def _process_text(cursor: Cursor) -> str:
    text = cursor.text()
    if "\0" in text:
        cursor.fail("the text holds a NUL, so no process can be given it", expected="a text without NUL")
    return text


def _text(process: Cursor | None, name: str) -> str:
    found = process.find(name) if process else None
    return _process_text(found) if found else ""


def _texts(process: Cursor | None, name: str) -> tuple[str, ...]:
    found = process.find(name) if process else None
    return tuple(_process_text(item) for item in found.items(limits.CONFIG_ITEMS)) if found else ()


def _env(process: Cursor | None) -> tuple[str, ...]:
    found = process.find("Env") if process else None
    if not found:
        return ()
    items = found.items(limits.CONFIG_ITEMS)
    for item in items:
        if item.text().find("=") < 1:
            item.fail("malformed variable", expected="NAME=value")
    return tuple(_process_text(item) for item in items)


def _names(process: Cursor | None, name: str) -> tuple[str, ...]:
    """Read a set, which Go writes as an object with empty values."""
    found = process.find(name) if process else None
    if not found:
        return ()
    names = tuple(found.object())
    if len(names) > limits.CONFIG_ITEMS or any("\0" in item for item in names):
        found.fail("not a set of texts", expected=f"at most {limits.CONFIG_ITEMS} members, without NUL")
    return names


def _working_dir(process: Cursor | None) -> str:
    text = _text(process, "WorkingDir")
    if text and process and not text.startswith("/"):
        process.member("WorkingDir").fail("the working directory is not absolute", expected="a path that starts with /")
    return text


def _stop_signal(process: Cursor | None) -> str | None:
    text = _text(process, "StopSignal")
    if text and process and not _SIGNAL.fullmatch(text):
        process.member("StopSignal").fail("malformed signal", expected="a name such as SIGTERM, or a number")
    return text or None


def _diff_ids(rootfs: Cursor) -> tuple[Digest, ...]:
    kind = rootfs.member("type")
    if kind.text() != "layers":
        kind.fail("unknown type of root file system", expected="'layers'")
    found = rootfs.find("diff_ids")
    items = found.items(limits.MANIFEST_LAYERS) if found else ()
    return tuple(parse_digest(item.text(), item.at()) for item in items)
