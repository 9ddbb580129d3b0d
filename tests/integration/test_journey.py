"""The main job by hand: the demo's eight steps, typed one by one, against sigkit's own registry and Debian's docker-registry."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from sigkit.runtime.create import can_run
from tests.simulators.hand import Hand, leftovers

if TYPE_CHECKING:
    from pathlib import Path

starts = pytest.mark.skipif(bool(can_run()), reason=f"no container starts here: {can_run()}")


class Setting(NamedTuple):
    """A hand, a registry with an unsigned image, a key and a policy."""

    hand: Hand
    registry: str
    storage: Path
    image: str
    digest: str


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate a key pair once, for it costs a key's derivation; each test has a copy."""
    directory = tmp_path_factory.mktemp("pair")
    Hand(directory)("key", "generate", "--output-key-prefix", "release")
    return directory


@pytest.fixture(params=["embedded", pytest.param("docker-registry", marks=pytest.mark.peers)])
def setting(request, tmp_path, pair):
    hand = Hand(tmp_path)
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True)
    if request.param == "embedded":
        with hand.registry() as address:
            yield prepared(hand, address, tmp_path / "registry")
    else:
        running = request.getfixturevalue("docker_registry")
        yield prepared(hand, running.address, running.storage)


def prepared(hand: Hand, address: str, storage: Path) -> Setting:
    image = f"{address}/demo/hello:1.0"
    digest = hand.image("image", "hello from inside")
    hand("copy", "oci:image", image)
    hand.policy(address)
    return Setting(hand, address, storage, image, digest)


def stored_file(storage: Path, content: bytes) -> Path:
    return next(
        path for path in storage.rglob("*") if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
    )


@pytest.mark.alone
def test_an_unsigned_image_is_refused_with_the_reason_and_the_command_that_would_make_it_pass(setting):
    before = leftovers()
    done = setting.hand("run", "--policy", "policy.yaml", setting.image, status=122)
    assert "sigkit sign --key" in done.err
    assert "hello from inside" not in done.out
    assert leftovers() <= before
    assert '"allow"' not in setting.hand.audit()


@starts
@pytest.mark.alone
def test_a_signed_image_starts_in_its_own_namespaces(setting):
    setting.hand("sign", "--key", "release.key", setting.image)
    before = leftovers()
    done = setting.hand("run", "--policy", "policy.yaml", setting.image)
    assert "hello from inside" in done.out
    assert "I am PID 1 " in done.out
    assert "I see 1 process(es)" in done.out
    assert leftovers() <= before
    assert setting.digest in setting.hand.audit()


def test_signing_shows_in_the_tree_and_twice_adds_nothing(setting):
    first = setting.hand.json("sign", "--key", "release.key", setting.image)
    again = setting.hand.json("sign", "--key", "release.key", setting.image)
    assert (first["added"], again["added"]) == (True, False)
    tree = setting.hand.json("tree", setting.image)
    assert len(tree["attached"]) == 1
    assert tree["digest"] == setting.digest
    other = setting.hand.json("sign", "--key", "release.key", "-a", "build=7", setting.image)
    assert other["added"]
    assert len(setting.hand.json("tree", setting.image)["attached"]) == 2


def test_verify_shows_what_was_proved_and_what_was_not(setting):
    setting.hand("sign", "--key", "release.key", setting.image)
    done = setting.hand("verify", "--key", "release.pub", setting.image)
    assert done.out.startswith("verified")
    assert setting.digest in done.out
    assert "unchecked" in done.out
    document = setting.hand.json("verify", "--key", "release.pub", setting.image)
    assert document["schema"] == "sigkit.decision/1"
    assert document["outcome"] == "allow"


def test_another_key_is_refused_and_a_missing_one_is_a_usage_error(setting):
    setting.hand("sign", "--key", "release.key", setting.image)
    setting.hand("key", "generate", "--output-key-prefix", "other")
    refused = setting.hand("verify", "--key", "other.pub", setting.image, status=1)
    assert "SK-POLICY-" in refused.err + refused.out
    setting.hand("verify", "--key", "nosuch.pub", setting.image, status=2)


def test_verify_without_key_identity_or_policy_names_the_choices(setting):
    done = setting.hand("verify", setting.image, status=2)
    for choice in ("--key", "--policy"):
        assert choice in done.err


def test_a_moved_tag_and_a_copied_signature_are_refused(setting):
    setting.hand("sign", "--key", "release.key", setting.image)
    setting.hand.image("tampered", "tampered")
    setting.hand("copy", "oci:tampered", setting.image)
    moved = setting.hand("run", "--policy", "policy.yaml", setting.image, status=122)
    assert "tampered" not in moved.out
    other = f"{setting.registry}/demo/other:1.0"
    setting.hand("copy", f"{setting.registry}/demo/hello@{setting.digest}", other)
    copied = setting.hand("run", "--policy", "policy.yaml", other, status=122)
    assert "demo/hello" in copied.err
    assert '"allow"' not in setting.hand.audit()


@pytest.mark.alone
def test_a_changed_byte_of_a_layer_is_refused_and_nothing_is_left(setting):
    setting.hand("sign", "--key", "release.key", setting.image)
    manifest = json.loads((setting.hand.home / "image" / "blobs" / setting.digest.replace(":", "/")).read_bytes())
    layer = (setting.hand.home / "image" / "blobs" / manifest["layers"][0]["digest"].replace(":", "/")).read_bytes()
    path = stored_file(setting.storage, layer)
    changed = bytearray(layer)
    changed[len(layer) // 2] ^= 1
    path.write_bytes(changed)
    before = leftovers()
    done = setting.hand("run", "--policy", "policy.yaml", setting.image, status=122)
    assert "SK-DIGEST-002" in done.err
    assert "hello from inside" not in done.out
    assert leftovers() <= before
    assert not list((setting.hand.home / "store").rglob("hello"))
    blobs = [p for p in (setting.hand.home / "store").rglob("*") if p.is_file() and p.stat().st_size == len(layer)]
    assert not [p for p in blobs if hashlib.sha256(p.read_bytes()).digest() == hashlib.sha256(changed).digest()]


def test_a_registry_that_is_down_is_could_not_check_and_not_refused(tmp_path, free_port):
    hand = Hand(tmp_path)
    hand("key", "generate", "--output-key-prefix", "release")
    hand.policy(f"127.0.0.1:{free_port}")
    image = f"127.0.0.1:{free_port}/demo/hello:1.0"
    hand("verify", "--key", "release.pub", image, status=3)
    hand("run", "--policy", "policy.yaml", image, status=123)
    assert hand.json("verify", "--key", "release.pub", image, status=3)["error"]["kind"] in {"NET", "UNAVAIL"}


def test_an_absent_tag_is_could_not_check(setting):
    setting.hand("verify", "--key", "release.pub", f"{setting.registry}/demo/hello:nosuch", status=3)


@starts
@pytest.mark.alone
def test_the_container_status_is_returned_and_missing_commands_are_127(setting):
    setting.hand("sign", "--key", "release.key", setting.image)
    run = ("run", "--key", "release.pub")
    setting.hand(*run, "--entrypoint", "/bin/sh", setting.image, "-c", "exit 41", status=41)
    setting.hand(*run, "--entrypoint", "/nosuch", setting.image, status=127)
    setting.hand(*run, "--entrypoint", "/etc/passwd", setting.image, status=126)


@starts
@pytest.mark.alone
def test_the_stdout_of_a_started_container_is_its_own_also_with_JSON(setting):
    setting.hand("sign", "--key", "release.key", setting.image)
    run = ("run", "-o", "json", "--key", "release.pub", "--entrypoint")
    assert setting.hand(*run, "/bin/sh", setting.image, "-c", "echo mine").out == "mine\n"
    missing = setting.hand(*run, "/nosuch", setting.image, status=127)
    assert missing.out == ""
    assert json.loads(missing.err)["exit"] == 127


@starts
@pytest.mark.alone
def test_a_command_beyond_the_rule_is_refused_and_not_started(setting):
    setting.hand("sign", "--key", "release.key", setting.image)
    done = setting.hand("run", "--policy", "policy.yaml", "--entrypoint", "/bin/sh", setting.image, "-c", "echo other", status=122)
    assert "other" not in done.out.split()
    setting.hand("run", "--policy", "policy.yaml", "-e", "LD_PRELOAD=/x", setting.image, status=122)
    setting.hand("run", "--policy", "policy.yaml", "-v", f"{os.sep}etc:/host", setting.image, status=122)
