"""From the flags of the commands that sign to somebody who signs."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from sigkit.cli.output import tell
from sigkit.cli.signing_options import TOKEN_VARIABLE
from sigkit.text import escape, human_age

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.cli.output import Output
    from sigkit.cli.signing_options import SigningFlags
    from sigkit.errors import Place, SigkitError
    from sigkit.keys.private import PrivateKey
    from sigkit.signing.client import Client
    from sigkit.signing.keyed import Signatory
    from sigkit.signing.keyless import Publication
    from sigkit.signing.token import IdentityToken
    from sigkit.trust.root import TrustedRoot
    from sigkit.trust.signing_config import SigningConfig


_LONGEST_PATH_SHOWN: Final = 100


class Services(NamedTuple):
    """An instance's signing config, its trusted root, where the first was found, and by which named root that was ("" by none)."""

    config: SigningConfig
    root: TrustedRoot
    place: Place
    named: str = ""


class Setup(NamedTuple):
    """Everything that was read before anything is asked: the key, its certificates, the instance."""

    flags: SigningFlags
    key: PrivateKey | None
    chain: tuple[bytes, ...]
    services: Services | None


def prepare(output: Output, flags: SigningFlags) -> Setup:
    """Read what the flags name: files, and trust roots by name.

    Raises:
        UsageError: flags that do not go together.
        SigkitError: a file cannot be read or used; the place is the operator's.
    """
    _check_flags(flags)
    if flags.services_cacert is not None:  # looked at before anything is asked: whether a service wants it is known too late
        _load_certificates(flags.services_cacert)
    services = _load_services(output, flags)
    key = None
    if flags.key_path is not None:
        from sigkit.cli.password import password
        from sigkit.keys.load import load_private

        key = load_private(flags.key_path, password)
    chain = tuple(der for path in (flags.cert, flags.cert_chain) if path is not None for der in _load_certificates(path))
    return Setup(flags, key, chain, services)


def input_files(flags: SigningFlags) -> tuple[str, ...]:
    """Return the files that signing reads, so that nothing is written over one."""
    given = (flags.key_path, flags.cert, flags.cert_chain, flags.signing_config, flags.trusted_root, flags.identity_token)
    return tuple(path for path in given if path is not None)


@contextmanager
def open_signatory(output: Output, setup: Setup) -> Iterator[Signatory]:
    """Return who signs; an identity's token is found, or asked for, here.

    Raises:
        SigkitError: there is no token, or it or the instance will not do.
    """
    from sigkit.signing.keyed import KeySignatory

    if setup.services is None:
        if setup.key is None:
            raise AssertionError("prepare lets no identity pass without an instance")
        yield KeySignatory(setup.key)
        return
    from sigkit.clock import SystemClock
    from sigkit.errors import Place
    from sigkit.net.session import NetOptions
    from sigkit.signing.client import Client
    from sigkit.signing.instance import Instance
    from sigkit.signing.keyless import KeylessSignatory, ServiceSignatory

    flags = setup.flags
    config, root, place, _ = setup.services
    consent = Consent(agreed=flags.yes)
    options = NetOptions(ca_file=flags.services_cacert, ca_option="--services-cacert FILE")
    with Client(Watcher(output), options, patience_s=flags.wait_s) as client:
        instance = Instance(config, root, client, SystemClock(), place)
        if setup.key is not None:
            yield ServiceSignatory(setup.key, setup.chain, instance, consent, Place.operator(flags.cert or "--key"))
            return
        if flags.oidc_issuer is not None:  # before anybody logs in there
            _check_issuer(flags.oidc_issuer, setup.services, Place.operator("--oidc-issuer"))
        token, source = _find_token(output, flags, config, client)
        _check_issuer(token.issuer, setup.services, Place.operator(source))
        output.detail(f"identity token: {escape(token.identity)}, from {escape(source)}")
        yield KeylessSignatory(token, flags.oidc_client_id, instance, consent, Place.operator(source))


class Watcher:
    """Says on stderr who is waited for, and who failed."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def waiting(self, service: str, why: str, seconds: float) -> None:
        """Say who is asked again, why, and when."""
        self._output.note(f"waiting    {seconds:.1f} s for {escape(service)}: {escape(why)}")

    def passed_over(self, service: str, err: SigkitError) -> None:
        """Say who failed, and that another is asked."""
        named = "" if service in err.problem else f"{escape(service)}  "
        self._output.note(f"passed by  {named}{err.code}  {escape(err.problem)}; asking the next")

    def note(self, text: str) -> None:
        """Say anything else."""
        self._output.note(escape(text))


class Consent:
    """Tells what becomes public before it does; on a terminal it asks, unless the user has agreed already."""

    def __init__(self, *, agreed: bool) -> None:
        self._agreed = agreed

    def __call__(self, publication: Publication) -> None:
        """Return if it may become public."""
        by = f", who {escape(publication.issuer)} says it is" if publication.issuer else ""
        if _is_private(publication):
            first = "this becomes visible to all who can read the log there, and stays in it:"
        else:
            first = "this becomes public, and nobody can take it back:"
        lines = (
            first,
            f"  signer    {escape(publication.who)}{by}",
            *([f"  named     {escape(publication.job)}"] if publication.job else []),
            *([f"  or named  {escape(publication.user_name)}, where user names are certified"] if publication.user_name else []),
            *(f"  at        {escape(service)}" for service in publication.services),
            *(f"  or at     {escape(service)}, where one fails" for service in publication.spare),
        )
        tell("\n".join(lines))  # with --quiet too: it is no progress report
        if self._agreed or not sys.stdin.isatty():
            return
        if not click.confirm("Go on?", err=True):
            from sigkit.errors import NotAgreed, Place

            raise NotAgreed("stopped as you said; nothing was published", place=Place("terminal"))


def _is_private(publication: Publication) -> bool:
    """Tell whether every service that may be asked has an address of this machine or of a private network, so that nobody else reads it."""
    import ipaddress

    from sigkit.net.address import is_loopback_name
    from sigkit.net.url import parse_url

    for service in (*publication.services, *publication.spare):
        host = parse_url(service).origin.host
        try:
            near = ipaddress.ip_address(host).is_private
        except ValueError:
            near = is_loopback_name(host)
        if not near:
            return False
    return True


def _check_flags(flags: SigningFlags) -> None:
    if flags.oidc_issuer is not None:
        from sigkit.errors import Place
        from sigkit.net.url import parse_url
        from sigkit.signing.public_good import near_issuer

        parse_url(flags.oidc_issuer, Place.operator("--oidc-issuer"))
        if near := near_issuer(flags.oidc_issuer):
            raise click.UsageError(f"--oidc-issuer {flags.oidc_issuer}: this issuer calls itself {near}")
    if flags.key_path is None:
        if flags.cert is not None or flags.cert_chain is not None:
            raise click.UsageError("--cert is the certificate of a --key.")
        return
    if flags.identity_token is not None:
        raise click.UsageError("Either a --key signs, or an identity with --identity-token.")
    if flags.cert_chain is not None and flags.cert is None:
        raise click.UsageError("--cert-chain goes with --cert.")
    if flags.cert is not None and flags.signing_config is None and flags.trusted_root is None:
        raise click.UsageError("--cert needs a time that somebody attests: give --signing-config FILE with a timestamp authority.")


def _load_services(output: Output, flags: SigningFlags) -> Services | None:
    """Return the instance that is named, for an identity the public one by default, or None for a key alone."""
    if flags.signing_config is None and flags.trusted_root is None and flags.key_path is not None:
        return None
    from sigkit import durable, limits
    from sigkit.cli.trusting import config_beside, opened_roots
    from sigkit.errors import Place
    from sigkit.trust.bundled import NAME
    from sigkit.trust.pins import is_name
    from sigkit.trust.signing_config import parse_signing_config

    name = NAME if flags.trusted_root is None else flags.trusted_root
    with opened_roots(output, "network") as roots:
        if flags.signing_config is not None:
            if flags.trusted_root is None:
                raise click.UsageError("--signing-config needs the --trusted-root of the same instance: what is made must verify by it.")
            place = Place.operator(flags.signing_config)
            raw = durable.read(flags.signing_config, most_bytes=limits.BUNDLE_BYTES, place=place)
            return Services(parse_signing_config(raw, place, limits.DEFAULT), roots.load_named_or_file(name).root, place)
        if not is_name(name):
            config = config_beside(name, "FILE")
            raise click.UsageError(f"--trusted-root FILE needs the --signing-config {config} of the same instance: the services that sign.")
        named = roots.load(name)
    if named.signing is None:
        raise click.UsageError(f"The trust root {name} names no services that sign: give --signing-config FILE.")
    return Services(named.signing, named.root, Place.operator(name), name)


def _check_issuer(issuer: str, services: Services, place: Place) -> None:
    """Refuse to send a token of a private issuer to the public instance, because nobody has named another.

    Raises:
        StrangeIssuer: (IDENT) the public instance does not take such tokens.
    """
    from sigkit.signing.public_good import is_asked, near_issuer, takes_issuer

    if not services.named or takes_issuer(issuer) or not is_asked(services.root, services.config.certificate_authorities):
        return
    from sigkit.errors import StrangeIssuer

    near = near_issuer(issuer)
    raise StrangeIssuer(
        "the public-good instance, which is meant where no other is named, takes no tokens of this issuer",
        place=place,
        expected=near or "an issuer whose tokens the public-good instance takes",
        got=issuer[:200],
        remedy="name your own instance: --signing-config FILE --trusted-root FILE; of a stack both are in DIR/clients",
    )


def _load_certificates(path: str) -> tuple[bytes, ...]:
    from sigkit import durable, limits
    from sigkit.errors import Place
    from sigkit.keys.pem import parse_pem

    place = Place.operator(path)
    raw = durable.read(path, most_bytes=limits.CA_FILE_BYTES, place=place)
    mark = b"-----BEGIN CERTIFICATE-----"
    blocks = [mark + part for part in raw.split(mark)[1:]] or [raw]
    return tuple(parse_pem(block, ("CERTIFICATE",), place).data for block in blocks)


def _find_token(output: Output, flags: SigningFlags, config: SigningConfig, client: Client) -> tuple[IdentityToken, str]:
    """Return the token and what gave it: the option, the environment, the surroundings, a login."""
    from sigkit.errors import Place
    from sigkit.signing.token import parse_identity_token

    if flags.identity_token is not None:
        return _given(output, flags.identity_token)
    if (given := os.environ.get(TOKEN_VARIABLE)) is not None:  # empty it is refused: what comes next would be somebody else's
        return _parse_variable(given), TOKEN_VARIABLE
    from sigkit.signing.ambient import Manner, ambient_token

    found = ambient_token(flags.oidc_client_id, Manner(client.watcher, flags.wait_s))
    if found is not None:
        return parse_identity_token(found.token, Place.operator(found.source)), found.source
    return _log_in(flags, config, client), "the login"


def _parse_variable(text: str) -> IdentityToken:
    from sigkit.errors import MalformedToken, Place
    from sigkit.signing.token import parse_identity_token

    place = Place.operator(TOKEN_VARIABLE)
    if not text:
        raise MalformedToken(
            "the variable is set and empty", place=place, got="nothing", remedy=f"unset {TOKEN_VARIABLE}, or give it a token"
        )
    return parse_identity_token(text, place)


def _given(output: Output, text: str) -> tuple[IdentityToken, str]:
    from sigkit import durable, limits, strict
    from sigkit.errors import FileUnreadable, Place
    from sigkit.signing.token import looks_like_token, parse_identity_token

    if os.path.exists(text):
        place = Place.operator(text)
        raw = durable.read(text, most_bytes=limits.TOKEN_BYTES, place=place)
        return parse_identity_token(strict.decode_utf8(raw, place), place), text
    if not looks_like_token(text) and len(text) <= _LONGEST_PATH_SHOWN:  # anything longer may be half of a secret
        raise FileUnreadable("no such file, and not a token", place=Place.operator(text))
    output.note("a token on the command line can be read by other users of this machine; give a file")
    return parse_identity_token(text, Place.operator("--identity-token")), "--identity-token"


def _log_in(flags: SigningFlags, config: SigningConfig, client: Client) -> IdentityToken:
    from sigkit.errors import NoIdentityToken, Place
    from sigkit.signing.asking import asking
    from sigkit.signing.interactive import discover, login_in_browser, login_on_device

    if flags.login == "never" or (flags.login == "auto" and not (sys.stdin.isatty() and sys.stderr.isatty())):
        raise NoIdentityToken(
            "no identity token, and nobody to log in",
            place=Place.operator("environment"),
            expected=f"--identity-token, {TOKEN_VARIABLE}, a token of the CI job, or a terminal",
            remedy="--login device logs in with a code on another device",
        )
    issuer = _issuer(flags, config)
    with asking(f"the issuer at {issuer}", "nothing was signed, logged or attached"):
        endpoints = discover(client, issuer)
    if flags.login == "device" or (flags.login == "auto" and not _has_browser()):
        return login_on_device(client, endpoints, flags.oidc_client_id, Terminal())
    from sigkit.signing.listener import LoopbackListener

    with LoopbackListener() as listener:
        return login_in_browser(client, endpoints, flags.oidc_client_id, Terminal(), listener)


def _issuer(flags: SigningFlags, config: SigningConfig) -> str:
    if flags.oidc_issuer is not None:
        return flags.oidc_issuer
    from sigkit.clock import SystemClock
    from sigkit.errors import Place
    from sigkit.trust.signing_config import AnyOne, select

    return select(config.issuers, AnyOne(), (1,), SystemClock().now(), Place.operator("--signing-config", "$.oidcUrls"))[0].url


def _has_browser() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


class Terminal:
    """Shows a person where to log in, on stderr."""

    def open(self, url: str, start: str, wait_s: float) -> None:
        """Open, in the browser, the page that leads to `url`; that address itself is shown in case none opens."""
        import threading
        import webbrowser

        lines = [f"log in at   {escape(url, 4096)}"]
        if "/oidc/authorize?" in url:  # a stack's page: its issuer makes the code, and nobody enters it anywhere
            lines.append(
                "approved by the stack's operator, with the code that the page shows: sigkit stack approve DIR CODE --email YOUR-ADDRESS"
            )
        tell("\n".join((*lines, _waiting(wait_s))))
        # Beside: some browsers keep their caller until they are closed, and the page is ours to answer.
        threading.Thread(target=webbrowser.open, args=(start,), daemon=True).start()

    def show_code(self, url: str, code: str, wait_s: float) -> None:
        """Show the page to visit on any device, and the code to enter there."""
        from sigkit.services.logins import is_user_code

        lines = [f"log in at   {escape(url, 4096)}", f"with code   {escape(code)}"]
        if "/oidc/approve?" in url and is_user_code(code):  # a stack's page: nobody enters anything there. No other server writes a command
            lines.append(f"approved by the stack's operator: sigkit stack approve DIR {escape(code)} --email YOUR-ADDRESS")
        tell("\n".join((*lines, _waiting(wait_s))))


def _waiting(wait_s: float) -> str:
    from datetime import timedelta

    return f"waiting     for at most {human_age(timedelta(seconds=wait_s))}; Ctrl-C ends it, and nothing is signed"
