"""Signing with the services of an instance: by an identity, for which a key lives minutes, or by a key of one's own.

An identity's session: the token is judged, what becomes public is agreed to, then key, certificate, signature, timestamps, log entries.
Each answer is proved when it comes. A certificate of which less than a margin is left is not waited with: a new one is taken, with a new
key's signature, and what was collected for the old one is let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from sigkit.data import Data
from sigkit.errors import SigkitError
from sigkit.evidence.bundle import V03, Bundle, CertificateMaterial, KeyMaterial, write_bundle
from sigkit.net.secrets import hide_secrets
from sigkit.signing.course import Course, RunsOut
from sigkit.signing.ephemeral import EphemeralKey
from sigkit.signing.finish import is_complete, same_signer
from sigkit.signing.fulcio import judge_certificate, judge_own_certificate, request_certificate
from sigkit.signing.keyed import OWN_KEY, Complete, Made, StatementToSign, content_of, hint_of, key_signer, message_of
from sigkit.signing.stated import ENDLESS, Lifetime
from sigkit.signing.token import check_token
from sigkit.trust.root import TrustedKey, root_of_keys, with_keys
from sigkit.verify.bind import Artifact
from sigkit.verify.entries import Logged
from sigkit.verify.signature import OverArtifact, OverBytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sigkit.errors import Place
    from sigkit.evidence.bundle import Material
    from sigkit.keys.private import Signer
    from sigkit.signing.course import Vouchers
    from sigkit.signing.fulcio import Certified
    from sigkit.signing.instance import Instance
    from sigkit.signing.keyed import ToSign
    from sigkit.signing.token import IdentityToken
    from sigkit.trust.root import TrustedRoot
    from sigkit.trust.signing_config import Service
    from sigkit.verify.facts import Facts, IdentitySigner, KeySigner


class Publication(Data):
    """What becomes public, and cannot be taken back: who signs, who says so ("" for a key), and where.

    `services` are asked, and `spare` ones where one of them fails. `job` is what the certificate's name is made of where that is not `who`;
    `user_name` is what it is made of at an authority that certifies user names and not addresses.
    """

    who: str
    issuer: str
    services: tuple[str, ...]
    spare: tuple[str, ...]
    job: str = ""
    user_name: str = ""


class Consent(Protocol):
    """Asks the user, or tells."""

    def __call__(self, publication: Publication) -> None:
        """Return if it may become public.

        Raises:
            NotAgreed: (IDENT) it may not.
        """
        ...


class KeylessSignatory:
    """Signs by the identity of a token. Each signature is an event of its own, with its own time, so none is repeated."""

    publishes = True
    repeats = False

    def __init__(self, token: IdentityToken, audience: str, instance: Instance, consent: Consent, place: Place) -> None:
        """Judge the token and the instance; nothing is sent.

        Raises:
            TokenExpired, ClockSkew: (TIME), WrongAudience, UnverifiedEmail: (IDENT) by the token.
            NoService: (UNAVAIL), NoAttestedTime: (TIME) by the instance.
        """
        check_token(token, audience, instance.clock.now(), place)
        instance.check_times()
        self.root = instance.root
        self._token = token
        self._audience = audience
        self._instance = instance
        self._consent = consent
        self._place = place
        self._authorities = instance.certificate_authorities()

    def make(self, thing: ToSign) -> Made:
        """Sign.

        Raises:
            NotAgreed: (IDENT) nothing was sent.
            SigkitError: as `Course.vouch`, `request_certificate` and `judge_certificate`.
        """
        self._consent(_publication(_who(self._token), self._authorities.services, self._instance))
        course = Course(self._instance)
        while True:
            key, certified = self._certify(course)
            signature = key.sign(message_of(thing))
            try:
                vouchers = course.vouch(_logged(thing, signature, key, certified.der), certified.lifetime)
            except RunsOut:
                self._instance.client.watcher.note("the certificate ends before the services answer: taking a new one")
                continue
            complete = _complete(certified.signer, self._instance)
            bundle = _bundle(CertificateMaterial((certified.der,)), thing, signature, key, vouchers)
            return Made(bundle, signature, complete, course.public)

    def has_made(self, facts: Facts) -> bool:
        """Say no."""
        del facts
        return False

    def _certify(self, course: Course) -> tuple[EphemeralKey, Certified]:
        """Get a certificate for a new key, from the first authority that gives a good one."""
        check_token(self._token, self._audience, self._instance.clock.now(), self._place)
        key = EphemeralKey()

        def ask(service: Service, most_s: float | None) -> tuple[Certified, str]:
            client = self._instance.client
            try:
                chain, place = request_certificate(client, service.url, self._token, key, client.patience(most_s))
                course.tell_certificate(self._token.identity)
                return judge_certificate(chain, key.public, self._token, self.root, self._instance.clock.now(), place), service.url
            except SigkitError as err:
                hide_secrets(err, (self._token.raw,))
                raise

        (certified,) = course.enough(self._authorities, ask)
        return key, certified


class ServiceSignatory:
    """Signs by a key of one's own, in a certificate of one's own if there is one, and has an instance vouch for it."""

    def __init__(self, key: Signer, chain: Sequence[bytes], instance: Instance, consent: Consent, place: Place) -> None:
        """Judge the key and its certificate; nothing is sent.

        Args:
            key: that signs.
            chain: its certificate, and those above it; empty for a key alone.
            instance: that vouches.
            consent: asks the user.
            place: of the certificate.

        Raises:
            UnsupportedKey: (SIG) the logs take no such key.
            OtherKeyCertified: (BIND), UntrustedCertificate: (ROOT), and others of `judge_own_certificate`.
            NoAttestedTime: (TIME) there is a certificate, and nothing attests a time.
        """
        instance.check_key(key.public)
        own = root_of_keys([TrustedKey(OWN_KEY, key.public)], OWN_KEY)
        self.root: TrustedRoot = with_keys(instance.root, own)
        self._certified: Certified | None = None
        if chain:
            instance.check_times()
            self._certified = judge_own_certificate(chain, key.public, instance.root, instance.clock.now(), place)
        self._key = key
        self._instance = instance
        self._consent = consent
        signer = self._certified.signer if self._certified else key_signer(key.public)
        self.publishes = bool(instance.logs.count)
        self.repeats = True
        self._complete = _complete(signer, instance)

    def make(self, thing: ToSign) -> Made:
        """Sign.

        Raises:
            NotAgreed: (IDENT) nothing was sent.
            SigkitError: as `Course.vouch`.
        """
        if self._instance.logs.count:
            who = self._certified.signer.subject if self._certified else f"key {self._key.public.fingerprint}"
            self._consent(_publication(_Who(who), (), self._instance))
        signature = self._key.sign(message_of(thing))
        der = self._certified.der if self._certified else None
        # One's own certificate lives for months: services are waited for as long as they may take.
        lifetime = Lifetime(self._certified.lifetime.valid) if self._certified else ENDLESS
        course = Course(self._instance)
        vouchers = course.vouch(_logged(thing, signature, self._key, der), lifetime)
        material = CertificateMaterial((der,)) if der is not None else KeyMaterial(hint_of(self._key.public))
        return Made(_bundle(material, thing, signature, self._key, vouchers), signature, self._complete, course.public)

    def has_made(self, facts: Facts) -> bool:
        """Tell whether this signer made it, with as much beside it as would be there now."""
        return same_signer(facts, self._complete) and is_complete(facts, self._complete)


class _Who(NamedTuple):
    """The part of a publication that says who signs."""

    who: str
    issuer: str = ""
    job: str = ""
    user_name: str = ""


def _who(token: IdentityToken) -> _Who:
    return _Who(token.identity, token.issuer, token.job, token.subject if token.email and token.subject != token.email else "")


def _publication(by: _Who, authorities: Sequence[Service], instance: Instance) -> Publication:
    logs, count = instance.logs.services, instance.logs.count
    first = (*authorities[:1], *logs[:count])
    spare = (*authorities[1:], *logs[count:])
    urls = tuple(dict.fromkeys(service.url for service in first))
    others = tuple(dict.fromkeys(service.url for service in spare if service.url not in urls))
    return Publication(by.who, by.issuer, urls, others, by.job, by.user_name)


def _complete(signer: KeySigner | IdentitySigner, instance: Instance) -> Complete:
    return Complete(signer, instance.logs.count, instance.authorities.count)


def _logged(thing: ToSign, signature: bytes, key: Signer, certificate: bytes | None) -> Logged:
    if isinstance(thing, StatementToSign):
        return Logged(OverBytes(message_of(thing)), signature, thing.payload, key.public, certificate)
    return Logged(OverArtifact(Artifact.of_content(thing.content)), signature, None, key.public, certificate)


def _bundle(material: Material, thing: ToSign, signature: bytes, key: Signer, vouchers: Vouchers) -> bytes:
    return write_bundle(Bundle(V03, material, content_of(thing, signature, key.public), vouchers.entries, vouchers.timestamps))
