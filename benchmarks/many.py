"""Many of a kind: many images in one command, and many signatures at one image. Sections of `benchmarks.run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.measure import compare, table
from sigkit.clock import SystemClock
from sigkit.evidence.attach import attach
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.keys.load import load_private
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve
from sigkit.services.serve import running_registry
from sigkit.signing.keyed import KeySignatory, StatementToSign
from sigkit.signing.payload import statement_for
from sigkit.signing.session import sign_image
from tests.simulators.images import small_image

if TYPE_CHECKING:
    from benchmarks.run import Bench
    from sigkit.keys.private import PrivateKey

IMAGES: Final = 200
SIGNATURES: Final = (10, 100, 1_000)
ROUNDS: Final = 3


def many(bench: Bench, count: int = IMAGES) -> str:
    """Verify many images in one process, beside a loop of cosign."""
    key, clock = _key(bench), SystemClock()
    images = [f"{bench.registry}/bench/many:{number}" for number in range(count)]
    with open_registry(RegistryOptions()) as client:
        for image in images:
            reference = parse_reference(image)
            small_image(image.encode()).push(client, reference.repository, image.rpartition(":")[2])
            sign_image(client, resolve(client, reference), KeySignatory(key), {}, clock)
    (bench.home / "images.txt").write_text("\n".join(images), encoding="utf-8")
    one = f"cosign verify --key {bench.home}/bench.pub --insecure-ignore-tlog"
    loop = f'for number in $(seq 0 {count - 1}); do {one} "{bench.registry}/bench/many:$number" || exit 1; done'
    rows = compare(
        [
            bench.sigkit("sigkit verify -f", "verify", "--key", "bench.pub", "-f", "images.txt"),
            bench.peers("a loop of cosign verify", "sh", "-c", loop),
        ],
        rounds=ROUNDS,
    )
    goal = "at most a sixth of the time, at most 120 MB"
    return table(f"{count} signed images, docker-registry on loopback", rows, "a loop of cosign verify", goal)


def thousand(bench: Bench, sizes: tuple[int, ...] = SIGNATURES) -> str:
    """Verify images with many signatures by others, on sigkit's registry, which lists referrers in pages."""
    with running_registry(bench.home / "many-signatures") as address:
        images = {size: _signed_by_many(bench, address, size) for size in sizes}
        fixed = ("--key", str(bench.home / "bench.pub"), "--insecure-ignore-tlog")
        rows = compare(
            [
                *(bench.sigkit(f"sigkit verify, {size} signatures", "verify", "--key", "bench.pub", images[size]) for size in sizes),
                *(bench.peers(f"cosign verify, {size} signatures", "cosign", "verify", *fixed, images[size]) for size in sizes),
            ],
            rounds=ROUNDS,
        )
    title = "An image with many signatures of which the last is the right one, sigkit's registry on loopback"
    return table(title, rows, f"cosign verify, {sizes[-1]} signatures", "bounded memory, time linear in signatures")


def _signed_by_many(bench: Bench, address: str, size: int) -> str:
    """Push an image with a signature by each of so many keys, the one that is trusted last, and return its name."""
    repository, clock = Repository(address, f"bench/signed-{size}"), SystemClock()
    with open_registry(RegistryOptions()) as client:
        small_image().push(client, repository, "1")
        resolved = resolve(client, parse_reference(f"{repository}:1"))
        thing = StatementToSign(statement_for(resolved, {}).encode({}))
        for signer in (*(generate("ecdsa-p256") for _ in range(size - 1)), _key(bench)):
            attach(client, resolved, KeySignatory(signer).make(thing).bundle, PREDICATE_SIGNATURE, clock.now())
    return f"{repository}:1"


def _key(bench: Bench) -> PrivateKey:
    return load_private(str(bench.home / "bench.key"), lambda: "bench")
