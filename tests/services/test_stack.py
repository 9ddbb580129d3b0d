"""A stack's directory: made whole or not at all, owned by one process, served without the keys that stay offline."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from sigkit import durable
from sigkit.clock import SystemClock
from sigkit.errors import (
    EXIT_USAGE,
    AddressUnusable,
    DatabaseUnusable,
    FileUnreadable,
    FileUnwritable,
    LockTimeout,
    LogDamaged,
    NoStack,
    NoStackFile,
    OriginalServed,
    OriginalUnknown,
    OtherStackVersion,
    Place,
    PlainHttpRefused,
    StackExists,
    TlsFailed,
    UrlRefused,
    WrongShape,
)
from sigkit.keys.private import generate
from sigkit.services.serve import running_registry
from sigkit.services.stack import layout
from sigkit.services.stack.backup import make_backup
from sigkit.services.stack.beside import beside
from sigkit.services.stack.restore import Said
from sigkit.services.stack.run import running_stack
from sigkit.services.stack.space import low_space
from sigkit.services.stack.status import Due, Expiry, Renewal, Status, describe, encode, first, first_by_hand, read_status
from sigkit.services.tls import Tls
from sigkit.strict import encode_base64
from tests.simulators import stacks
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply
from tests.simulators.trusting import FixedClock

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]


def entry_request() -> dict[str, Any]:
    """Return what a client sends to have a signature logged."""
    key = generate("ecdsa-p256")
    verifier = {"publicKey": {"rawBytes": encode_base64(key.public.spki)}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    signature = {"content": encode_base64(key.sign(b"after")), "verifier": verifier}
    return {"hashedRekordRequestV002": {"digest": encode_base64(hashlib.sha256(b"after").digest()), "signature": signature}}


def certificate_request(stack: stacks.Stack) -> dict[str, Any]:
    """Return what a workload sends to have a key certified."""
    key = generate("ecdsa-p256")
    proof = encode_base64(key.sign(stacks.WORKLOAD.encode()))
    asked = {"publicKey": {"content": key.public.encode_pem().decode()}, "proofOfPossession": proof}
    return {"credentials": {"oidcIdentityToken": stack.token()}, "publicKeyRequest": asked}


INIT = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from pathlib import Path
from tests.simulators.stacks import make
make(Path(sys.argv[1]), url="http://127.0.0.1:20001", offline=Path(sys.argv[2]) if sys.argv[2:] else None)
"""


class Usage(NamedTuple):
    """Of a disk, as `shutil.disk_usage` gives it."""

    total: int
    used: int
    free: int


class MovedClock:
    """The wall clock, moved."""

    def __init__(self, **by: float) -> None:
        self.by = timedelta(**by)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return stacks.make(tmp_path_factory.mktemp("made") / "stack")


@pytest.fixture
def stack(made, tmp_path):
    """A stack of the test's own: a copy, which is quicker than making one."""
    shutil.copytree(made.directory, tmp_path / "a stack")
    return stacks.Stack(tmp_path / "a stack", made.url)


def tree(directory: Path) -> dict[str, int]:
    return {str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}


# --- making


def test_what_is_made_is_the_owners_alone(made):
    found = tree(made.directory)
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o700
    assert {mode for path, mode in found.items() if (made.directory / path).is_dir()} == {0o700}
    keys = {path for path in found if path.endswith((".key", ".pem")) and "chain" not in path and "root.pem" not in path}
    assert len(keys) >= 11
    assert {found[path] for path in keys} == {0o600}


def test_offline_keys_can_be_made_elsewhere_and_are_nowhere_else(tmp_path):
    stack = stacks.make(tmp_path / "stack", offline=tmp_path / "usb")
    names = set(tree(tmp_path / "usb"))
    assert {"ca-root.key", "tsa-root.key"} < names
    assert len([name for name in names if name.startswith(("tuf-root-", "tuf-targets-"))]) == 2
    assert not (stack.directory / "offline").exists()
    secrets = {path.read_bytes() for path in (tmp_path / "usb").glob("*.key")} | {
        path.read_bytes() for path in (tmp_path / "usb").glob("tuf-*")
    }
    assert not [path for path in stack.directory.rglob("*") if path.is_file() and path.read_bytes() in secrets]


def test_a_stack_is_served_without_its_offline_keys(stack):
    shutil.rmtree(stack.directory / "offline")
    with running_stack(str(stack.directory), clock=MovedClock(days=10)):  # so that TUF's metadata has to be signed again
        assert stack.call("GET", "/healthz") == (200, b'{"status":"SERVING"}')
        assert json.loads(stack.call("GET", "/tuf/timestamp.json")[1])["signed"]["version"] == 2


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v2/log/entries"), ("POST", "/api/v2/signingCert")])
def test_a_stack_one_of_whose_logs_has_to_be_opened_anew_says_so(stack, monkeypatch, caplog, method, path):
    monkeypatch.setattr(durable, "_passages", {})
    with running_stack(str(stack.directory)):
        monkeypatch.setenv("SIGKIT_FAILPOINTS", "log.journal.sync=eio")
        body = entry_request() if "entries" in path else certificate_request(stack)
        assert stack.call(method, path, json.dumps(body).encode())[0] == 503
        assert stack.call("GET", "/healthz") == (503, b'{"status":"NOT_SERVING"}')
    [line] = caplog.messages
    assert ("SK-UNAVAIL-043" in line, "127.0.0.1/ct" in line) == (True, "entries" not in path)


def test_clients_are_handed_documents_that_name_one_service_of_each_kind(made):
    config = json.loads(made.client("signing_config.json").read_text())
    assert [[item["url"] for item in config[name]] for name in ("caUrls", "oidcUrls", "rekorTlogUrls", "tsaUrls")] == [
        [made.url],
        [made.url],
        [made.url],
        [f"{made.url}/api/v1/timestamp"],
    ]
    root = json.loads(made.client("trusted_root.json").read_text())
    assert [len(root[name]) for name in ("tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities")] == [1, 1, 1, 1]
    both = json.loads(made.client("trust_config.json").read_text())
    assert (both["trustedRoot"], both["signingConfig"]) == (root, config)
    assert json.loads(made.client("root.json").read_text())["signed"]["_type"] == "root"


def test_an_empty_directory_is_taken(tmp_path):
    (tmp_path / "stack").mkdir()
    stacks.make(tmp_path / "stack")
    assert (tmp_path / "stack" / "stack.json").exists()


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("there", ["stack", "file in it", "not a directory", "offline"])
def test_what_is_there_already_is_refused_and_left_as_it_is(stack, tmp_path, there):
    target, offline = tmp_path / "target", None
    match there:
        case "stack":
            target = stack.directory
        case "file in it":
            target.mkdir()
            (target / "precious").write_text("x")
        case "not a directory":
            target.write_text("x")
        case _:
            offline = stack.directory / "offline"
    before = snapshot(tmp_path)
    with pytest.raises(StackExists) as caught:
        stacks.make(target, offline=offline)
    assert caught.value.status() == EXIT_USAGE
    assert caught.value.remedy
    if there == "stack":
        assert shlex.split(caught.value.remedy.partition(",")[0]) == ["sigkit", "stack", "status", str(target)]
    assert snapshot(tmp_path) == before


def test_offline_keys_inside_the_stack_are_refused(tmp_path):
    with pytest.raises(StackExists):
        stacks.make(tmp_path / "stack", offline=tmp_path / "stack" / "keys")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inside", ["stack", "offline", "offline through a link"])
def test_nothing_is_made_inside_another_stack(stack, tmp_path, inside):
    (tmp_path / "link").symlink_to(stack.directory)
    before = snapshot(tmp_path)
    within = (tmp_path / "link" if "link" in inside else stack.directory) / "keys" / "x"
    with pytest.raises(StackExists) as caught:
        stacks.make(within if inside == "stack" else tmp_path / "new", offline=None if inside == "stack" else within)
    assert (caught.value.got, caught.value.status()) == (str(stack.directory), EXIT_USAGE)
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_a_half_made_directory_is_recognised_with_the_next_step(stack):
    (stack.directory / "stack.json").unlink()
    for act in (lambda: stacks.make(stack.directory), lambda: layout.load_config(str(stack.directory))):
        with pytest.raises(NoStack) as caught:
            act()
        assert "not whole" in caught.value.problem
        assert "backup" in caught.value.remedy
    with pytest.raises(NoStack), running_stack(str(stack.directory)):
        pass


@pytest.mark.parametrize("directory", ["absent", "empty"])
def test_no_stack_is_a_usage_error_that_names_init(tmp_path, directory):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoStack) as caught:
        layout.load_config(str(tmp_path / directory))
    assert (caught.value.status(), "init" in caught.value.remedy) == (EXIT_USAGE, True)


@pytest.mark.parametrize(
    ("named", "problem", "remedy"),
    [
        pytest.param("more/absent", "no such directory", "sigkit stack init", id="absent"),
        pytest.param("absent", "a stack is beside it", "/a stack'", id="mistyped"),
        pytest.param("empty", "empty", "sigkit stack init", id="empty"),
        pytest.param("file", "Not a directory", "the directory of a stack", id="a file"),
        pytest.param("other", "something else", "the directory of a stack", id="of something else"),
        pytest.param("", "below it", "/a stack'", id="one level too high"),
        pytest.param("a stack/clients", "above it", "/a stack'", id="one level too low"),
        pytest.param("a stack/log/state", "above it", "/a stack'", id="far too low"),
    ],
)
def test_a_wrong_directory_is_told_for_what_it_is_with_the_stack_that_is_near(stack, tmp_path, named, problem, remedy):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    for name in ("file", "other/notes"):
        (tmp_path / name).write_text("notes")
    with pytest.raises(NoStack) as caught:
        layout.load_config(str(tmp_path / named))
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert caught.value.status() == EXIT_USAGE


def test_of_many_stacks_that_are_near_backups_come_last_and_are_called_so(stack, tmp_path):
    for name in ("a backup", "other"):
        (tmp_path / name).mkdir()
        shutil.copy(stack.directory / "stack.json", tmp_path / name)
    (tmp_path / "a backup" / "backup.json").write_text("{}")

    def advice() -> str:
        with pytest.raises(NoStack) as caught:
            layout.load_config(str(tmp_path / "absent"))
        return caught.value.remedy

    assert advice() == f"name '{tmp_path}/a stack' or {tmp_path}/other or '{tmp_path}/a backup' (a backup)"
    (tmp_path / "third").mkdir()
    shutil.copy(stack.directory / "stack.json", tmp_path / "third")
    assert advice() == f"name '{tmp_path}/a stack' or {tmp_path}/other or {tmp_path}/third …"


@contextlib.contextmanager
def closed(path: Path) -> Iterator[None]:
    """Let nobody look into a directory, nor read a file, until the block ends: root neither, who is somebody else meanwhile."""
    mode, user = path.stat().st_mode, os.geteuid()
    path.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)


@pytest.mark.parametrize("part", ["", "stack.json"])
def test_a_stack_of_another_user_is_not_told_to_be_made(stack, part):
    with closed(stack.directory / part), pytest.raises(FileUnreadable) as caught:
        layout.load_config(str(stack.directory))
    assert caught.value.problem.endswith("Permission denied")
    is_own = part and os.geteuid() != 0  # then it is no other user, but the mode
    path = shlex.quote(str(stack.directory / part))
    assert caught.value.remedy == (f"its owner may not use it by its mode: chmod u+rwX {path}" if is_own else "run it as its owner")


def test_a_part_that_another_user_owns_is_not_to_be_restored():
    with pytest.raises(FileUnreadable) as caught, layout.whole():
        raise FileUnreadable("cannot read the file", place=Place("x")) from PermissionError(errno.EACCES, "Permission denied")
    assert caught.value.remedy == "run it as its owner"


@pytest.mark.parametrize(
    "point",
    [
        "durable.create.fsync=enospc",
        "tuf.timestamp.fsync=enospc",
        "stack.config.fsync=enospc",
        "stack.rename=enospc",
        "stack.rename=2*enospc",  # the offline keys have their name then
    ],
)
def test_without_space_nothing_is_made_and_nothing_is_left(tmp_path, monkeypatch, point):
    monkeypatch.setenv("SIGKIT_FAILPOINTS", point)
    monkeypatch.setattr(durable, "_passages", {})
    with pytest.raises(FileUnwritable):
        stacks.make(tmp_path / "stack", offline=tmp_path / "usb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.attack("leavings that another user laid")
@pytest.mark.parametrize("laid", ["link", pytest.param("directory", marks=pytest.mark.root)])
def test_what_another_user_laid_under_the_name_of_leavings_is_left_alone(tmp_path, laid):
    theirs, left = tmp_path / "theirs", tmp_path / ".stack.new-evil"
    theirs.mkdir()
    (theirs / "file").write_text("kept")
    if laid == "link":
        left.symlink_to(theirs)
    else:
        theirs.rename(left)
        os.chown(left, 65534, 65534)
    own = tmp_path / ".stack.new-0123"
    own.mkdir()
    with beside(str(tmp_path / "stack")):
        assert [path.name for path in left.iterdir()] == ["file"]
        assert not own.exists()


def test_the_directories_above_a_stack_are_as_durable_as_it_is(tmp_path, monkeypatch):
    synced, fsync = set(), os.fsync

    def sync(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    stacks.make(tmp_path / "a" / "b" / "stack")
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= synced


def test_offline_keys_of_a_stack_that_has_its_name_are_never_taken_back(tmp_path, monkeypatch):
    (tmp_path / "parent").mkdir()
    rename = os.rename

    def rename_and_fail(source, target):
        rename(source, target)
        if str(target) == str(tmp_path / "parent" / "stack"):
            raise OSError(errno.EIO, "the disk fails just then")

    monkeypatch.setattr(os, "rename", rename_and_fail)
    with pytest.raises(FileUnwritable):
        stacks.make(tmp_path / "parent" / "stack", offline=tmp_path / "usb")
    assert (tmp_path / "parent" / "stack" / "stack.json").exists()
    assert (tmp_path / "usb" / "ca-root.key").exists()


def test_a_stack_whose_name_could_not_be_made_durable_is_there_and_its_owner_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "stack.directory=eio")
    monkeypatch.setattr(durable, "_passages", {})
    made = tmp_path / "a stack"
    with pytest.raises(FileUnwritable) as caught:
        stacks.make(made)
    assert layout.load_config(str(made)).name == "acme"
    assert [path.name for path in tmp_path.iterdir()] == ["a stack"]
    assert "in its place" in caught.value.problem
    advised = next(part for part in str(caught.value.remedy).split(", ") if part.startswith("rm "))
    subprocess.run(shlex.split(advised), timeout=60, check=True)
    stacks.make(made)


def test_offline_keys_whose_name_could_not_be_made_durable_are_taken_back_with_the_stack(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "stack.directory=eio")
    monkeypatch.setattr(durable, "_passages", {})
    with pytest.raises(FileUnwritable):
        stacks.make(tmp_path / "stack", offline=tmp_path / "usb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    ["durable.create.rename", "log.journal.rename", "tuf.root.rename", "tuf.timestamp.directory", "stack.config.rename", "stack.rename"],
)
def test_a_killed_making_leaves_no_stack_and_is_made_again_without_cleaning(tmp_path, point):
    line = [sys.executable, "-c", INIT, str(tmp_path / "stack")]
    died = subprocess.run(line, env={**os.environ, "SIGKIT_FAILPOINTS": f"{point}=kill"}, capture_output=True, timeout=60, check=False)
    assert died.returncode == -9
    assert not (tmp_path / "stack").exists()
    subprocess.run(line, timeout=60, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["stack"]
    assert layout.load_config(str(tmp_path / "stack")).name == "acme"


@pytest.mark.slow
def test_keys_that_a_killed_making_left_elsewhere_are_told_for_what_they_are(tmp_path):
    line = [sys.executable, "-c", INIT, str(tmp_path / "stack"), str(tmp_path / "usb")]
    armed = {**os.environ, "SIGKIT_FAILPOINTS": "stack.rename=2*kill"}
    assert subprocess.run(line, env=armed, capture_output=True, timeout=60, check=False).returncode == -9
    assert not (tmp_path / "stack").exists()
    with pytest.raises(StackExists) as caught:
        stacks.make(tmp_path / "stack", offline=tmp_path / "usb")
    assert "init that was killed" in caught.value.problem
    assert "rm " not in caught.value.remedy  # they may be another stack's
    shutil.rmtree(tmp_path / "usb")
    subprocess.run(line, timeout=60, check=True)
    assert layout.load_config(str(tmp_path / "stack")).name == "acme"


def test_a_making_that_goes_on_is_not_cleaned_away_by_another(tmp_path):
    other = tmp_path / ".stack.new-0123456789ab"
    other.mkdir()
    with durable.lock(other / "lock"):
        stacks.make(tmp_path / "stack")
    assert other.is_dir()


@pytest.mark.parametrize(
    ("url", "refusal"),
    [
        ("http://stack.example", PlainHttpRefused),
        ("http://192.0.2.1:80", PlainHttpRefused),
        ("https://stack.example/sigstore", UrlRefused),
        ("https://stack.example/?x", UrlRefused),
        ("https://me@stack.example", UrlRefused),
        ("ftp://stack.example", UrlRefused),
        ("127.0.0.1:5000", UrlRefused),
    ],
)
def test_a_url_that_clients_could_not_use_safely_is_refused(url, refusal):
    with pytest.raises(refusal):
        layout.parse_base_url(url, Place.operator("--url"))


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://stack.example:443/", "https://stack.example"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://[::1]:5000/", "http://[::1]:5000"),
    ],
)
def test_a_base_url_is_written_one_way(url, base):
    assert str(layout.parse_base_url(url, Place("url"))) == base


@pytest.mark.parametrize("name", ["", " x", "a" * 61, "a\nb", "ä", "-x"])
def test_a_name_that_certificates_cannot_carry_is_refused(name):
    with pytest.raises(WrongShape):
        layout.check_name(name, Place.operator("--name"))


# --- serving


def test_a_second_process_is_refused(stack):
    with running_stack(str(stack.directory)), pytest.raises(LockTimeout) as caught, running_stack(str(stack.directory)):
        pass
    assert "stack down" in caught.value.remedy


def test_nothing_is_left_that_says_it_runs(stack):
    with running_stack(str(stack.directory)):
        assert (stack.directory / "run.json").exists()
        assert read_status(str(stack.directory), SystemClock()).process is not None
    assert not (stack.directory / "run.json").exists()
    assert read_status(str(stack.directory), SystemClock()).process is None


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_beyond_loopback_it_does_not_listen_without_tls(stack, listen):
    with pytest.raises(AddressUnusable) as caught, running_stack(str(stack.directory), listen=listen):
        pass
    assert caught.value.status() == EXIT_USAGE


def rename(stack, url: str) -> None:
    path = stack.directory / "stack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"url": url}))


def test_an_address_that_the_url_does_not_say_is_asked_for(stack):
    rename(stack, "https://stack.example")
    with pytest.raises(AddressUnusable) as caught, running_stack(str(stack.directory), tls=Tls("cert.pem", "key.pem")):
        pass
    options = "--listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem"
    assert caught.value.remedy == f"sigkit stack up {shlex.quote(str(stack.directory))} {options}"
    with pytest.raises(AddressUnusable) as caught, running_stack(str(stack.directory)):
        pass
    assert caught.value.remedy.endswith(" --listen 0.0.0.0:443 --tls-cert CERT --tls-key KEY")


def test_of_an_address_in_use_no_other_is_advised_for_clients_know_one(stack):
    host, _, port = stack.url.removeprefix("http://").rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(AddressUnusable) as caught, running_stack(str(stack.directory)):
        pass
    assert "--listen" not in caught.value.remedy
    assert f":{port}'" in caught.value.remedy
    assert f"proxy at {stack.url}" in caught.value.remedy


def test_a_url_with_tls_needs_certificate_or_proxy(stack):
    rename(stack, "https://127.0.0.1:20443")
    with pytest.raises(AddressUnusable) as caught, running_stack(str(stack.directory)):
        pass
    assert "--tls-cert" in caught.value.remedy
    with running_stack(str(stack.directory), listen="127.0.0.1:0") as running:  # a proxy speaks it
        assert running.config.url == "https://127.0.0.1:20443"


def test_tls_under_a_url_without_it_is_refused(stack):
    with pytest.raises(AddressUnusable), running_stack(str(stack.directory), tls=Tls("cert.pem", "key.pem")):
        pass


def test_another_version_is_refused_by_name(stack):
    path = stack.directory / "stack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": "sigkit.stack/2"}))
    with pytest.raises(OtherStackVersion) as caught, running_stack(str(stack.directory)):
        pass
    assert (caught.value.expected, caught.value.got) == ("sigkit.stack/1", "sigkit.stack/2")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema":"sigkit.stack/1"}', b'{"schema":1}', b"\xff"])
def test_a_damaged_configuration_is_no_stack(stack, damage):
    (stack.directory / "stack.json").write_bytes(damage)
    with pytest.raises(NoStack):
        layout.load_config(str(stack.directory))


@pytest.mark.parametrize("change", [{"created": "yesterday"}, {"created": "2026-02-30T00:00:00Z"}, {"name": "a\nb"}, {"more": 1}])
def test_a_configuration_with_a_wrong_member_is_no_stack(stack, change):
    path = stack.directory / "stack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(NoStack):
        layout.load_config(str(stack.directory))


def test_every_service_is_under_its_path(stack):
    with running_stack(str(stack.directory)):
        assert stack.json("GET", "/.well-known/openid-configuration")["issuer"] == stack.url
        assert stack.json("GET", "/api/v2/configuration")["issuers"][0]["issuerUrl"] == stack.url
        assert len(stack.json("GET", "//api/v2/trustBundle")["chains"][0]["certificates"]) == 2
        assert stack.call("GET", "/api/v2/checkpoint")[1].startswith(b"127.0.0.1\n1\n")
        assert stack.call("GET", "/api/v2/tile/entries/000.p/1")[0] == 200
        assert stack.call("GET", "/api/v1/timestamp/certchain")[0] == 200
        assert len(stack.json("GET", "/ct/v1/get-roots")["certificates"]) == 1
        assert stack.json("GET", "/tuf/timestamp.json")["signed"]["version"] == 1
        assert stack.call("GET", "/tuf/2.root.json")[0] == 404
        assert stack.json("GET", "/v2/") == {}
        assert stack.call("GET", "/")[0] == 404


def test_no_thread_of_a_stack_outlives_its_files(stack):
    before = set(threading.enumerate())
    with running_stack(str(stack.directory)):
        stack.json("POST", "/api/v2/signingCert", certificate_request(stack))
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) <= before


def list_issuer(stack: stacks.Stack, **entry: str) -> None:
    (stack.directory / "issuers.json").write_text(json.dumps({"schema": "sigkit.stack.issuers/1", "issuers": [entry]}))


def test_a_foreign_issuer_of_the_operators_list_is_taken(stack):
    list_issuer(stack, url="https://gitlab.acme.example", type="gitlab")
    with running_stack(str(stack.directory)):
        issuers = [item["issuerUrl"] for item in stack.json("GET", "/api/v2/configuration")["issuers"]]
    assert issuers == ["https://gitlab.acme.example", stack.url]


def test_no_issuer_of_the_operators_list_stands_in_for_the_stacks_own(stack):
    list_issuer(stack, url=stack.url, type="uri", subjectDomain="https://evil.example")
    with pytest.raises(WrongShape, match="the stack itself"), running_stack(str(stack.directory)):
        pass


# --- going on with a backup


def backed_up(stack: stacks.Stack, into: Path) -> str:
    """Make a backup without the last entry, which the stack gets after it."""
    make_backup(str(stack.directory), str(into), SystemClock())
    with running_stack(str(stack.directory)):
        stack.json("POST", "/api/v2/log/entries", entry_request())
    return str(into)


@pytest.mark.attack("a backup beside its original")
@pytest.mark.parametrize(("later", "got"), [("more", "2 entries at {}, 1 in the backup"), ("nothing", "2 entries at {}, 2 in the backup")])
def test_a_backup_does_not_go_on_while_its_original_is_served(stack, tmp_path, later, got):
    backup, elsewhere = backed_up(stack, tmp_path / "backup"), stacks.free_url().removeprefix("http://")
    if later == "nothing":
        shutil.rmtree(backup)
        make_backup(str(stack.directory), backup, SystemClock())
    with running_stack(str(stack.directory)):
        with pytest.raises(OriginalServed) as caught, running_stack(backup, listen=elsewhere, said=Said.GO_ON):
            pass
        assert (caught.value.got, caught.value.status()) == (got.format(stack.url), EXIT_USAGE)
    assert (tmp_path / "backup" / "backup.json").exists()
    with running_stack(backup, listen=elsewhere, said=Said.GO_ON) as running:
        assert running.resumed_at == (1 if later == "more" else 2)


@pytest.mark.attack("a backup beside its original")
def test_a_backup_does_not_go_on_while_its_original_may_be_behind_a_certificate_that_is_not_known_here(tmp_path, tls, monkeypatch):
    stack = stacks.make(tmp_path / "stack", url=stacks.free_url().replace("http:", "https:"))
    backup, elsewhere = str(tmp_path / "backup"), stacks.free_url().removeprefix("http://")
    make_backup(str(stack.directory), backup, SystemClock())
    with running_stack(str(stack.directory), tls=tls):
        with pytest.raises(OriginalUnknown) as caught, running_stack(backup, listen=elsewhere, tls=tls, said=Said.GO_ON):
            pass
        assert isinstance(caught.value.__cause__, TlsFailed)
        assert "SSL_CERT_FILE=" in caught.value.remedy
        monkeypatch.setenv("SSL_CERT_FILE", tls.certificate)
        with pytest.raises(OriginalServed), running_stack(backup, listen=elsewhere, tls=tls, said=Said.GO_ON):
            pass


@pytest.mark.attack("a backup beside its original")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Reply(503, (("Retry-After", "20"),)), id="busy"),
        pytest.param(Reply(429, (("Retry-After", "20"),)), id="too many requests"),
        pytest.param(Reply(302, (("Location", "/login"),)), id="a redirect"),
        pytest.param(Reply(401), id="a proxy that asks who it is"),
        pytest.param(Reply(200, body=b"<html>welcome"), id="no checkpoint"),
    ],
)
def test_a_backup_does_not_go_on_while_who_answers_cannot_be_told(tmp_path, answer):
    with MisbehavingServer(lambda _: answer) as server:
        stack, backup = stacks.make(tmp_path / "stack", url=server.url), str(tmp_path / "backup")
        make_backup(str(stack.directory), backup, SystemClock())
        elsewhere = stacks.free_url().removeprefix("http://")
        with pytest.raises(OriginalUnknown) as caught, running_stack(backup, listen=elsewhere, said=Said.GO_ON):
            pass
    assert (caught.value.place.source, caught.value.status()) == (backup, EXIT_USAGE)
    assert server.url in caught.value.expected
    assert os.path.exists(f"{backup}/backup.json")


@pytest.mark.parametrize("other", ["another log", "no log", "a gateway with nobody behind it"])
def test_whoever_answers_else_hinders_no_backup_from_going_on(stack, tmp_path, other):
    elsewhere = stacks.free_url().removeprefix("http://")
    with contextlib.ExitStack() as answering:
        if other == "another log":
            backup = backed_up(stack, tmp_path / "backup")
            shutil.rmtree(stack.directory)
            backed_up(stacks.make(stack.directory, url=stack.url), tmp_path / "another backup")
            answering.enter_context(running_stack(str(stack.directory)))
        elif other == "no log":
            backup = backed_up(stack, tmp_path / "backup")
            answering.enter_context(running_registry(tmp_path / "registry", stack.url.removeprefix("http://")))
        else:
            proxy = answering.enter_context(MisbehavingServer(lambda _: Reply(502)))
            backup = str(tmp_path / "backup")
            make_backup(str(stacks.make(tmp_path / "behind", url=proxy.url).directory), backup, SystemClock())
        with running_stack(backup, listen=elsewhere, said=Said.GO_ON):
            pass


# --- status


def root_hash(stack: stacks.Stack) -> str:
    """Return what the served log says."""
    with running_stack(str(stack.directory)):
        return base64.b64decode(stack.call("GET", "/api/v2/checkpoint")[1].splitlines()[2]).hex()


def test_status_says_what_is_there_and_never_calls_the_log_transparent(stack):
    document = encode(read_status(str(stack.directory), SystemClock()))
    assert isinstance(document, dict)
    assert (document["schema"], document["name"], document["url"]) == ("sigkit.stack.status/1", "acme", stack.url)
    assert document["log"] == {"size": 1, "origin": "127.0.0.1", "rootHash": root_hash(stack), "witnesses": 0}
    assert document["process"] is None
    assert document["offlineKeysHere"] is True
    expiries = document["expiries"]
    assert isinstance(expiries, list)
    assert len(expiries) == 6


def test_status_says_what_ends_first_and_which_command_renews_it(stack):
    quoted, now = shlex.quote(str(stack.directory)), datetime.now(UTC)
    read = read_status(str(stack.directory), FixedClock(now))
    assert first(read) == Due(min(read.expiries, key=lambda item: item.until), f"sigkit stack up {quoted}")
    by_hand = first_by_hand(read)
    assert (by_hand.item.what[:4], by_hand.command) == (
        "TUF ",
        f"sigkit stack renew {quoted} --offline {shlex.quote(f'{stack.directory}/offline')}",
    )
    assert f"  first      TUF timestamp ends in 6 days: sigkit stack up {quoted}" in describe(read)
    with running_stack(str(stack.directory)):
        running = read_status(str(stack.directory), FixedClock(now))
    assert first(running).command == ""
    assert "  first      TUF timestamp ends in 6 days; the stack signs it again by itself" in describe(running)


def test_what_only_a_new_stack_renews_is_told_with_the_command_that_makes_one(stack):
    authority = Expiry("certificate authority", datetime.now(UTC), Renewal.NEW_STACK)
    read = read_status(str(stack.directory), SystemClock())
    parts: dict[str, Any] = {name: getattr(read, name) for name in Status.__annotations__} | {"expiries": (authority,)}
    only = Status(**parts)
    assert first_by_hand(only) == Due(authority, "sigkit stack init NEW")


@pytest.mark.parametrize(("free", "word"), [(2**40, "free"), (2**20, "LOW")])
def test_status_warns_of_a_disk_that_is_nearly_full(stack, monkeypatch, free, word):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**41, 0, free))
    read = read_status(str(stack.directory), SystemClock())
    [line] = [line for line in describe(read) if "on its disk" in line]
    assert line.split()[0] == word
    document = encode(read)
    assert isinstance(document, dict)
    assert (document["freeBytes"], document["freeIsLow"]) == (free, word == "LOW")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_never_answered_with_a_backup(stack, monkeypatch, number):
    def fail(*_: object) -> None:
        raise OSError(number, "no space")

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    with pytest.raises(FileUnreadable) as caught:
        read_status(str(stack.directory), SystemClock())
    assert "free some space" in caught.value.remedy
    assert "backup" not in caught.value.remedy


@pytest.mark.attack("links that root copies")
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_the_status_follows_no_link_to_the_journal_and_waits_for_no_pipe(stack, tmp_path, kind):
    journal = stack.directory / "log" / "state" / "journal"
    journal.rename(tmp_path / "kept")
    if kind == "link":
        journal.symlink_to(tmp_path / "kept")
    elif kind == "fifo":
        os.mkfifo(journal)
    else:
        journal.mkdir()
    with pytest.raises(NoStackFile) as caught:
        read_status(str(stack.directory), SystemClock())
    assert caught.value.place.source == str(journal)


@pytest.mark.attack("nested directories")
def test_the_status_of_a_stack_with_directories_without_end_is_told(stack):
    with stacks.nested(stack.directory / "registry" / "uploads", 1_500) as deepest:
        os.write(deepest, b"x" * 5_000)
        assert dict(read_status(str(stack.directory), SystemClock()).sizes)["registry"] >= 5_000


def test_a_damaged_journal_is_named_and_not_the_copy_that_was_read(stack):
    journal = stack.directory / "log" / "state" / "journal"
    raw = bytearray(journal.read_bytes())
    raw[60] ^= 1
    journal.write_bytes(raw)
    with pytest.raises(LogDamaged) as caught:
        read_status(str(stack.directory), SystemClock())
    assert str(caught.value.place) == f"{journal}: byte 0"


@pytest.mark.attack("holes in a stack")
def test_a_journal_that_no_log_can_have_is_not_copied(stack):
    os.truncate(stack.directory / "log" / "state" / "journal", 2**30 + 1)
    with pytest.raises(FileUnreadable) as caught:
        read_status(str(stack.directory), SystemClock())
    assert caught.value.place.source.endswith("journal")


def test_a_directory_that_goes_away_while_its_disk_is_looked_at_is_told(tmp_path):
    with pytest.raises(FileUnreadable) as caught:
        low_space(str(tmp_path / "gone"))
    assert caught.value.place == Place.operator(str(tmp_path / "gone"))


def test_a_database_that_has_no_space_is_not_one_to_restore(stack, monkeypatch):
    monkeypatch.setattr(durable, "_passages", {})
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "database.commit=enospc")
    with pytest.raises(DatabaseUnusable) as caught, running_stack(str(stack.directory)):
        pass
    assert "free some space" in caught.value.remedy


def test_reading_the_status_changes_nothing(stack):
    before = snapshot(stack.directory)
    read_status(str(stack.directory), SystemClock())
    assert snapshot(stack.directory) == before
