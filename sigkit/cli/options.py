"""Options that several commands share, handed to each command as one value."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

P = ParamSpec("P")
R = TypeVar("R")

Reach: TypeAlias = Literal["network", "nothing"]  # whether a command makes connections at all: only then are trust roots fetched

HOST_POLICY = "/etc/sigkit/policy.yaml"
_EMPTY: Final = "it is empty; if a variable was to fill it, that is not set. Give a value, or leave it out."


class ConnectionFlags(NamedTuple):
    """How registries are reached."""

    allow_http_registry: bool
    registry_cacert: str | None
    authfile: tuple[str, ...]
    token_realm: tuple[str, ...]
    timeout_s: float


class PolicyFlags(NamedTuple):
    """What must have signed: keys, an identity, or what a policy says."""

    keys: tuple[str, ...]
    certificate_identity: str
    certificate_identity_regexp: str
    certificate_oidc_issuer: str
    certificate_oidc_issuer_regexp: str
    certificate_github_workflow_trigger: str
    certificate_github_workflow_sha: str
    certificate_github_workflow_name: str
    certificate_github_workflow_repository: str
    certificate_github_workflow_ref: str
    trusted_root: tuple[str, ...]
    insecure_ignore_tlog: bool
    insecure_ignore_sct: bool
    use_signed_timestamps: bool
    policy: str | None = None
    name: str | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """What was given of an identity, in the order of the fields."""
        subject = (self.certificate_identity, self.certificate_identity_regexp)
        issuer = (self.certificate_oidc_issuer, self.certificate_oidc_issuer_regexp)
        workflow = (
            self.certificate_github_workflow_trigger,
            self.certificate_github_workflow_sha,
            self.certificate_github_workflow_name,
            self.certificate_github_workflow_repository,
            self.certificate_github_workflow_ref,
        )
        return tuple(text for text in (*subject, *issuer, *workflow) if text)


class AskedFlags(NamedTuple):
    """What a signature must have besides a signer."""

    threshold: int | None = None
    annotations: tuple[str, ...] = ()

    def given(self) -> tuple[tuple[str, bool], ...]:
        """Return each flag and whether it was given."""
        return (("--threshold", self.threshold is not None), ("-a", bool(self.annotations)))


NOTHING_ASKED = AskedFlags()


class SourceFlags(NamedTuple):
    """Where images and the evidence about them are read."""

    bundle: tuple[str, ...] = ()
    layout: str | None = None
    by_index: str | None = None
    offline: bool = False

    @property
    def reach(self) -> Reach:
        """Return whether connections are made at all."""
        return "nothing" if self.bundle or self.layout is not None or self.offline else "network"


class ImageFlags(NamedTuple):
    """Which images."""

    images: tuple[str, ...]
    listed: tuple[str, ...]


class EvidenceFlags(NamedTuple):
    """Where the evidence about a file lies."""

    bundle: str | None
    signature: str | None
    certificate: str | None
    certificate_chain: str | None


class PredicateFlags(NamedTuple):
    """What an attestation says."""

    predicate: str
    predicate_type: str


def grouped(argument: str, kind: type[Any], *options: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[..., Any]:
    """Return a decorator that adds `options` to a command and hands their values over as one `kind` named `argument`."""

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def command(*args: Any, **values: Any) -> R:  # noqa: ANN401 - click's
            own = {name: values.pop(name) for name in kind._fields if name in values}
            return function(*args, **values, **{argument: kind(**own)})

        for option in reversed(options):
            option(command)
        return command

    return decorate


def filled(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Refuse an option that is given empty: it is not as if it were not given, which would sign as somebody else, or elsewhere.

    Raises:
        BadParameter: it is.
    """
    if value == "":
        raise click.BadParameter(_EMPTY, context, option)
    return value


class Number(click.FloatRange):
    """A number within bounds. NaN, which click lets pass because it is not beyond any, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        """Parse the number, and refuse NaN."""
        if isinstance(value, str) and param and param.metavar == "SECONDS" and value[-1:] in {"s", "m", "h"}:
            return self.fail(f"{value!r} is not a number of seconds, such as 180.", param, ctx)
        number = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number.", param, ctx) if number != number else number  # noqa: PLR0124 - only NaN differs


class HostPath(click.types.StringParamType):
    """A path of this host as text, not empty: nothing is looked up but when a shell completes it."""

    def __init__(self, kind: Literal["file", "dir"]) -> None:
        """Take what a shell offers: files, or directories alone."""
        self.name = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        """Take a path, and refuse an empty one: it would be the working directory, or as if nothing were given."""
        return self.fail(_EMPTY, param, ctx) if value == "" else super().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Leave it to the shell to list paths."""
        from click.shell_completion import CompletionItem

        del ctx, param
        return [CompletionItem(incomplete, type=self.name)]


class TrustRootName(HostPath):
    """A trust root of this machine by its name, or a file."""

    def __init__(self) -> None:
        """Take files besides."""
        super().__init__("file")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the names that are pinned; without one that fits, leave it to the shell to list files."""
        from click.shell_completion import CompletionItem

        from sigkit.errors import SigkitError
        from sigkit.trust.bundled import NAME
        from sigkit.trust.pins import Pins, default_directory

        try:
            names = dict.fromkeys((NAME, *Pins(default_directory()).names()))
        except SigkitError:
            names = dict.fromkeys((NAME,))
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or super().shell_complete(ctx, param, incomplete)


class PredicateType(click.types.StringParamType):
    """A type of attestations: a URI, or a name that a shell can complete."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer cosign's names."""
        from click.shell_completion import CompletionItem

        from sigkit.evidence.predicate_types import PREDICATE_TYPES

        del ctx, param
        return [CompletionItem(name) for name in PREDICATE_TYPES if name.startswith(incomplete)]


class NameChoice(click.Choice[str]):
    """A rule for names. What podman's `run --name` is for is said to whoever means that."""

    def __init__(self) -> None:
        """Take the rules that flags can mean."""
        super().__init__(["if-signed", "repository", "any"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        """Choose the rule, and say what it is not about."""
        if value not in self.choices:
            rules = ", ".join(self.choices)
            self.fail(f"{value!r} is not one of {rules}. It is the rule for the signed name; containers have no names.", param, ctx)
        return super().convert(value, param, ctx)


FILE = HostPath("file")
DIRECTORY = HostPath("dir")
ROOT = TrustRootName()


def is_utf8(text: str) -> bool:
    """Tell whether an argument or a variable was UTF-8: Python keeps other bytes as halves of surrogate pairs."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def key_values(texts: tuple[str, ...], flag: str) -> dict[str, str]:
    """Return what was given as KEY=VALUE.

    Raises:
        BadParameter: something else was, or one key twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE.", param_hint=flag)
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice.", param_hint=flag)
        found[name] = value
    return found


registry_options = grouped(
    "connection",
    ConnectionFlags,
    click.option("--allow-http-registry", is_flag=True, help="Speak plain HTTP with the image's registry. Loopback needs no leave."),
    click.option("--registry-cacert", type=FILE, metavar="FILE", help="Trust the certificate authorities in this PEM file for registries."),
    click.option(
        "--authfile", multiple=True, type=FILE, metavar="FILE", help="Look for credentials here first (Docker's and podman's form)."
    ),
    click.option("--token-realm", multiple=True, metavar="HOST", help="Let the registry send credentials to its token server on HOST."),
    click.option(
        "--timeout",
        "timeout_s",
        type=Number(1, 3600),
        default=120,
        show_default=True,
        metavar="SECONDS",
        help="Per request, in all.",
    ),
)

_key_option = click.option(
    "--key", "keys", multiple=True, type=FILE, metavar="FILE", help="A public key that must have signed. Several: any one of them."
)
_policy_option = click.option(
    "--policy",
    type=FILE,
    metavar="FILE",
    envvar="SIGKIT_POLICY",
    help=f"A trust policy. Also SIGKIT_POLICY; `run` and `pull` fall back to {HOST_POLICY}.",
)
_name_option = click.option(
    "--name",
    type=NameChoice(),
    help="With --key or an identity: what the signed repository must be. if-signed (the default): if one is signed, the one asked for.",
)
_identity_options = (
    *(
        click.option(f"--{name}", default="", metavar=metavar, help=text)
        for name, metavar, text in (
            ("certificate-identity", "TEXT", "The identity that must have signed, whole: an e-mail address or a URI."),
            ("certificate-identity-regexp", "RE2", "As --certificate-identity, by an expression that must fit all of it."),
            ("certificate-oidc-issuer", "URL", "Who must have said that it is this identity."),
            ("certificate-oidc-issuer-regexp", "RE2", "As --certificate-oidc-issuer, by an expression that must fit all of it."),
            ("certificate-github-workflow-trigger", "TEXT", "The event that must have started the workflow."),
            ("certificate-github-workflow-sha", "HEX", "The commit that the workflow must have run on."),
            ("certificate-github-workflow-name", "TEXT", "The name that the workflow must have."),
            ("certificate-github-workflow-repository", "OWNER/NAME", "The repository that the workflow must have run in."),
            ("certificate-github-workflow-ref", "REF", "The ref that the workflow must have run on."),
        )
    ),
    click.option(
        "--trusted-root",
        multiple=True,
        type=ROOT,
        metavar="NAME|FILE",
        help="Whose word counts: a root of `sigkit trust`, or a trusted_root.json. For identities public-good is the default.",
    ),
    click.option("--insecure-ignore-tlog", is_flag=True, help="Ask an identity for no entry in a transparency log."),
    click.option("--insecure-ignore-sct", is_flag=True, help="Ask an identity's certificate for no promise of a certificate log."),
    click.option("--use-signed-timestamps", is_flag=True, help="Ask for a timestamp by an authority of the trusted root."),
)
policy_options = grouped("wanted", PolicyFlags, _key_option, _policy_option, _name_option, *_identity_options)
attester_options = grouped("wanted", PolicyFlags, _key_option, _name_option, *_identity_options)  # a policy has its types in its rules
file_signer_options = grouped("wanted", PolicyFlags, _key_option, *_identity_options)  # policies and names are about images

asked_options = grouped(
    "asked",
    AskedFlags,
    click.option(
        "--threshold",
        type=click.IntRange(1),
        metavar="N",
        help="How many of the keys must have signed. Default: one. Several identities of which some must sign: `atLeast` in a policy.",
    ),
    click.option(
        "-a",
        "--annotations",
        "annotations",
        multiple=True,
        metavar="KEY=VALUE",
        help="What must be signed with the digest. Can be given several times.",
    ),
)

image_options = grouped(
    "named",
    ImageFlags,
    click.argument("images", nargs=-1, metavar="IMAGE..."),
    click.option(
        "-f",
        "--file",
        "listed",
        multiple=True,
        type=FILE,
        metavar="FILE",
        help="A file of images, one a line; `-` for standard input. Can be given several times.",
    ),
)
layout_option = click.option(
    "--layout", type=DIRECTORY, metavar="DIR", help="Read the image and its evidence from this OCI layout. No connection is made."
)
source_options = grouped(
    "source",
    SourceFlags,
    click.option(
        "--bundle",
        multiple=True,
        type=FILE,
        metavar="FILE",
        help="Take the evidence from this file, about an IMAGE with a digest. No connection is made. Can be given several times.",
    ),
    layout_option,
    click.option("--index", "by_index", metavar="REF", help="The index that names IMAGE, a digest; its signatures count for it."),
    click.option("--offline", is_flag=True, help="Refuse to make connections: the image is in --layout, or the evidence in --bundle."),
)

_TYPES: Final = "slsaprovenance1, slsaprovenance02, slsaprovenance, spdxjson, spdx, cyclonedx, vuln, openvex, link"
predicate_options = grouped(
    "told",
    PredicateFlags,
    click.option("--predicate", required=True, type=FILE, metavar="FILE", help="What is said: a JSON object; `-` for standard input."),
    click.option(
        "--type",
        "predicate_type",
        default="custom",
        type=PredicateType(),
        show_default=True,
        metavar="TYPE",
        help=f"Its type: a URI, or {_TYPES}; custom takes any text.",
    ),
)

_ATTESTED = f"What must be attested: a URI, or {_TYPES}, custom."
attestation_option = click.option(
    "--type", "attestation_type", default="custom", type=PredicateType(), show_default=True, metavar="TYPE", help=_ATTESTED
)
asked_type_option = click.option(
    "--type", "attestation_type", default="", type=PredicateType(), metavar="TYPE", help=f"{_ATTESTED} Default: a signature."
)
evidence_options = grouped(
    "evidence",
    EvidenceFlags,
    click.option("--bundle", type=FILE, metavar="FILE", help="The bundle (cosign's older ones are read, too)."),
    click.option("--signature", type=FILE, metavar="FILE", help="A bare signature in base64, where there is no bundle."),
    click.option("--certificate", type=FILE, metavar="FILE", help="With --signature: the signer's certificate in PEM."),
    click.option("--certificate-chain", type=FILE, metavar="FILE", help="With --signature: the certificates above it in PEM."),
)

store_option = click.option(
    "--root",
    "store_root",
    type=DIRECTORY,
    metavar="DIR",
    envvar="SIGKIT_ROOT",
    help="The host's store. Also SIGKIT_ROOT; default /var/lib/sigkit for root, else ~/.local/share/sigkit.",
)
platform_option = click.option(
    "--platform", "platform_text", metavar="OS/ARCH[/VARIANT]", help="Of an index, take this platform. Default: this machine's."
)
