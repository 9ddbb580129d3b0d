"""Keys, facts and requests made by hand, for tests of what policy and gate make of them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from sigkit.digest import Digest
from sigkit.errors import Place
from sigkit.evidence.form import Form
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.keys.private import PrivateKey, generate
from sigkit.oci.descriptor import Platform
from sigkit.oci.reference import parse_reference
from sigkit.policy.decision import Request
from sigkit.policy.load import parse_policy
from sigkit.policy.model import Policy
from sigkit.trust.root import TrustedKey, TrustedRoot, root_of_keys
from sigkit.verify.facts import Facts, KeySigner, SignatureFact, SignerFact, Source

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
REPOSITORY = "registry.example/acme/app"
LINUX = Platform("linux", "amd64")
IMAGE = Digest.of(b"manifest")


@cache
def private(name: str) -> PrivateKey:
    """Give the private key that tests call `name`: the same within one run."""
    return generate("ed25519" if name.startswith("ed") else "ecdsa-p256")


def trusted(name: str) -> TrustedKey:
    return TrustedKey(name, private(name).public)


def root(*names: str) -> TrustedRoot:
    return root_of_keys([trusted(name) for name in names], "test")


def policy(rules: str, *keys: str, name: str = "policy.yaml") -> Policy:
    """Load a policy: `rules` is the text below `rules:`; keys are those of `trusted`, in files of their names."""
    named = "".join(f"  {key}: {{file: {key}.pub}}\n" for key in keys)
    head = "apiVersion: sigkit.dev/v1alpha1\nkind: Policy\n"
    text = f"{head}keys:\n{named}rules:\n{rules}" if keys else f"{head}rules:\n{rules}"
    return parse_policy(text.encode(), Place.operator(name), read_key)


def read_key(path: str) -> bytes:
    return private(path.removesuffix(".pub")).public.encode_pem()


def request(
    reference: str = f"{REPOSITORY}:v1", *, top: Digest = IMAGE, manifest: Digest = IMAGE, platform: Platform | None = LINUX
) -> Request:
    parsed = parse_reference(reference)
    return Request(
        reference=reference,
        repository=parsed.repository,
        tag=None if parsed.digest else parsed.tag,
        top=top,
        chain=(top,) if top == manifest else (top, manifest),
        manifest=manifest,
        config=Digest.of(b"config"),
        platform=platform,
    )


def facts(
    key: str, *, repository: str | None = REPOSITORY, predicate: str | None = PREDICATE_SIGNATURE, artifact: Digest = IMAGE, number: int = 1
) -> Facts:
    """Make the facts of one piece of evidence by the key `key`."""
    public = private(key).public
    source = Source("test", Digest.of(b"root"), key)
    return Facts(
        place=Place(f"{REPOSITORY}@{Digest.of(f'{key}{number}'.encode())}"),
        form=Form.BUNDLE,
        signature=SignatureFact(artifact, predicate, Digest.of(b"payload"), repository, {}),
        signer=SignerFact(KeySigner(public.fingerprint, public.kind, key), source),
    )


class StoppedClock:
    """A clock that a test sets."""

    def __init__(self, when: datetime = NOW) -> None:
        self.when = when

    def now(self) -> datetime:
        return self.when
