"""Identity tokens that the surroundings give: CI systems, clouds, clusters.

The first that is recognised is asked, and its failure is the answer: a job that lacks a permission must not sign as something else. So is
a variable that names a token or an account and is empty, as one made of another variable that is not set. The
package `id` knows five of these; its requests follow redirects with the job's credential, have no limit and no address rule, so the few
lines stand here over `net`.

Not spoken: the SPIFFE Workload API, which is gRPC over a socket; spiffe-helper writes its token to a file.

Source: the platforms' documentation, named at each.
"""

from __future__ import annotations

import os
import selectors
import stat
import subprocess
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from sigkit import durable, limits, strict
from sigkit.errors import Place, SigkitError, TokenNotGranted, TooLarge
from sigkit.net.hop import unsendable
from sigkit.net.session import NetOptions
from sigkit.signing.client import PATIENCE_S, SHOWN_CHARACTERS, Ask, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sigkit.signing.client import Answer, Watcher

KUBERNETES_FILE: Final = "/var/run/sigstore/cosign/oidc-token"  # where cosign looks for a projected token
PRODUCT_FILE: Final = "/sys/class/dmi/id/product_name"
SPIFFE_SOCKET: Final = "/tmp/spire-agent/public/api.sock"  # noqa: S108 # SPIRE's own default
SPIFFE_VARIABLE: Final = "SIGKIT_SPIFFE_TOKEN_FILE"
PROGRAM_S: Final = 60  # an agent asks its server in between
PASSWORDS: Final = frozenset({"SIGKIT_PASSWORD", "COSIGN_PASSWORD"})  # of keys: nobody else's business
_METADATA_HOST: Final = "metadata.google.internal"
_METADATA_ADDRESS: Final = "169.254.169.254"
_GOOGLE: Final = frozenset({"Google", "Google Compute Engine"})


class Ambient(NamedTuple):
    """A token, and what gave it."""

    token: str
    source: str


class Surroundings(NamedTuple):
    """What is looked at: the environment, files, and a way to run an agent's program."""

    environment: Mapping[str, str] = os.environ
    kubernetes_file: str = KUBERNETES_FILE
    product_file: str = PRODUCT_FILE
    spiffe_socket: str = SPIFFE_SOCKET
    metadata: str = f"http://{_METADATA_HOST}"
    credentials: str = "https://iamcredentials.googleapis.com"


class Manner(NamedTuple):
    """How services are asked: who hears of waits, and for how long each is waited."""

    watcher: Watcher
    patience_s: float = PATIENCE_S


def ambient_token(audience: str, manner: Manner, around: Surroundings = Surroundings()) -> Ambient | None:  # noqa: B008 # immutable
    """Return the token that the surroundings give, or None where nothing is recognised.

    Raises:
        TokenNotGranted: (IDENT) something is recognised and gives none; the place is the operator's.
        SigkitError: it cannot be reached.
    """
    for find in (_github, _google, _buildkite, _gitlab, _circleci, _kubernetes, _spiffe):
        found = find(audience, manner, around)
        if found is not None:
            return found
    return None


def _github(audience: str, manner: Manner, around: Surroundings) -> Ambient | None:
    """GitHub Actions. Source: docs.github.com, "OpenID Connect reference"."""
    if not around.environment.get("GITHUB_ACTIONS"):
        return None
    url, credential = (around.environment.get(f"ACTIONS_ID_TOKEN_REQUEST_{name}") for name in ("URL", "TOKEN"))
    if not url or not credential:
        raise _refused("GitHub Actions", "the job lacks permission to request a token", "add `permissions: id-token: write` to the job")
    for name, value in (("URL", url), ("TOKEN", credential)):
        if what := unsendable(value):
            variable = f"ACTIONS_ID_TOKEN_REQUEST_{name}"
            raise _refused(
                "GitHub Actions",
                f"{variable} cannot be sent",
                "leave it as GitHub sets it, with nothing around it",
                got=f"{what} in {variable}",
            )
    ask = Ask("GET", _with_query(url, audience=audience), limits.ISSUER_ANSWER_BYTES, authorization=f"Bearer {credential}")
    return Ambient(_ask(manner, NetOptions(), ask, "GitHub Actions", lambda answer: answer.secret("value")), "GitHub Actions")


def _google(audience: str, manner: Manner, around: Surroundings) -> Ambient | None:
    """Google Cloud. Source: cloud.google.com, "Get an ID token" from the metadata server, and `generateIdToken`."""
    account = _named(around, "GOOGLE_SERVICE_ACCOUNT_NAME", "Google Cloud")
    if not account and _first_line(around.product_file) not in _GOOGLE:
        return None
    # The one address that the rule of connections never allows, here named by this file and by nobody outside.
    options = NetOptions(frozenset({_METADATA_HOST}), own_addresses=frozenset({_METADATA_ADDRESS}))
    base = f"{around.metadata}/computeMetadata/v1/instance/service-accounts/default"
    flavour = (("Metadata-Flavor", "Google"),)
    if not account:
        ask = Ask(
            "GET", _with_query(f"{base}/identity", audience=audience, format="full"), limits.TOKEN_BYTES, accept="*/*", headers=flavour
        )
        return Ambient(_ask(manner, options, ask, "Google Cloud", _token_of), "Google Cloud")
    scope = "https://www.googleapis.com/auth/cloud-platform"
    ask = Ask("GET", _with_query(f"{base}/token", scopes=scope), limits.ISSUER_ANSWER_BYTES, headers=flavour)
    access = _ask(manner, options, ask, "Google Cloud", lambda answer: answer.secret("access_token"))
    ask = Ask(
        "POST",
        f"{around.credentials}/v1/projects/-/serviceAccounts/{quote(account, safe='@')}:generateIdToken",
        limits.ISSUER_ANSWER_BYTES,
        body=strict.encode_json({"audience": audience, "includeEmail": True}),
        authorization=f"Bearer {access}",
    )
    token = _ask(manner, NetOptions(), ask, "Google Cloud", lambda answer: answer.secret("token"))
    return Ambient(token, f"Google Cloud ({account})")


def _buildkite(audience: str, manner: Manner, around: Surroundings) -> Ambient | None:
    """Buildkite. Source: buildkite.com/docs/agent/v3/cli-oidc."""
    del manner
    if not around.environment.get("BUILDKITE"):
        return None
    return Ambient(_run(("buildkite-agent", "oidc", "request-token", "--audience", audience), around, "Buildkite"), "Buildkite")


def _gitlab(audience: str, manner: Manner, around: Surroundings) -> Ambient | None:
    """GitLab. Source: docs.gitlab.com, "OpenID Connect (OIDC) Authentication Using ID Tokens"."""
    del manner
    if not around.environment.get("GITLAB_CI"):
        return None
    variable = gitlab_variable(audience)
    token = around.environment.get(variable)
    if not token:
        raise _refused(
            "GitLab",
            f"the job has no variable {variable}",
            f"add `id_tokens: {{{variable}: {{aud: {audience}}}}}` to the job",
            got="not set",
        )
    return Ambient(token, "GitLab")


def gitlab_variable(audience: str) -> str:
    """Return the variable in which a job of GitLab has its token for an audience, by the convention of sigstore's clients."""
    name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in audience.upper())
    return f"{'_' if name[:1].isdigit() else name[:1]}{name[1:]}_ID_TOKEN"


def _circleci(audience: str, manner: Manner, around: Surroundings) -> Ambient | None:
    """CircleCI. Source: circleci.com/docs, "Use OpenID Connect tokens with custom claims"."""
    del manner
    if not around.environment.get("CIRCLECI"):
        return None
    claims = strict.encode_json({"aud": audience}).decode("ascii")
    return Ambient(_run(("circleci", "run", "oidc", "get", "--claims", claims, "--root-issuer"), around, "CircleCI"), "CircleCI")


def _kubernetes(audience: str, manner: Manner, around: Surroundings) -> Ambient | None:
    """A projected service account token. Source: kubernetes.io, "Service Account Token Volume Projection"."""
    del audience, manner
    if not os.path.lexists(around.kubernetes_file):
        return None
    return Ambient(_read(around.kubernetes_file), "Kubernetes")


def _spiffe(audience: str, manner: Manner, around: Surroundings) -> Ambient | None:
    """A JWT-SVID in a file. Source: github.com/spiffe/spiffe-helper, `jwt_svids`."""
    del manner
    path = _named(around, SPIFFE_VARIABLE, "SPIFFE")
    if path:
        return Ambient(_read(path), "SPIFFE")
    if around.environment.get("SPIFFE_ENDPOINT_SOCKET") or _is_served(around.spiffe_socket):
        raise _refused(
            "SPIFFE",
            "there is a Workload API here, which sigkit does not speak",
            f"let spiffe-helper write a token for the audience {audience} to a file, and name it in {SPIFFE_VARIABLE}",
        )
    return None


def _is_served(path: str) -> bool:
    """Tell whether there is a socket of root's or one's own: its usual place is one where everybody may lay something."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid in {0, os.geteuid()}


def _named(around: Surroundings, variable: str, source: str) -> str | None:
    """Return a variable that says whose token is meant, if it is set; empty it says nothing, and the next in order would be another's."""
    value = around.environment.get(variable)
    if value == "":
        raise _refused(source, f"{variable} is set and empty", f"give it a value, or unset {variable}", got="nothing")
    return value


def _refused(source: str, problem: str, remedy: str, got: str = "") -> TokenNotGranted:
    return TokenNotGranted(f"{source}: {problem}", place=Place.operator("environment"), got=got, remedy=remedy)


def _ask(manner: Manner, options: NetOptions, ask: Ask, source: str, take: Callable[[Answer], str]) -> str:
    with Client(manner.watcher, options, patience_s=manner.patience_s) as client:
        try:
            return take(client.ask(ask))
        except SigkitError as err:
            err.problem = f"{source}: {err.problem}"
            raise


def _token_of(answer: Answer) -> str:
    raw = answer.body
    if raw.count(b".") != 2 or not raw.strip().isascii() or b"<" in raw:  # what else is wrong with a token is told where it is read
        raise answer.without("a token")
    return raw.decode("ascii")


def _with_query(url: str, **fields: str) -> str:
    return url + ("&" if "?" in url else "?") + "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())


def _read(path: str) -> str:
    place = Place.operator(path)
    return strict.decode_utf8(durable.read(path, most_bytes=limits.TOKEN_BYTES, place=place), place)


def _first_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.readline(200).decode("ascii", "replace").strip()
    except OSError:
        return ""


def _run(command: Sequence[str], around: Surroundings, source: str) -> str:
    """Run an agent's program, found on the job's path, and return what it prints.

    It gets the job's environment, of which it needs variables that nobody lists, but for the passwords of sigkit's keys.
    """
    place = Place(command[0])
    environment = {name: value for name, value in around.environment.items() if name not in PASSWORDS}
    try:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as agent:
            try:
                printed, complaint = _read_both(agent, time.monotonic() + PROGRAM_S, place)
            finally:
                agent.kill()
    except FileNotFoundError as err:
        raise _refused(source, f"there is no program {command[0]}", f"install {command[0]}, or give the job a token in a file") from err
    except (OSError, subprocess.TimeoutExpired) as err:
        raise _refused(source, f"{command[0]} cannot be run: {type(err).__name__}", "give the job a token in a file") from err
    if agent.returncode:
        said = " ".join(complaint.decode("utf-8", "replace").split())[:SHOWN_CHARACTERS]
        raise _refused(source, f"{command[0]} gave no token", f"run it by hand: {' '.join(command[:3])}", got=said)
    return strict.decode_utf8(printed, place).strip()


def _read_both(agent: subprocess.Popen[bytes], end: float, place: Place) -> tuple[bytes, bytes]:
    """Return what a program prints and complains of, once it has ended; of complaints the first ones.

    Raises:
        TooLarge: (LIMIT) it prints more than a token.
        subprocess.TimeoutExpired: it has not ended in time.
    """
    said = dict.fromkeys((stream.fileno() for stream in (agent.stdout, agent.stderr) if stream is not None), b"")
    with selectors.DefaultSelector() as open_ends:
        for end_of_pipe in said:
            open_ends.register(end_of_pipe, selectors.EVENT_READ)
        while open_ends.get_map():
            if (left := end - time.monotonic()) <= 0:
                raise subprocess.TimeoutExpired(agent.args, PROGRAM_S)
            for key, _ in open_ends.select(left):
                data = os.read(key.fd, limits.TOKEN_BYTES)
                said[key.fd] = (said[key.fd] + data)[: limits.TOKEN_BYTES + 1]
                if not data:
                    open_ends.unregister(key.fd)
            printed, complaint = said.values()
            if len(printed) > limits.TOKEN_BYTES:
                raise TooLarge(f"{place} prints more than {limits.TOKEN_BYTES} bytes", place=place)
    agent.wait(max(end - time.monotonic(), 0))
    return printed, complaint
