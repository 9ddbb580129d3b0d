"""C16 where trust roots are fetched: what cannot be kept serves this once, and that is said."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sigkit.evidence.attach import attach
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve
from tests.simulators.command import SIGKIT
from tests.simulators.misbehaving_registry import MisbehavingRegistry, MisbehavingServer
from tests.simulators.release import Release
from tests.simulators.sigstore import Simulator
from tests.simulators.trusting import NAME, WHO, fetch, pin_only, publish

SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
# Makes one directory read-only for the command that follows, as an image's file system is.
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


class Host:
    """A host without a home, on which an image is verified by a root whose directory is read-only."""

    def __init__(self, directory: Path, release: Release, sim: Simulator) -> None:
        self.trust = directory / "trust"
        self.release, self.sim = release, sim
        self.directory = directory

    def verify(self) -> subprocess.CompletedProcess[str]:
        line = ["unshare", "--mount", "sh", "-c", READ_ONLY, str(self.directory), *SIGKIT, "verify", *WHO, "--trusted-root", NAME]
        environment = {"PATH": os.environ["PATH"], "SIGKIT_TRUST": str(self.trust), "TMPDIR": str(self.directory)}
        before = self.files()
        line.append(self.release.reference)
        done = subprocess.run(line, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert self.files() == before
        assert "SK-SIG" not in done.stdout + done.stderr
        return done

    def files(self) -> list[tuple[str, bytes]]:
        return sorted((str(path), path.read_bytes()) for path in self.directory.rglob("*") if path.is_file())


@pytest.fixture
def host(tmp_path):
    probe = ["unshare", "--mount", "sh", "-c", READ_ONLY, str(tmp_path), "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no read-only file system can be made here")
    (tmp_path / "release").mkdir()
    (tmp_path / "host").mkdir()
    sim = Simulator()
    with MisbehavingRegistry() as registry:
        release = Release.prepare(tmp_path / "release", registry.address)
        with open_registry(RegistryOptions()) as client:
            resolved = resolve(client, parse_reference(release.reference))
            name = str(resolved.repository)
            subject = {"name": name, "digest": {"sha256": resolved.digest.hex}, "annotations": {"sigkit.dev/repository": name}}
            sim.change["statement"] = lambda document: {**document, "subject": [subject], "predicateType": SIGNATURE}
            attach(client, resolved, sim.make("dsse", ("dsse",)).parts["bundle"], SIGNATURE, datetime.now(UTC))
        yield Host(tmp_path / "host", release, sim)


def test_c16a_fresh_metadata_is_used_where_it_cannot_be_written_and_that_is_said(host):
    fetch(publish(host.sim), host.trust)
    done = host.verify()
    assert done.returncode == 0, done.stderr
    assert f"trusted root {NAME}: checked" in done.stderr
    assert "its directory cannot be written" in done.stderr


def test_c16b_nothing_there_and_the_mirror_up_it_is_fetched_for_this_once(host):
    tuf = publish(host.sim)
    with MisbehavingServer(tuf) as mirror:
        pin_only(tuf, host.trust, mirror.url)
        done = host.verify()
    assert done.returncode == 0, done.stderr
    assert "cannot be kept" in done.stderr


def test_c16c_nothing_there_and_the_mirror_down_it_could_not_be_checked(host):
    tuf = publish(host.sim)
    with MisbehavingServer(tuf) as mirror:
        pin_only(tuf, host.trust, mirror.url)
    done = host.verify()
    assert done.returncode == 3


@pytest.mark.root
def test_c16d_what_another_user_wrote_is_not_used_and_that_is_said(host):
    fetch(publish(host.sim), host.trust)
    os.chown(host.trust / NAME / "cache.json", 12345, 12345)
    done = host.verify()  # its mirror is gone
    assert done.returncode == 3
    assert "belongs to another user" in done.stderr
