"""The `run` block of a rule: what an image may be granted. Absent fields grant nothing."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from sigkit.policy.document import meant
from sigkit.policy.model import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    Access,
    Anything,
    Commands,
    Grant,
    ImageOwn,
    MountGrant,
    Network,
    Users,
)

if TYPE_CHECKING:
    from sigkit.policy.document import Field

_SHORT: Final = tuple(name.removeprefix("CAP_") for name in CAPABILITIES)

_VARIABLE = re.compile(r"[A-Za-z_*][A-Za-z0-9_*]{0,255}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")
_SIZE = re.compile(r"([1-9][0-9]{0,15})(KiB|MiB|GiB)?")
_UNITS: Final = {None: 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_COUNT = re.compile(r"[1-9][0-9]{0,6}")
_CPUS = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,2})?")
_LEAST_MEMORY_BYTES: Final = 4 * 2**20  # below, no process starts
_MOST_PIDS: Final = 2**22  # the kernel's PID_MAX_LIMIT


def parse_grant(field: Field) -> Grant:
    """Parse a `run` block.

    Raises:
        MalformedPolicy: (PARSE) with place and excerpt.
    """
    found = field.only("command", "environment", "mounts", "network", "capabilities", "user", "readOnly", "memory", "pids", "cpus")
    return Grant(
        command=_parse_command(found["command"]) if "command" in found else ImageOwn(),
        environment=_parse_environment(found["environment"]) if "environment" in found else (),
        mounts=tuple(_parse_mount(item) for item in found["mounts"].items()) if "mounts" in found else (),
        network=Network(found["network"].choice(*(network.value for network in Network))) if "network" in found else Network.NONE,
        capabilities=_parse_capabilities(found["capabilities"]) if "capabilities" in found else DEFAULT_CAPABILITIES,
        user=_parse_user(found["user"]) if "user" in found else ImageOwn(),
        root=_parse_read_only(found["readOnly"]) if "readOnly" in found else Access.READ_WRITE,
        memory_bytes=_parse_memory(found["memory"]) if "memory" in found else None,
        pids=_parse_pids(found["pids"]) if "pids" in found else None,
        cpus=_parse_cpus(found["cpus"]) if "cpus" in found else None,
    )


def _parse_command(field: Field) -> ImageOwn | Anything | Commands:
    if field.is_text():
        return ImageOwn() if field.choice("image", "any") == "image" else Anything()
    prefixes = []
    for item in field.items():
        if item.is_text():
            item.fail("each allowed command is a list of its first arguments", got=item.text(), remedy=f"write [{item.text()}]")
        prefixes.append(tuple(argument.text() for argument in item.items()))
    return Commands(tuple(prefixes))


def _parse_environment(field: Field) -> tuple[str, ...]:
    names = tuple(item.text() for item in field.items())
    for item, name in zip(field.items(), names, strict=True):
        if not _VARIABLE.fullmatch(name):
            item.fail("malformed name of a variable", expected="letters, digits, _ and *; values are not compared", got=name)
    return names


def _parse_mount(field: Field) -> MountGrant:
    found = field.only("from", "to", "access")
    source = _parse_path(field.require(found, "from"))
    target = _parse_path(found["to"]) if "to" in found else source
    access = Access(found["access"].choice(*(access.value for access in Access))) if "access" in found else Access.READ_ONLY
    return MountGrant(source, target, access)


def _parse_path(field: Field) -> str:
    text = field.text()
    if not text.startswith("/") or "\0" in text or posixpath.normpath(text) != (text.rstrip("/") or "/"):
        field.fail("not a plain absolute path", expected="/a/b, without . and ..", got=text)
    return text.rstrip("/") or "/"


def _parse_capabilities(field: Field) -> tuple[str, ...]:
    if field.is_text():
        return DEFAULT_CAPABILITIES if field.choice("default", "none") == "default" else ()
    granted: dict[str, None] = {}
    for item in field.items():
        name = item.text().removeprefix("CAP_")
        if f"CAP_{name}" not in CAPABILITIES:
            item.fail("no such capability", expected="a name as NET_BIND_SERVICE", got=name, remedy=meant(name.upper(), _SHORT))
        granted[f"CAP_{name}"] = None
    return tuple(granted)


def _parse_user(field: Field) -> ImageOwn | Anything | Users:
    if field.is_text():
        return ImageOwn() if field.choice("image", "any") == "image" else Anything()
    for item in field.items():
        if not _USER.fullmatch(item.text()):
            item.fail("malformed user", expected="user or user:group, names or numbers", got=item.text())
    return Users(tuple(item.text() for item in field.items()))


def _parse_read_only(field: Field) -> Access:
    return Access.READ_ONLY if field.choice("true", "false") == "true" else Access.READ_WRITE


def _parse_memory(field: Field) -> int:
    found = _SIZE.fullmatch(field.text())
    size_bytes = int(found[1]) * _UNITS[found[2]] if found else 0
    if not _LEAST_MEMORY_BYTES <= size_bytes < 2**63:
        field.fail("not a size of memory", expected="4MiB or more, as 512MiB, 2GiB or bytes", got=field.text())
    return size_bytes


def _parse_pids(field: Field) -> int:
    text = field.text()
    if not _COUNT.fullmatch(text) or int(text) > _MOST_PIDS:
        field.fail("not a number of processes", expected=f"1 to {_MOST_PIDS}", got=text)
    return int(text)


def _parse_cpus(field: Field) -> float:
    text = field.text()
    if not _CPUS.fullmatch(text) or not float(text):
        field.fail("not a number of processors", expected="0.01 to 9999.99", got=text)
    return float(text)
