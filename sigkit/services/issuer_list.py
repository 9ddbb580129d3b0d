"""The operator's list of other issuers whose tokens the stack takes: `issuers.json` in its directory.

    {"schema": "sigkit.stack.issuers/1", "issuers": [
      {"url": "https://gitlab.acme.example", "type": "gitlab"},
      {"url": "https://kubernetes.default.svc", "type": "kubernetes", "caFile": "/etc/kubernetes/pki/ca.crt"},
      {"url": "https://ci.acme.example", "type": "ci", "subject": "https://ci.acme.example/{job}",
       "extensions": {"sourceRepositoryURI": "{repository}"}}]}

Each entry names exactly what its type needs, and may name an audience other than `sigstore`, and a file with the authority of its server's
TLS certificate. CI providers that Fulcio knows have their templates here, so that their certificates say the same as those of the public
instance. For a provider's own site speaks only the provider's own issuer: another's entry says where its pages are.

What can never work is refused when the list is read, with its place in the file: whom it concerns would learn it else, token by token.

Source: sigstore/fulcio config/identity/config.yaml; docs/oid-info.md.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from sigkit import durable
from sigkit.data import NOTHING, Data
from sigkit.errors import Place, UnnamableIdentity
from sigkit.net.address import is_loopback_name
from sigkit.net.url import Origin, parse_url
from sigkit.services.issuers import (
    AUDIENCE,
    DOMAIN,
    FIELD,
    CiIssuer,
    EmailIssuer,
    Issuer,
    KubernetesIssuer,
    SpiffeIssuer,
    UriIssuer,
    UsernameIssuer,
    write_uri,
)
from sigkit.strict import parse_json
from sigkit.verify.extensions import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sigkit.services.issuers import IssuerKind
    from sigkit.strict import Cursor

FILE: Final = "issuers.json"
SCHEMA: Final = "sigkit.stack.issuers/1"
_FILE_BYTES: Final = 1 << 20
_MOST_ISSUERS: Final = 1000
_MOST_EXTENSIONS: Final = 32
# The operator writes names; the issuer and the token's subject are never theirs to write. The old and the new number of one name: the new.
_NUMBERS: Final = {name: number for number, name in sorted(NAMES.items()) if number not in {1, 8, 24}}


class _Provider(Data):
    """Templates of a CI provider; `{web}` is where its pages are, `{site}` the same without its scheme."""

    issuer: str  # host of the only issuer that speaks for `web` unasked; empty: each has its pages at its own URL
    web: str
    subject: str
    begins: str  # each subject: where claims could name a site that is not the issuer's; empty: where they cannot
    extensions: Mapping[str, str]
    at_home: Mapping[str, str] = NOTHING  # more of them, where `web` is the provider's own: they name another site of it


_PROVIDERS: Final = {
    "github": _Provider(
        "token.actions.githubusercontent.com",
        "https://github.com",
        "{web}/{job_workflow_ref}",
        "",
        {
            "githubWorkflowTrigger": "{event_name}",
            "githubWorkflowSHA": "{sha}",
            "githubWorkflowName": "{workflow}",
            "githubWorkflowRepository": "{repository}",
            "githubWorkflowRef": "{ref}",
            "buildSignerURI": "{web}/{job_workflow_ref}",
            "buildSignerDigest": "{job_workflow_sha}",
            "runnerEnvironment": "{runner_environment}",
            "sourceRepositoryURI": "{web}/{repository}",
            "sourceRepositoryDigest": "{sha}",
            "sourceRepositoryRef": "{ref}",
            "sourceRepositoryIdentifier": "{repository_id}",
            "sourceRepositoryOwnerURI": "{web}/{repository_owner}",
            "sourceRepositoryOwnerIdentifier": "{repository_owner_id}",
            "buildConfigURI": "{web}/{workflow_ref}",
            "buildConfigDigest": "{workflow_sha}",
            "buildTrigger": "{event_name}",
            "runInvocationURI": "{web}/{repository}/actions/runs/{run_id}/attempts/{run_attempt}",
            "sourceRepositoryVisibilityAtSigning": "{repository_visibility}",
            "deploymentEnvironment": "{environment?}",
        },
    ),
    "gitlab": _Provider(
        "",
        "",
        "https://{ci_config_ref_uri}",
        "https://{site}/",
        {
            "buildSignerURI": "https://{ci_config_ref_uri}",
            "buildSignerDigest": "{ci_config_sha}",
            "runnerEnvironment": "{runner_environment}",
            "sourceRepositoryURI": "{web}/{project_path}",
            "sourceRepositoryDigest": "{sha}",
            "sourceRepositoryRef": "{ref_path}",
            "sourceRepositoryIdentifier": "{project_id}",
            "sourceRepositoryOwnerURI": "{web}/{namespace_path}",
            "sourceRepositoryOwnerIdentifier": "{namespace_id}",
            "buildConfigURI": "https://{ci_config_ref_uri}",
            "buildConfigDigest": "{ci_config_sha}",
            "buildTrigger": "{pipeline_source}",
            "runInvocationURI": "{web}/{project_path}/-/jobs/{job_id}",
            "sourceRepositoryVisibilityAtSigning": "{project_visibility}",
            "deploymentEnvironment": "{environment?}",
        },
    ),
    "buildkite": _Provider(
        "agent.buildkite.com",
        "https://buildkite.com",
        "{web}/{organization_slug}/{pipeline_slug}",
        "",
        {
            "runInvocationURI": "{web}/{organization_slug}/{pipeline_slug}/builds/{build_number}#{job_id}",
            "runnerEnvironment": "{runner_environment}",
            "sourceRepositoryDigest": "{build_commit}",
            "buildTrigger": "{build_source}",
        },
    ),
    "circleci": _Provider(
        "oidc.circleci.com",
        "https://circleci.com/api/v2",
        "{web}/projects/{oidc.circleci.com/project-id}/pipeline-definitions/{oidc.circleci.com/pipeline-definition-id}",
        "",
        {
            "buildConfigURI": "{web}/pipeline/{oidc.circleci.com/pipeline-id}/config",
            "buildSignerURI": "{web}/projects/{oidc.circleci.com/project-id}"
            "/pipeline-definitions/{oidc.circleci.com/pipeline-definition-id}",
            "sourceRepositoryRef": "{oidc.circleci.com/vcs-ref?}",
            "sourceRepositoryURI": "{oidc.circleci.com/vcs-origin?}",
            # Fulcio writes two quotation marks as runnerEnvironment of nearly all: they tell nobody anything.
        },
        # Two slashes: as Fulcio has it.
        {"runInvocationURI": "https://app.circleci.com//workflow/{oidc.circleci.com/workflow-id}/job/{oidc.circleci.com/job-id}"},
    ),
}


def load_issuers(path: str, own: str = "") -> tuple[Issuer, ...]:
    """Read the list of issuers at `path`, of the stack whose URL is `own`.

    Raises:
        FileUnreadable: (UNAVAIL).
        SigkitError: (PARSE, LIMIT, NET) malformed.
    """
    place = Place.operator(path)
    return parse_issuers(durable.read(path, most_bytes=_FILE_BYTES, place=place), place, own)


def parse_issuers(raw: bytes, place: Place, own: str = "") -> tuple[Issuer, ...]:
    """Parse a list of issuers, of the stack whose URL is `own`.

    Raises:
        SigkitError: (PARSE, LIMIT, NET) malformed, one issuer twice, the stack's own, or one that can never work.
    """
    document = parse_json(raw, most_bytes=_FILE_BYTES, place=place).only(("schema", "issuers"))
    if document.member("schema").text() != SCHEMA:
        document.member("schema").fail("a list of another kind or version", expected=SCHEMA)
    found: dict[str, Issuer] = {}
    for item in document.member("issuers").items(_MOST_ISSUERS):
        issuer = _parse_issuer(item)
        if own and issuer.url.rstrip("/") == own.rstrip("/"):
            item.member("url").fail("this is the stack itself, which takes its own tokens without an entry")
        if issuer.url in found:
            item.member("url").fail("an issuer is there twice")
        found[issuer.url] = issuer
    return tuple(found.values())


def _parse_issuer(item: Cursor) -> Issuer:
    url = item.member("url")
    parsed = parse_url(url.text(), url.at())  # compared letter by letter, so kept as it is written
    if "?" in parsed.target:
        url.fail("a URL with a query, below which no discovery is", expected="scheme, host and path")
    if parsed.origin.scheme == "http" and not is_loopback_name(parsed.origin.host):
        url.fail("plain HTTP to another machine, by which no keys are fetched", expected=f"https://{parsed.origin.authority}")
    kind = item.member("type")
    parser = _TYPES.get(kind.text())
    if parser is None:
        kind.fail("unknown type", expected=" or ".join(sorted(_TYPES)))
    names, parse = parser
    item.only(("url", "type", "audience", "caFile", *names))
    audience, ca_file = item.find("audience"), item.find("caFile")
    if audience is not None and not audience.text():
        audience.fail("no audience", expected=f"{AUDIENCE}, or whatever its tokens are for")
    if ca_file is not None and not os.path.isabs(ca_file.text()):
        ca_file.fail("a relative path, which depends on where the stack is started", expected="/…")
    return Issuer(url.text(), parse(item, url.text()), audience.text() if audience else AUDIENCE, ca_file.text() if ca_file else "")


def _parse_ci(item: Cursor, _: str) -> IssuerKind:
    extensions, subject = item.find("extensions"), item.member("subject")
    if "}{" in subject.text():
        subject.fail("nothing between two claims: two jobs could get one name", expected="{team}/{job}")
    _check_template(subject, subject.text())
    # With any claims: they are text that could stand for a host, a port or a part of a path. One that stands first brings the host.
    if not subject.text().startswith("{") and not _written(FIELD.sub("1", subject.text())):
        subject.fail("no URI, whatever the claims are", expected="https://ci.example/{job}, and nothing that is escaped")
    return CiIssuer(subject.text(), _numbered(extensions) if extensions else {})


def _numbered(extensions: Cursor) -> dict[int, str]:
    found = {}
    for name, template in extensions.texts(_MOST_EXTENSIONS).items():
        if name not in _NUMBERS:
            extensions.fail(f"unknown extension {name[:80]!r}", expected=", ".join(_NUMBERS), got=name[:80])
        _check_template(extensions.member(name), template)
        found[_NUMBERS[name]] = template
    return found


def _check_template(where: Cursor, template: str) -> None:
    if set("{}") & set(FIELD.sub("", template)):
        where.fail("a brace that is not one of a pair around a claim", expected="{claim}")


def _written(text: str) -> str:
    """Return the URI that this text means without claims, or "" if it is none."""
    try:
        return write_uri(text)
    except UnnamableIdentity:
        return ""


def _parse_provider(provider: _Provider) -> Callable[[Cursor, str], IssuerKind]:
    def parse(item: Cursor, url: str) -> IssuerKind:
        web = _parse_web(provider, item, url)
        site = web.partition("://")[2]
        templates = {**provider.extensions, **(provider.at_home if web == provider.web else NOTHING)}
        extensions = {_NUMBERS[name]: template.replace("{web}", web) for name, template in templates.items()}
        return CiIssuer(provider.subject.replace("{web}", web), extensions, provider.begins.replace("{site}", site))

    return parse


def _parse_web(provider: _Provider, item: Cursor, url: str) -> str:
    """Return where a provider's pages are, as each of their names begins."""
    given = item.find("web")
    if given is None and provider.issuer and parse_url(url).origin != Origin("https", provider.issuer, 443):
        item.fail(f"where its pages are is not said, and {provider.web} is not this issuer's", expected='"web": "https://…"', got=url)
    place = given or item.member("url")
    web = given.text() if given else provider.web or url
    parse_url(web, place.at())
    if "?" in web or _written(web) != web:
        place.fail("no name of a page begins like this", expected="scheme, host and path, and nothing that is escaped", got=web)
    return web.rstrip("/")


def _parse_subject_domain(item: Cursor, _: str) -> IssuerKind:
    domain = item.member("subjectDomain")
    url = parse_url(domain.text(), domain.at())
    if url.target != "/" or domain.text().endswith("/") or _written(domain.text()) != domain.text():
        domain.fail("scheme and host only", expected=str(url.origin))
    return UriIssuer(domain.text())


def _parse_user_domain(item: Cursor, _: str) -> IssuerKind:
    domain = item.member("subjectDomain")
    if not re.fullmatch(DOMAIN, domain.text()):
        domain.fail("no domain", expected="acme.example")
    return UsernameIssuer(domain.text())


def _parse_trust_domain(item: Cursor, _: str) -> IssuerKind:
    domain = item.member("trustDomain")
    if not re.fullmatch(DOMAIN, domain.text()) or domain.text() != domain.text().lower():
        domain.fail("no trust domain", expected="acme.example, in small letters and without spiffe://")
    return SpiffeIssuer(domain.text())


_TYPES: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Cursor, str], IssuerKind]]]] = {
    "ci": (("subject", "extensions"), _parse_ci),
    "email": ((), lambda *_: EmailIssuer()),
    "kubernetes": ((), lambda *_: KubernetesIssuer()),
    "spiffe": (("trustDomain",), _parse_trust_domain),
    "uri": (("subjectDomain",), _parse_subject_domain),
    "username": (("subjectDomain",), _parse_user_domain),
    **{name: (("web",), _parse_provider(provider)) for name, provider in _PROVIDERS.items()},
}
