"""Credentials as docker and podman keep them: `auth.json`, `config.json`, credential helpers.

Files are asked in podman's order, then docker's; the first that knows the repository decides. Inside a file a helper for the
registry comes first, then the file's general helper, then the longest path that the file names. A helper that fails is an error,
never "anonymous": private evidence that is hidden from us must not look like evidence that does not exist (CVE-2025-27403).

Source: containers-auth.json(5); docker/cli config.json; docker-credential-helpers README "Development".
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from sigkit import durable, strict
from sigkit.data import Data
from sigkit.errors import CredentialsUnusable, LimitError, MalformedReference, ParseError, Place
from sigkit.oci.reference import DOCKER_HUB, fold_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.oci.reference import Repository
    from sigkit.strict import Cursor

CONFIG_BYTES: Final = 1 << 20
HELPER_S: Final = 30.0  # some ask a keyring, some a cloud's metadata service
HELPER_ANSWER_BYTES: Final = 64 << 10  # tokens of clouds reach 4 KiB

_NOT_FOUND: Final = "credentials not found in native keychain"
_IDENTITY_USER: Final = "<token>"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SERVER = re.compile(r"[A-Za-z0-9._\[\]:-]{1,261}|https://index\.docker\.io/v1/")
_DOCKER_HUB_SERVER: Final = "https://index.docker.io/v1/"


class UserPassword(Data):
    """A user name and a password. Never printed."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "UserPassword(…)"


class IdentityToken(Data):
    """An OAuth2 refresh token, which is exchanged at the token server. Never printed."""

    user: str
    token: str

    def __repr__(self) -> str:
        return "IdentityToken(…)"


Credential = UserPassword | IdentityToken


class FoundCredential(Data):
    """A credential and where it came from: the file, and the key or helper in it."""

    credential: Credential
    place: Place


def find_credential(repository: Repository, auth_files: tuple[str, ...] = ()) -> FoundCredential | None:
    """Return the credential for a repository, or None when no file knows it.

    Args:
        repository: what will be asked for; its path counts, because a file may have one account a team.
        auth_files: files that the user named, which must exist; when there are none, the usual places, which need not.

    Raises:
        FileUnreadable, MalformedJson, WrongShape: a file cannot be understood.
        CredentialsUnusable: (NET) a helper is absent or failed.
        MalformedReference: (REF) the registry's name cannot be handed to a helper.
    """
    for path in auth_files or tuple(usual_files()):
        if auth_files or os.path.lexists(path):
            found = _find_in_file(path, repository)
            if found is not None:
                return found
    return None


def usual_files() -> Iterator[str]:
    """Give the files where podman, then docker, keep credentials; none of them need exist."""
    environment = os.environ
    home = environment.get("HOME", "")
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield named
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield os.path.join(runtime, "containers", "auth.json")
    if config := environment.get("XDG_CONFIG_HOME") or (home and os.path.join(home, ".config")):
        yield os.path.join(config, "containers", "auth.json")
    if docker := environment.get("DOCKER_CONFIG") or (home and os.path.join(home, ".docker")):
        yield os.path.join(docker, "config.json")


def check_file(path: str) -> None:
    """Refuse a file of credentials that cannot be read, before one is needed.

    Raises:
        FileUnreadable, TooLarge, MalformedJson: it cannot; the place is the operator's.
    """
    _read(path)


def _read(path: str) -> Cursor:
    place = Place.operator(path)
    return strict.parse_json(durable.read(path, most_bytes=CONFIG_BYTES, place=place), most_bytes=CONFIG_BYTES, place=place)


def _find_in_file(path: str, repository: Repository) -> FoundCredential | None:
    top = _read(path)
    helpers = top.find("credHelpers")
    if helpers:
        for key in helpers.object():
            if _normalised(key) == repository.registry:
                return _ask_helper(helpers.member(key), repository.registry)
    store = top.find("credsStore")
    if store and store.value and (found := _ask_helper(store, repository.registry)):
        return found
    auths = top.find("auths")
    return _find_in_auths(auths, repository) if auths else None


def _find_in_auths(auths: Cursor, repository: Repository) -> FoundCredential | None:
    by_name = {_normalised(key): auths.member(key) for key, value in auths.object().items() if value}
    name = str(repository)
    while name:
        if name in by_name and (credential := _parse_entry(by_name[name])):
            return FoundCredential(credential, by_name[name].at())
        name = name.rpartition("/")[0]
    return None


def _normalised(key: str) -> str:
    """Bring a key to `host[:port][/path]`: what follows the host in a URL is an API's path, without a scheme it is a namespace."""
    stripped = key.removeprefix("https://").removeprefix("http://")
    host, _, path = stripped.partition("/")
    host = fold_registry(host.lower())
    path = path.strip("/")
    if stripped != key or path in {"v1", "v2"}:
        path = ""
    return f"{host}/{path}" if path else host


def _parse_entry(entry: Cursor) -> Credential | None:
    user = password = ""
    auth = entry.find("auth")
    if auth and auth.value:
        # docker pads the decoded text with NUL bytes in old files.
        user, colon, password = strict.decode_utf8(auth.base64(), auth.at()).rstrip("\0").partition(":")
        if not colon:
            auth.fail("no user and password in it", expected="base64 of user:password", got="something else")
    else:
        user, password = _text(entry, "username"), _text(entry, "password")
    token = _text(entry, "identitytoken")
    if token:
        return IdentityToken(user, token)
    return UserPassword(user, password) if user or password else None


def _text(entry: Cursor, name: str) -> str:
    found = entry.find(name)
    return found.text() if found else ""


def _ask_helper(name: Cursor, registry: str) -> FoundCredential | None:
    """Run `docker-credential-NAME get`; None when it says that it has nothing for this server."""
    import subprocess

    helper = name.text()
    if not _HELPER_NAME.fullmatch(helper):
        name.fail("not the name of a credential helper", expected="letters, digits and . _ -")
    server = _DOCKER_HUB_SERVER if registry == DOCKER_HUB else registry
    # The protocol has no quoting: a line break would start another field (CVE-2020-5260).
    if not _SERVER.fullmatch(server):
        raise MalformedReference("the registry's name cannot be given to a credential helper", place=name.at(), got=registry)
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, "get"], input=server.encode(), capture_output=True, timeout=HELPER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise CredentialsUnusable(f"{program} cannot be run: {err}", place=Place(program), remedy=_remedy(program, server)) from err
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
        if _NOT_FOUND in said:
            return None
        # What it printed may hold a secret, so it is not repeated.
        raise CredentialsUnusable(f"{program} ended with status {done.returncode}", place=Place(program), remedy=_remedy(program, server))
    try:
        credential = _parse_helper_answer(done.stdout, program, server)
    except (ParseError, LimitError) as err:
        raise CredentialsUnusable(f"the answer of {program} is malformed", place=err.place, remedy=_remedy(program, server)) from err
    return FoundCredential(credential, name.at()) if credential else None


def _parse_helper_answer(answer: bytes, program: str, server: str) -> Credential | None:
    place = Place(program)
    top = strict.parse_json(answer, most_bytes=HELPER_ANSWER_BYTES, place=place)
    user, secret = top.member("Username").text(), top.member("Secret").text()
    answered = _text(top, "ServerURL")
    if answered and _normalised(answered) != _normalised(server):
        raise CredentialsUnusable(
            f"{program} answered for another server", place=place, expected=server, got=answered, remedy=_remedy(program, server)
        )
    if user == _IDENTITY_USER:
        return IdentityToken(user, secret)
    return UserPassword(user, secret) if user or secret else None


def _remedy(program: str, server: str) -> str:
    return f"echo {server} | {program} get"
