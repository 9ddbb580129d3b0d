"""What cosign 3 writes sigkit verifies at the command line, and cosign what sigkit writes: each kind of key, form, thing and registry.

A cell is a test. What is signed together costs one start of cosign, which cells of one key and form share; each cell is judged by both
programs, and must be refused with another key. Predicates, names, other clients and odd bundles stand in the other files about cosign.
"""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from sigkit.cli.main import run
from sigkit.digest import Digest
from sigkit.evidence.form import Form
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.referrers import fallback_tag
from sigkit.oci.registry import open_registry
from sigkit.services.serve import running_registry
from tests.simulators import peer_root
from tests.simulators.cosign import KINDS, OLDER_FORM, PLAIN_HTTP, READ_OLDER, Cosign, make_key
from tests.simulators.images import AMD64, ARM64, push_index, small_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peers

REGISTRIES: Final = ("referrers-api", "fallback-tag")
THINGS: Final = ("image", "index", "attestation")
FILES: Final = ("file", "file-attestation")
TYPE: Final = ("--type", "cyclonedx")
ATTESTED: Final = (*TYPE, "--predicate", "predicate.json")
CONTENT: Final = b"some content"


class Written(NamedTuple):
    """How cosign is made to write a form, and to read it."""

    flags: tuple[str, ...]
    reading: tuple[str, ...] = ()
    env: dict[str, str] = {}  # noqa: RUF012 - read only
    things: tuple[str, ...] = THINGS
    files: tuple[str, ...] = FILES


FORMS: Final = {
    "bundle": Written(()),
    "older": Written(OLDER_FORM, (READ_OLDER,)),
    # The older form as a referrer: for signatures of images alone.
    "older-referrer": Written(
        (*OLDER_FORM, "--registry-referrers-mode=oci-1-1"),
        (READ_OLDER, "--experimental-oci11"),
        {"COSIGN_EXPERIMENTAL": "1"},
        ("image",),
        (),
    ),
}
HELD_AS: Final = {
    ("bundle", "image"): Form.BUNDLE,
    ("bundle", "index"): Form.BUNDLE,
    ("bundle", "attestation"): Form.BUNDLE,
    ("bundle", "file"): Form.BUNDLE,
    ("bundle", "file-attestation"): Form.BUNDLE,
    ("older", "image"): Form.SIMPLE_SIGNING,
    ("older", "index"): Form.SIMPLE_SIGNING,
    ("older", "attestation"): Form.ENVELOPE,
    ("older", "file"): Form.BLOB_SIGNATURE,
    ("older", "file-attestation"): Form.ENVELOPE,
    ("older-referrer", "image"): Form.SIMPLE_SIGNING,
}
_PH: Final = "cosign signs with Ed25519ph and verifies pure Ed25519 alone"
_HASH: Final = "cosign signs with the curve's hash; of files in the older form it verifies SHA-256 whatever it is told"
# What cosign writes and cannot verify itself, and why; it is good evidence, and sigkit verifies it.
NOT_BY_COSIGN: Final = {
    **{("ed25519", "bundle", thing): _PH for thing in (*THINGS, "file-attestation")},
    ("ed25519", "bundle", "file"): "cosign signs pure Ed25519 here, writes no digest of the file beside it, and asks for one",
    **{("ed25519", "older", thing): _PH for thing in (*THINGS, "file-attestation")},
    ("ed25519", "older-referrer", "image"): _PH,
    **{(kind, "older", thing): _HASH for kind in ("ecdsa-p384", "ecdsa-p521") for thing in FILES},
}


class Shelf:
    """Both registries, a key of each kind, and what was signed with it so far."""

    def __init__(self, peer: peer_root.PeerRoot, home: Path, addresses: dict[str, str]) -> None:
        self._peer, self._home, self._addresses = peer, home, addresses
        self.by_cosign = cache(self._by_cosign)
        self.files_by_cosign = cache(self._files_by_cosign)
        self.by_sigkit = cache(self._by_sigkit)
        self.cosign = cache(self._cosign)

    def _cosign(self, kind: str) -> Cosign:
        home = self._home / kind
        home.mkdir()
        (home / "predicate.json").write_text('{"bomFormat":"CycloneDX","specVersion":"1.5"}')
        (home / "file.txt").write_bytes(CONTENT)
        Cosign(self._peer, home, generate("ecdsa-p256"), "other")
        return Cosign(self._peer, home, make_key(kind))

    def _push(self, name: str) -> dict[tuple[str, str], str]:
        """Push an image to sign, an index, and an image to attest into both registries, and return their pinned references."""
        found = {}
        with open_registry(RegistryOptions()) as client:
            for registry, address in self._addresses.items():
                repository = Repository(address, name)
                for thing in ("image", "attestation"):
                    found[registry, thing] = f"{repository}@{small_image(f'{name} {thing}'.encode()).push(client, repository, thing)}"
                pair = {AMD64: small_image(b"amd"), ARM64: small_image(name.encode(), ARM64)}
                found[registry, "index"] = f"{repository}@{Digest.of(push_index(client, repository, pair, 'index'))}"
        return found

    def _by_cosign(self, kind: str, form: str) -> dict[tuple[str, str], str]:
        cosign, written, pushed = self.cosign(kind), FORMS[form], self._push(f"theirs/{kind}-{form}")
        signed = [pinned for (_, thing), pinned in pushed.items() if thing != "attestation" and thing in written.things]
        cosign.makes("sign", *written.flags, PLAIN_HTTP, "-a", "build=7", *signed, **written.env)
        if "attestation" in written.things:
            cosign.makes("attest", *written.flags, PLAIN_HTTP, *ATTESTED, *(pushed[registry, "attestation"] for registry in REGISTRIES))
        return pushed

    def _files_by_cosign(self, kind: str, form: str, thing: str) -> str:
        cosign, name = self.cosign(kind), f"{form}-{thing}.json"
        attested = ("attest-blob", *ATTESTED) if thing == "file-attestation" else ("sign-blob",)
        cosign.makes(attested[0], *FORMS[form].flags, *attested[1:], "--bundle", name, "file.txt")
        return name

    def _by_sigkit(self, kind: str) -> dict[tuple[str, str], str]:
        pushed, key = self._push(f"ours/{kind}"), ("--key", "release.plain")
        signs, attests = ("sign", *key, "-a", "build=7"), ("attest", *key, *ATTESTED)
        # Side by side: where referrers are listed under a tag, each waits to see that nobody took its entry away.
        with redirect_stderr(io.StringIO()) as said, ThreadPoolExecutor(len(pushed)) as pool:
            commands = [[*(attests if thing == "attestation" else signs), pinned] for (_, thing), pinned in pushed.items()]
            ended = list(pool.map(run, commands))
        assert set(ended) == {0}, said.getvalue()
        return pushed


@pytest.fixture(scope="module")
def shelf(peer, tmp_path_factory) -> Iterator[Shelf]:
    """Serve a registry that has the referrers API, and one that lists referrers under a tag."""
    home = tmp_path_factory.mktemp("matrix")
    with running_registry(home / "api") as ours, peer_root.docker_registry(peer, home) as theirs:
        yield Shelf(peer, home, {"referrers-api": ours, "fallback-tag": theirs.address})


@pytest.fixture
def judged(shelf, capsys, monkeypatch):
    """Return a function that asks sigkit with the key, and with another, and returns the facts."""

    def ask(kind: str, command: str, *args: str):
        monkeypatch.chdir(shelf.cosign(kind).home)
        asking = [command, "--output", "json", *args]
        assert run([*asking, "--key", "other.pub"]) == 1
        capsys.readouterr()
        status = run([*asking, "--key", "release.pub"])
        answer = json.loads(capsys.readouterr().out)
        assert status == 0, answer
        (facts,) = answer["facts"]
        assert facts["signer"]["signer"]["kind"] == kind
        assert (answer["refused"], facts["unchecked"]) == ([], [])
        return facts

    return ask


def verifying(thing: str) -> tuple[str, ...]:
    """Return the command, which both programs have, and what to ask for."""
    return {
        "image": ("verify", "-a", "build=7"),
        "index": ("verify", "-a", "build=7"),
        "attestation": ("verify-attestation", *TYPE),
        "file": ("verify-blob",),
        "file-attestation": ("verify-blob-attestation", *TYPE),
    }[thing]


@pytest.mark.parametrize("registry", REGISTRIES)
@pytest.mark.parametrize(("form", "thing"), [(form, thing) for form, written in FORMS.items() for thing in written.things])
@pytest.mark.parametrize("kind", KINDS)
def test_sigkit_verifies_what_cosign_attached(shelf, judged, kind, form, thing, registry):
    pinned = shelf.by_cosign(kind, form)[registry, thing]
    facts = judged(kind, *verifying(thing), pinned)
    assert (facts["form"], facts["signature"]["artifact"]) == (HELD_AS[form, thing].value, pinned.partition("@")[2])
    command, *asked = verifying(thing)
    done = shelf.cosign(kind).asked(command, *FORMS[form].reading, PLAIN_HTTP, *asked, pinned)
    assert (done.returncode != 0) is ((kind, form, thing) in NOT_BY_COSIGN), done.stderr


@pytest.mark.parametrize(("form", "thing"), [(form, thing) for form, written in FORMS.items() for thing in written.files])
@pytest.mark.parametrize("kind", KINDS)
def test_sigkit_verifies_what_cosign_wrote_beside_a_file(shelf, judged, kind, form, thing):
    bundle = shelf.files_by_cosign(kind, form, thing)
    facts = judged(kind, *verifying(thing), "--bundle", bundle, "file.txt")
    assert (facts["form"], facts["signature"]["artifact"]) == (HELD_AS[form, thing].value, str(Digest.of(CONTENT)))
    assert run([*verifying(thing), "--key", "release.pub", "--bundle", bundle, "predicate.json"]) == 1
    command, *asked = verifying(thing)
    done = shelf.cosign(kind).asked(command, *FORMS[form].reading, *asked, "--bundle", bundle, "file.txt")
    assert (done.returncode != 0) is ((kind, form, thing) in NOT_BY_COSIGN), done.stderr


@pytest.mark.parametrize("registry", REGISTRIES)
@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_cosign_verifies_what_sigkit_attached(shelf, judged, monkeypatch, kind, thing, registry):
    cosign = shelf.cosign(kind)
    monkeypatch.chdir(cosign.home)
    pinned = shelf.by_sigkit(kind)[registry, thing]
    judged(kind, *verifying(thing), pinned)
    command, *asked = verifying(thing)
    done = cosign.asked(command, PLAIN_HTTP, *asked, pinned)
    assert done.returncode == 0, done.stderr
    repository, _, digest = pinned.partition("@")
    with open_registry(RegistryOptions()) as client:
        address, _, path = repository.partition("/")
        tag = fallback_tag(Digest("sha256", bytes.fromhex(digest.removeprefix("sha256:"))))
        assert (client.fetch_manifest(Repository(address, path), tag) is None) is (registry == "referrers-api")


@pytest.mark.parametrize("form", ["bundle", "detached"])
@pytest.mark.parametrize("kind", KINDS)
def test_cosign_verifies_what_sigkit_signs_of_a_file(shelf, judged, monkeypatch, kind, form):
    cosign = shelf.cosign(kind)
    monkeypatch.chdir(cosign.home)
    assert run(["sign-blob", "--key", "release.plain", "--bundle", "ours.json", "--output-signature", "ours.sig", "file.txt"]) == 0
    how = ("--bundle", "ours.json") if form == "bundle" else ("--signature", "ours.sig")
    judged(kind, "verify-blob", *how, "file.txt")
    reading = () if form == "bundle" else (READ_OLDER,)
    done = cosign.asked("verify-blob", *reading, *how, "file.txt")
    assert done.returncode == 0, done.stderr
    assert cosign.asked("verify-blob", *reading, *how, "predicate.json").returncode == 1


@pytest.mark.parametrize("kind", KINDS)
def test_cosign_verifies_what_sigkit_attests_of_a_file(shelf, judged, monkeypatch, kind):
    cosign = shelf.cosign(kind)
    monkeypatch.chdir(cosign.home)
    assert run(["attest-blob", "--key", "release.plain", *ATTESTED, "--bundle", "ours-attested.json", "file.txt"]) == 0
    judged(kind, "verify-blob-attestation", *TYPE, "--bundle", "ours-attested.json", "file.txt")
    done = cosign.asked("verify-blob-attestation", *TYPE, "--bundle", "ours-attested.json", "file.txt")
    assert done.returncode == 0, done.stderr
    assert cosign.asked("verify-blob-attestation", "--type", "vuln", "--bundle", "ours-attested.json", "file.txt").returncode == 1


def test_no_cell_is_missing():
    cells = {(form, thing) for form in ("bundle", "older") for thing in (*FORMS[form].things, *FORMS[form].files)}
    assert cells == {
        (form, thing) for form in ("bundle", "older") for thing in ("image", "index", "attestation", "file", "file-attestation")
    }
    assert set(KINDS) == {"ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa"}
    assert set(HELD_AS) == {(form, thing) for form, written in FORMS.items() for thing in (*written.things, *written.files)}
