"""What was asked for, within what the rule grants: the less of both, or a refusal that names the edit which would allow it.

Nothing is silently taken away: who asks for a mount gets the mount or an error, never a container without it.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import TYPE_CHECKING, TypeVar, assert_never

from sigkit.data import Data
from sigkit.engine.admission import UNLIMITED, BindMount, Confinement, MountAccess
from sigkit.engine.admission import Network as EngineNetwork
from sigkit.errors import (
    CapabilityNotGranted,
    CommandNotGranted,
    EnvironmentNotGranted,
    MalformedOption,
    MountNotGranted,
    NetworkNotGranted,
    Place,
    ResourceNotGranted,
    UserNotGranted,
)
from sigkit.limits import RUNTIME_HOST_NAME_BYTES
from sigkit.policy.model import DEFAULT_CAPABILITIES, Access, Anything, Commands, Grant, ImageOwn, MountGrant, Network, Users
from sigkit.policy.scope import match_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.errors import PolicyError

_Number = TypeVar("_Number", int, float)
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class AskedMount(Data):
    """A part of the host and where it is to be seen, as asked for."""

    source: str
    target: str
    access: Access = Access.READ_WRITE


class Asked(Data):
    """What a user asks for when an image is to start. None and empty stand for what image and rule say."""

    command: tuple[str, ...] | None = None  # follows the entry point, and replaces the image's Cmd
    entrypoint: tuple[str, ...] | None = None  # replaces the image's
    environment: tuple[tuple[str, str], ...] = ()
    mounts: tuple[AskedMount, ...] = ()
    network: Network = Network.NONE
    add_capabilities: tuple[str, ...] = ()  # with CAP_
    drop_capabilities: tuple[str, ...] = ()  # with CAP_, or ALL
    user: str | None = None
    working_dir: str | None = None
    hostname: str | None = None
    root: Access = Access.READ_WRITE
    memory_bytes: int | None = None
    pids: int | None = None  # 0 and -1 ask for no limit, as podman has it
    cpus: float | None = None


def confine(asked: Asked, grant: Grant, rule: Place, image_argv: Callable[[], tuple[str, ...]]) -> Confinement:
    """Return the confinement: what was asked for, if the grant covers all of it.

    Args:
        asked: by the user.
        grant: of the rule that decided.
        rule: where it stands, for the edit that would allow more.
        image_argv: gives the command line that would run; called only if the grant lists commands and another one is asked for.

    Raises:
        MalformedOption: (PARSE) what is asked for cannot be had; the place is the option.
        PolicyError: something is asked for beyond the grant; the code says what.
    """
    _check_form(asked)
    _check_command(asked, grant, rule, image_argv)
    for name, _ in asked.environment:
        if not any(match_text(pattern, name) for pattern in grant.environment):
            raise _beyond(EnvironmentNotGranted, f"variable {name}", rule, f"environment: [{name}]", ", ".join(grant.environment))
    if asked.network is Network.HOST and grant.network is not Network.HOST:
        raise _beyond(NetworkNotGranted, "the host's network", rule, "network: host", grant.network.value)
    _check_user(asked.user, grant, rule)
    return Confinement(
        network=EngineNetwork(asked.network.value),
        capabilities=_capabilities(asked, grant, rule),
        mounts=tuple(_mount(mount, grant.mounts, rule) for mount in asked.mounts),
        read_only=Access.READ_ONLY in {asked.root, grant.root},
        memory_bytes=_least("memory", asked.memory_bytes, grant.memory_bytes, rule),
        pids=_pids(asked.pids, grant.pids, rule),
        cpus=_least("cpus", asked.cpus, grant.cpus, rule),
        user=asked.user,
        working_dir=asked.working_dir,
        hostname=asked.hostname,
    )


def _check_form(asked: Asked) -> None:
    # No rule grants host names: one must not carry lines into the container's hosts file.
    if asked.hostname is not None and not (_HOST_NAME.fullmatch(asked.hostname) and len(asked.hostname) <= RUNTIME_HOST_NAME_BYTES):
        expected = f"letters, digits, . _ and -, at most {RUNTIME_HOST_NAME_BYTES}"
        raise MalformedOption("malformed host name", place=Place.operator("--hostname"), expected=expected, got=asked.hostname)
    if asked.working_dir is not None and not asked.working_dir.startswith("/"):
        place = Place.operator("--workdir")
        raise MalformedOption(
            "the working directory is not absolute", place=place, expected="a path that starts with /", got=asked.working_dir
        )


def _check_command(asked: Asked, grant: Grant, rule: Place, image_argv: Callable[[], tuple[str, ...]]) -> None:
    # The directory is part of the command: `./tool` is another program in another one.
    if asked.command is None and asked.entrypoint is None and asked.working_dir is None:
        return
    match grant.command:
        case Anything():
            return
        case Commands(prefixes) if asked.working_dir is None:
            argv = image_argv()
            if any(argv[: len(prefix)] == prefix for prefix in prefixes):
                return
            allowed = " or ".join(" ".join(prefix) for prefix in prefixes)
            raise _beyond(CommandNotGranted, f"the command {' '.join(argv)}", rule, f"command: [[{', '.join(argv)}]]", allowed)
        case Commands() | ImageOwn():
            what = "another working directory" if asked.working_dir is not None else "another command than the image's own"
            argv = (asked.entrypoint or ()) + (asked.command or ())
            edit = f"command: [[{', '.join(argv)}]]" if argv and asked.working_dir is None else "command: any"
            raise _beyond(CommandNotGranted, what, rule, edit, "the image's own command")
        case _:
            assert_never(grant.command)


def _check_user(user: str | None, grant: Grant, rule: Place) -> None:
    match grant.user:
        case _ if user is None:
            return
        case Anything():
            return
        case Users(names) if user in names:
            return
        case Users(names):
            raise _beyond(UserNotGranted, f"user {user}", rule, f"user: ['{user}']", ", ".join(names))
        case ImageOwn():
            raise _beyond(UserNotGranted, f"user {user}", rule, f"user: ['{user}']", "the image's own user")
        case _:
            assert_never(grant.user)


def _capabilities(asked: Asked, grant: Grant, rule: Place) -> tuple[str, ...]:
    for name in asked.add_capabilities:
        if name not in grant.capabilities:
            edit = f"capabilities: [{name.removeprefix('CAP_')}]"
            raise _beyond(CapabilityNotGranted, f"capability {name}", rule, edit, " ".join(grant.capabilities))
    usual = () if "ALL" in asked.drop_capabilities else DEFAULT_CAPABILITIES
    wanted = (set(usual) - set(asked.drop_capabilities)) | set(asked.add_capabilities)
    return tuple(name for name in grant.capabilities if name in wanted)


def _mount(asked: AskedMount, grants: tuple[MountGrant, ...], rule: Place) -> BindMount:
    # What the host's links lead to is what would be mounted.
    source = os.path.realpath(asked.source)
    target = posixpath.normpath(f"/{asked.target.lstrip('/')}")  # POSIX lets `//x` be another path than `/x`
    covering = [grant for grant in grants if _below(source, os.path.realpath(grant.source)) and _below(target, grant.target)]
    if not any(asked.access is Access.READ_ONLY or grant.access is Access.READ_WRITE for grant in covering):
        edit = f"mounts: [{{from: {source}, to: {target}, access: {asked.access.value}}}]"
        granted = ", ".join(f"{grant.source} at {grant.target}, {grant.access.value}" for grant in grants)
        raise _beyond(MountNotGranted, f"the mount of {source} at {target}, {asked.access.value}", rule, edit, granted)
    # After the grant: whoever may not mount a path is not told whether it is there.
    if target == "/" or not os.path.exists(source):
        problem = "nothing can be mounted over the whole root" if target == "/" else "there is nothing at this path of the host"
        raise MalformedOption(problem, place=Place.operator("--volume"), got=f"{source} at {target}")
    return BindMount(source, target, MountAccess.READ_ONLY if asked.access is Access.READ_ONLY else MountAccess.READ_WRITE)


def _below(path: str, granted: str) -> bool:
    return granted in {"/", path} or path.startswith(f"{granted}/")


def _least(field: str, asked: _Number | None, cap: _Number | None, rule: Place) -> _Number | None:
    # Written so that NaN is refused. 0 and less mean "no limit" to some runtimes.
    if asked is not None and not 0 < asked <= (asked if cap is None else cap):
        raise _beyond(ResourceNotGranted, f"{field} {asked}", rule, f"{field}: {asked}", f"more than 0, at most {cap or 'any number'}")
    return cap if asked is None else asked


def _pids(asked: int | None, cap: int | None, rule: Place) -> int | None:
    return UNLIMITED if asked in {0, -1} and cap is None else _least("pids", asked, cap, rule)


def _beyond(error: type[PolicyError], what: str, rule: Place, edit: str, granted: str) -> PolicyError:
    place = Place(rule.source, rule.inside)
    remedy = f"leave it out, or write under `run:` of the rule at {place}: {edit}"
    return error(f"{what} is not granted", place=place, expected=granted or "none", got=what, remedy=remedy)
