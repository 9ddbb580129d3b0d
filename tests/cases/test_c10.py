"""C10, the index is signed and a child runs: an index vouches for what it names by digest, and for nothing else."""

from __future__ import annotations

import pytest

from sigkit.digest import Digest
from sigkit.errors import NoGoodSignature, NotInIndex, SizeMismatch, TooDeep, Unsigned
from sigkit.gate.admit import Covers, judge, judge_pinned
from sigkit.gate.children import pin_child
from sigkit.limits import DEFAULT, INDEX_DEPTH
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.manifest import OCI_INDEX, OCI_MANIFEST, encode_index
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import open_registry
from sigkit.policy.decision import Allow, Deny
from tests.simulators import gatehouse
from tests.simulators.gatehouse import APP, ONE_KEY
from tests.simulators.images import AMD64, ARM64, describe, push_index, small_image
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release
from tests.simulators.verdicts import policy

REPOSITORY = Repository("registry.example", "acme/app")
AMD, ARM = small_image(b"amd"), small_image(b"arm", ARM64)


@pytest.fixture
def host(tmp_path):
    yield from gatehouse.opened(tmp_path)


def push_both(host) -> Digest:
    return Digest.of(push_index(host.registry, REPOSITORY, {AMD64: AMD, ARM64: ARM}, "v1"))


def by_index(host, child: Digest, index: str = f"{APP}:v1"):
    pinned = pin_child(host.registry, parse_reference(f"{APP}@{child}"), parse_reference(index), AMD64)
    return judge_pinned(pinned, policy(ONE_KEY, "a"), host.registry, host.clock, DEFAULT).decision


def named(host, reference: str, covers: Covers = Covers.TOP):
    return judge(parse_reference(reference), AMD64, policy(ONE_KEY, "a"), host.registry, host.clock, DEFAULT, covers).decision


def nested(host, levels: int) -> str:
    """Push an image inside so many indexes, each in the next, and return the outermost."""
    image = small_image(b"inner")
    image.push(host.registry, REPOSITORY)
    raw = encode_index([describe(image.manifest, platform=AMD64)])
    for _ in range(levels - 1):
        host.registry.push_manifest(REPOSITORY, Digest.of(raw), raw, OCI_INDEX)
        raw = encode_index([describe(raw, OCI_INDEX, AMD64)])
    host.registry.push_manifest(REPOSITORY, "nested", raw, OCI_INDEX)
    return f"{APP}:nested"


def test_c10_the_child_of_a_signed_index_is_allowed_by_the_index(host):
    index = push_both(host)
    host.sign("a", f"{APP}:v1")
    decision = named(host, f"{APP}:v1", Covers.IMAGE)
    assert isinstance(decision, Allow)
    assert decision.facts[0].signature.artifact == index
    assert decision.request.chain == (index, AMD.digest)


def test_c10_the_child_of_a_signed_index_starts_and_nothing_else_of_it(host):
    index = push_both(host)
    host.sign("a", f"{APP}:v1")
    assert host.run() == 0
    admitted = host.engine.started[0]
    assert (admitted.top, admitted.manifest) == (index, AMD.digest)


def test_c10_a_signed_child_starts_though_its_index_is_unsigned(host):
    push_both(host)
    host.sign("a", f"{APP}@{AMD.digest}")
    assert host.run() == 0
    assert host.engine.started[0].manifest == AMD.digest


def test_c10_the_index_names_its_child_by_size_too(host):
    image = small_image(b"sized")
    image.push(host.registry, REPOSITORY)
    raw = encode_index([Descriptor(OCI_MANIFEST, image.digest, len(image.manifest) + 1, platform=AMD64)])
    host.registry.push_manifest(REPOSITORY, "v1", raw, OCI_INDEX)
    host.sign("a", f"{APP}:v1")
    with pytest.raises(SizeMismatch):
        by_index(host, image.digest)
    with pytest.raises(SizeMismatch):
        named(host, f"{APP}:v1")


def test_c10_the_child_by_its_own_digest_is_unsigned_until_its_index_is_named(host):
    index = push_both(host)
    host.sign("a", f"{APP}:v1")
    alone = named(host, f"{APP}@{ARM.digest}")
    assert isinstance(alone, Deny)
    assert alone.reasons[0].code == Unsigned.code
    decision = by_index(host, ARM.digest)
    assert isinstance(decision, Allow)
    assert decision.request.chain == (index, ARM.digest)


def test_c10_a_signed_child_runs_though_its_index_is_unsigned_and_the_index_is_still_refused(host):
    push_both(host)
    host.sign("a", f"{APP}@{AMD.digest}")
    assert isinstance(named(host, f"{APP}:v1", Covers.IMAGE), Allow)
    refused = named(host, f"{APP}:v1")
    assert isinstance(refused, Deny)
    assert refused.reasons[0].code in {Unsigned.code, NoGoodSignature.code}


@pytest.mark.parametrize("levels", [2, INDEX_DEPTH])
def test_c10_an_index_in_an_index_vouches_for_what_is_in_it(host, levels):
    reference = nested(host, levels)
    host.sign("a", reference)
    assert isinstance(named(host, reference), Allow)
    assert isinstance(by_index(host, small_image(b"inner").digest, reference), Allow)


def test_c10_nine_levels_are_a_limit(host):
    reference = nested(host, INDEX_DEPTH + 1)
    with pytest.raises(TooDeep):
        named(host, reference)
    with pytest.raises(TooDeep):
        by_index(host, small_image(b"inner").digest, reference)


def test_c10_a_child_swapped_into_a_copy_of_the_index_is_refused(host):
    push_both(host)
    host.sign("a", f"{APP}:v1")
    swapped = small_image(b"swapped", ARM64)
    push_index(host.registry, REPOSITORY, {AMD64: AMD, ARM64: swapped}, "v1")
    decision = by_index(host, swapped.digest)
    assert isinstance(decision, Deny)
    with pytest.raises(NotInIndex):
        by_index(host, ARM.digest)


@pytest.fixture
def release(tmp_path):
    with MisbehavingRegistry() as registry:
        made = Release.prepare(tmp_path, registry.address)
        with open_registry(RegistryOptions()) as client:
            push_index(client, Repository(made.address, "t/app"), {AMD64: AMD, ARM64: ARM}, "multi")
        assert made.sigkit("sign", "--key", "K.key", f"{made.address}/t/app:multi").status == 0
        yield made


def verify(release: Release, *arguments: str):
    return release.sigkit("verify", "--key", "K.pub", *arguments)


def test_c10_a_refused_child_is_told_of_indexes_and_the_accepted_one_of_its_own_in_either_form(release):
    child, index = f"{release.address}/t/app@{ARM.digest}", f"{release.address}/t/app:multi"
    alone = verify(release, child)
    assert alone.status == 1
    assert "--index INDEX" in alone.out
    answer = verify(release, "--output", "json", child).answer
    assert (answer["acceptedBy"], answer["reasons"][0]["code"]) == ([], Unsigned.code)
    assert answer["hints"] == ["name-the-index"]

    done = verify(release, "--index", index, child)
    assert done.status == 0
    assert "  by index  " in done.out
    answer = verify(release, "--output", "json", "--index", index, child).answer
    assert answer["hints"] == []
    assert answer["acceptedBy"] == [answer["request"]["top"]]
    assert answer["request"]["manifest"] == str(ARM.digest)
    assert verify(release, "--platform", "linux/arm64", "--output", "json", index).answer["acceptedBy"] == answer["acceptedBy"]
