"""`sigkit stack` as an operator meets it: what is served is a process of its own."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import pytest

from sigkit import durable
from sigkit.cli.main import run
from sigkit.services.stack.space import LOW_BYTES
from tests.simulators import stacks
from tests.simulators.command import SIGKIT, run_here
from tests.simulators.trusting import FixedClock

if TYPE_CHECKING:
    from collections.abc import Iterator


LOGIN_FORM = "client_id=sigstore&scope=openid+email&code_challenge=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU&code_challenge_method=S256"


class Done(NamedTuple):
    stdout: str
    stderr: str


def sigkit(*arguments: object, status: int = 0, **environment: str) -> Done:
    """Run a command that must end with `status`: in this process, which is much quicker than starting one."""
    ended, *said = run_here(*map(str, arguments), environment=environment)
    assert ended == status, said
    return Done(*said)


def answer(*arguments: object, status: int = 0) -> Any:
    return json.loads(sigkit(*arguments, "--output", "json", status=status).stdout)


class Server(NamedTuple):
    process: subprocess.Popen[str]
    first: str  # what it printed


@contextlib.contextmanager
def up(directory: Path, *arguments: str, stderr: IO[str] | None = None) -> Iterator[Server]:
    """Serve a stack until the block ends; it is given when its first line has been printed."""
    with subprocess.Popen([*SIGKIT, "stack", "up", directory, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True) as server:
        try:
            assert server.stdout is not None
            yield Server(server, server.stdout.readline())
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()  # the port is that of every test here
                raise


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> stacks.Stack:
    return stacks.make(tmp_path_factory.mktemp("made") / "stack")


@pytest.fixture
def stack(made, tmp_path) -> stacks.Stack:
    """Return a stack of the test's own: a copy, on the one port of this module."""
    shutil.copytree(made.directory, tmp_path / "stack")
    return stacks.Stack(tmp_path / "stack", made.url)


ACCOUNT = 65_534  # a user of which nothing here is


def give_away(directory: Path) -> None:
    """Let a service account own a stack."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, ACCOUNT, ACCOUNT)


def owners(directory: Path) -> set[int]:
    return {path.lstat().st_uid for path in (directory, *directory.rglob("*"))}


@pytest.fixture
def accounts_stack(stack) -> Iterator[Path]:
    """Return a stack of a service account, where that may come to it."""
    sigkit("stack", "approve", stack.directory)  # imports what the account may not read where Python is another user's own
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, ACCOUNT, ACCOUNT)
        directory = Path(place) / "stack"
        shutil.copytree(stack.directory, directory)
        give_away(directory)
        yield directory


@contextlib.contextmanager
def account() -> Iterator[None]:
    """Be the service account until the block ends, where it may be: a checkout in root's home is no place for it."""
    with contextlib.chdir("/"):
        os.seteuid(ACCOUNT)
        try:
            yield
        finally:
            os.seteuid(0)


def test_a_stack_is_made_served_looked_at_and_stopped(tmp_path):
    directory = tmp_path / "stack"
    made = answer("stack", "init", directory, "--name", "acme", "--offline", tmp_path / "usb")
    assert (made["schema"], made["name"], made["offline"]) == ("sigkit.stack.init/1", "acme", str(tmp_path / "usb"))
    with up(directory) as server:
        assert server.first == f"serving {directory} at {made['url']} (Ctrl-C stops it)\n"
        assert stacks.Stack(directory, made["url"]).call("GET", "/healthz")[0] == 200
        seen = answer("stack", "status", directory)
        assert (seen["process"]["pid"], seen["offlineKeysHere"]) == (server.process.pid, False)
        assert answer("stack", "up", directory, status=3)["error"]["code"] == "SK-UNAVAIL-004"  # the other may stop
        assert answer("stack", "down", directory)["pid"] == server.process.pid
        assert server.process.wait(30) == 0
    assert (answer("stack", "down", directory)["stopped"], answer("stack", "down", directory)["pid"]) == (False, None)
    assert sigkit("stack", "down", directory).stdout == f"not running  {directory}\n"
    said = sigkit("stack", "status", directory).stdout
    assert "  stopped\n" in said
    assert answer("stack", "status", directory)["endedUnstopped"] is False


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_stops_it_cleanly(stack, sent, status):
    with up(stack.directory) as server:
        server.process.send_signal(sent)
        assert server.process.wait(30) == status
    assert not (stack.directory / "run.json").exists()


def test_a_killed_one_leaves_nothing_that_stands_in_the_way(stack):
    with up(stack.directory) as server:
        server.process.kill()
        server.process.wait(30)
    assert (stack.directory / "run.json").exists()
    seen = answer("stack", "status", stack.directory)
    assert (seen["process"], seen["endedUnstopped"]) == (None, True)
    assert "ended without being stopped" in sigkit("stack", "status", stack.directory).stdout
    assert answer("stack", "down", stack.directory)["stopped"] is False
    with up(stack.directory):
        assert stack.call("GET", "/healthz")[0] == 200


def test_what_is_no_stack_and_what_is_just_starting_is_not_called_stopped(stack, tmp_path):
    assert answer("stack", "down", tmp_path, status=2)["error"]["code"] == "SK-UNAVAIL-050"
    with durable.lock(stack.directory / "lock"):
        assert answer("stack", "down", stack.directory, status=2)["error"]["code"] == "SK-UNAVAIL-053"


def test_the_directory_can_come_from_the_environment(stack):
    assert sigkit("stack", "status", SIGKIT_STACK=str(stack.directory)).stdout.startswith(f"stack acme  {stack.url}\n")


@pytest.mark.parametrize("named", [True, False], ids=["SIGKIT_STACK", "DIR"])
def test_a_command_with_another_argument_takes_the_directory_from_the_environment_too(stack, tmp_path, monkeypatch, named):
    directory = () if named else (stack.directory,)
    monkeypatch.setenv("SIGKIT_STACK", str(stack.directory if named else tmp_path / "another"))
    assert answer("stack", "token", *directory, "mia@acme.example")["subject"] == "mia@acme.example"
    assert answer("stack", "backup", *directory, tmp_path / "copy")["directory"] == str(tmp_path / "copy")
    assert answer("stack", "approve", *directory)["logins"] == []
    refused = answer("stack", "approve", *directory, "BCDF-GHJK", "--email", "mia@acme.example", status=2)
    assert "no login that waits has this code" in refused["error"]["problem"]


def test_a_damaged_database_of_logins_is_found_when_the_stack_starts(stack):
    (stack.directory / "oidc" / "logins.db").write_bytes(b"not a database" * 100)
    refused = answer("stack", "up", stack.directory, status=2)["error"]
    assert (refused["code"], refused["place"]["source"]) == ("SK-UNAVAIL-003", str(stack.directory / "oidc" / "logins.db"))


def test_one_that_is_damaged_while_the_stack_runs_is_a_503_and_a_line_for_the_operator(stack, tmp_path):
    with (tmp_path / "said").open("w") as said, up(stack.directory, stderr=said):
        for name in ("logins.db", "logins.db-wal", "logins.db-shm"):
            (stack.directory / "oidc" / name).write_bytes(b"not a database" * 100)
        form = LOGIN_FORM.encode()
        status, raw = stack.call("POST", "/oidc/device", form, Content_Type="application/x-www-form-urlencoded")
        assert (status, b"SK-UNAVAIL-003" in raw) == (503, True)
    [line] = (tmp_path / "said").read_text().splitlines()
    assert line.startswith("POST /oidc/device: SK-UNAVAIL-003")


@pytest.mark.parametrize("lost", ["stack.json", "log/state", "log/state/journal", "ct/state/version", "ca", "tuf", "oidc/oidc.key"])
def test_a_stack_that_has_lost_a_part_is_to_be_restored_and_never_made_again(stack, lost):
    path = stack.directory / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    status, _, said = run_here("stack", "up", str(stack.directory))
    assert status == 2  # with 3 a service manager would try it again without end
    assert "from a backup" in said
    assert "make it again" not in said
    assert "SK-INTERNAL" not in run_here("stack", "status", str(stack.directory))[2]


def test_what_has_expired_is_said_by_status_and_up_and_by_its_exit(tmp_path):
    stack = stacks.make(tmp_path / "stack", clock=FixedClock(datetime.now(UTC) - timedelta(days=800)))
    seen = answer("stack", "status", stack.directory, status=1)
    assert {item["what"]: item["state"] for item in seen["expiries"]}["TUF root"] == "expired"
    with (tmp_path / "said").open("w") as said, up(stack.directory, stderr=said):
        pass
    assert "TUF root has expired" in (tmp_path / "said").read_text()


def test_each_key_without_which_a_stack_does_not_start_is_missed_by_status(stack):
    sigkit("stack", "renew", stack.directory, "--rotate", "timestamp")  # the old key stays, and stands in for no other
    root = stack.directory / "tuf" / "metadata" / "2.root.json"
    [newest] = json.loads(root.read_bytes())["signed"]["roles"]["timestamp"]["keyids"]
    keys = [path for path in stack.directory.rglob("*.key") if path.parent.name != "offline"]
    keys += [path for path in (stack.directory / "tuf" / "keys").iterdir() if "snapshot" in path.name or newest in path.name]
    assert len(keys) == 8
    for key in keys:
        held = key.read_bytes()
        for damage in ("absent", "malformed"):
            key.unlink() if damage == "absent" else key.write_text("x")
            seen = answer("stack", "status", stack.directory, status=1)
            assert [item["file"] for item in seen["badKeys"]] == [str(key)]
            assert f"DAMAGED    {key}: " in sigkit("stack", "status", stack.directory, status=1).stdout
        key.write_bytes(held)
    assert answer("stack", "status", stack.directory)["badKeys"] == []


@pytest.mark.attack("a key that others may change")
@pytest.mark.parametrize("changed", ["", "oidc", "oidc/oidc.key", "tuf/keys"])
def test_a_key_that_others_may_change_is_neither_signed_with_nor_called_good(stack, changed):
    stack.directory.chmod(0o755)  # or nobody comes to what is below
    for path in (stack.directory / "oidc", stack.directory / "tuf", stack.directory / "tuf" / "keys"):
        path.chmod(0o711)
    path = stack.directory / changed
    path.chmod(path.stat().st_mode | 0o020)
    refused = answer("stack", "up", stack.directory, status=2)["error"]
    assert (refused["code"], refused["got"].endswith(f", of {path}")) == ("SK-UNAVAIL-059", True)
    assert f"chmod -R go-w {stack.directory}" in refused["remedy"]
    assert refused["place"]["source"] in [item["file"] for item in answer("stack", "status", stack.directory, status=1)["badKeys"]]
    assert f"UNSAFE     {refused['place']['source']}: " in sigkit("stack", "status", stack.directory, status=1).stdout


@pytest.mark.attack("a key that others may change")
def test_a_link_to_nothing_hides_no_key_that_others_may_change(stack):
    stack.directory.chmod(0o755)
    (stack.directory / "oidc").chmod(0o731)
    (stack.directory / "oidc" / "a.key").symlink_to("/nonexistent")
    assert answer("stack", "up", stack.directory, status=2)["error"]["code"] == "SK-UNAVAIL-059"


@pytest.mark.root
def test_a_key_of_a_third_user_is_not_signed_with(stack):
    os.chown(stack.directory / "ca" / "ca.key", ACCOUNT, -1)
    refused = answer("stack", "up", stack.directory, status=2)["error"]
    assert refused["code"] == "SK-UNAVAIL-059"
    subprocess.run(["sh", "-c", refused["remedy"].partition(": ")[2].partition(";")[0]], check=True)
    assert answer("stack", "status", stack.directory)["badKeys"] == []


def test_a_key_that_others_may_read_is_told_by_up_and_status(stack, tmp_path):
    for path in (stack.directory, stack.directory / "ca", stack.directory / "offline"):
        path.chmod(0o755)
    keys = [stack.directory / "ca" / "ca.key", stack.directory / "offline" / "ca-root.key"]
    for key in keys:
        key.chmod(0o640)
    with (tmp_path / "said").open("w") as said, up(stack.directory, stderr=said):
        pass
    [line] = (tmp_path / "said").read_text().splitlines()
    assert (line.startswith("warning  "), f": chmod go= {stack.directory}, " in line) == (True, True)
    assert answer("stack", "status", stack.directory)["openKeys"] == [{"file": str(key), "mode": "0640"} for key in keys]
    assert f"  OPEN       {line.removeprefix('warning  ')}" in sigkit("stack", "status", stack.directory).stdout
    stack.directory.chmod(0o700)
    assert answer("stack", "status", stack.directory)["openKeys"] == []


@pytest.mark.parametrize("mode", [0o700, 0o701])
def test_the_mode_of_a_key_that_nobody_comes_to_is_its_owners_affair(stack, mode):
    stack.directory.chmod(mode)
    (stack.directory / "ca" / "ca.key").chmod(0o666)
    seen = answer("stack", "status", stack.directory)
    assert (seen["badKeys"], seen["openKeys"]) == ([], [])


@pytest.mark.root
def test_a_key_that_its_owner_is_denied_is_not_called_damaged(accounts_stack):
    key = accounts_stack / "oidc" / "oidc.key"
    os.chown(key, 0, 0)
    with account():
        [bad] = answer("stack", "status", accounts_stack, status=1)["badKeys"]
        assert (bad["file"], bad["remedy"].endswith(f"sudo chown -R {ACCOUNT} {accounts_stack}")) == (str(key), True)
        said = sigkit("stack", "status", accounts_stack, status=1).stdout
        assert answer("stack", "up", accounts_stack, status=2)["error"]["remedy"] == bad["remedy"]
    assert f"  DENIED     {key}: " in said
    assert "backup" not in said


def test_a_port_that_another_process_may_leave_is_worth_another_try(stack):
    with socket.create_server(("127.0.0.1", int(stack.url.rpartition(":")[2]))):
        assert answer("stack", "up", stack.directory, status=3)["error"]["code"] == "SK-NET-010"


@pytest.mark.parametrize(("number", "status"), [(errno.EIO, 3), (errno.ENOENT, 2), (errno.EACCES, 2), (errno.EMFILE, 3)])
def test_a_journal_that_may_be_read_a_moment_later_is_worth_another_try(stack, monkeypatch, number, status):
    path, real = str(stack.directory / "log" / "state" / "journal"), os.open

    def fail(name: str, *rest: int, **options: Any) -> int:
        if name == path:
            raise OSError(number, os.strerror(number))
        return real(name, *rest, **options)

    monkeypatch.setattr(os, "open", fail)
    assert answer("stack", "up", stack.directory, status=status)["error"]["code"] == "SK-UNAVAIL-001"


def test_status_says_in_words_that_nobody_has_witnessed_the_log(stack):
    said = sigkit("stack", "status", stack.directory).stdout
    assert "no witness has signed it" in said
    assert "transparent" not in said
    assert "transparency" not in said


def test_a_chosen_port_is_not_one_that_the_kernel_hands_out(tmp_path):
    port = int(answer("stack", "init", tmp_path / "stack")["url"].rpartition(":")[2])
    assert 20_000 <= port < 30_000


def test_where_it_listens_is_said_if_that_is_not_its_url(stack):
    listen = stacks.free_url().removeprefix("http://")
    with up(stack.directory, "--listen", listen) as server:
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == f"  listens on {listen}; clients are told {stack.url}\n"


def test_a_subject_that_is_neither_is_told_what_it_could_be(stack):
    said = sigkit("stack", "token", stack.directory, "release", status=2).stderr
    assert "e-mail address" in said
    assert "https://" in said


def test_init_says_what_serving_needs_where_that_is_absent(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run(["stack", "init", str(tmp_path / "stack")]) == 0
    said = capsys.readouterr().out
    assert "pip install" in said
    assert said.endswith(f"sigkit stack up {tmp_path / 'stack'}\n")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("https://localhost:20007", "--tls-cert CERT --tls-key KEY"),
        ("https://stack.example", "--listen 0.0.0.0:443 --tls-cert CERT --tls-key KEY"),
    ],
)
def test_init_says_how_a_stack_with_tls_is_served(tmp_path, url, options):
    said = sigkit("stack", "init", tmp_path / "stack", "--url", url).stdout
    assert said.endswith(f"sigkit stack up {tmp_path / 'stack'} {options}\n")


def test_init_warns_where_something_listens_at_the_url_already(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://localhost:{other.getsockname()[1]}"
        made = sigkit("stack", "init", tmp_path / "stack", "--url", url)
        assert answer("stack", "init", tmp_path / "second", "--url", url)["urlInUse"] is True
    assert made.stderr.startswith(f"warning  something listens on {url.removeprefix('http://')} already")
    assert made.stdout.startswith("made")
    assert sigkit("stack", "init", tmp_path / "other", "--url", url).stderr == ""


@pytest.mark.parametrize("arguments", [("--url", "http://stack.example"), ("--url", "https://stack.example/path"), ("--name", "a/b")])
def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path, arguments):
    done = sigkit("stack", "init", tmp_path / "stack", *arguments, status=2)
    assert "usage error" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", ""),
        ("init", "{new}", "--url", ""),
        ("init", "{new}", "--offline", ""),
        ("up", ""),
        ("up", "{stack}", "--listen", ""),
        ("up", "{stack}", "--tls-cert", "", "--tls-key", ""),
        ("token", "{stack}", "mia@acme.example", "--audience", ""),
        ("backup", "{stack}", ""),
        ("renew", "{stack}", "--offline", ""),
    ],
    ids=" ".join,
)
def test_what_is_given_empty_is_refused_and_not_as_if_it_were_not_given(stack, tmp_path, monkeypatch, arguments):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    named = [text.format(stack=stack.directory, new=tmp_path / "new") for text in arguments]
    assert "it is empty" in sigkit("stack", *named, status=2).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "stack"]
    assert list((tmp_path / "here").iterdir()) == []


def test_tls_files_go_together(stack):
    assert "go together" in sigkit("stack", "up", stack.directory, "--tls-cert", "cert.pem", status=2).stderr


def test_a_token_is_printed_alone_and_names_its_subject(stack):
    token = sigkit(
        "stack", "token", stack.directory, "https://ci.acme.example/app", "--claim", "sourceRepositoryURI=https://git.acme.example/app"
    )
    assert token.stdout.count(".") == 2
    assert "\n" not in token.stdout  # which cosign would send in a header
    assert answer("stack", "token", stack.directory, "mia@acme.example")["issuer"] == stack.url


@pytest.mark.parametrize(
    "arguments",
    [
        ("just-a-name",),
        ("https://ci.acme.example/app", "--claim", "iss=https://other.example"),
        ("https://ci.acme.example/app", "--claim", "novalue"),
        ("https://ci.acme.example/app", "--claim", "a=1", "--claim", "a=2"),
        ("https://ci.acme.example/app", "--lifetime", "0"),
        ("https://ci.acme.example/app", "--lifetime", "86401"),
    ],
)
def test_a_token_that_would_not_be_certified_is_a_usage_error(stack, arguments):
    assert sigkit("stack", "token", stack.directory, *arguments, status=2).stdout == ""


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sourceRepositoryUri", "sourceRepositoryURI"),
        ("SourceRepositoryURI", "sourceRepositoryURI"),
        ("sourceRepoURI", "sourceRepositoryURI"),
        ("buildTriger", "buildTrigger"),
        ("runInvocationUrl", "runInvocationURI"),
    ],
)
def test_a_claim_that_is_nearly_one_of_the_certificates_is_a_usage_error_that_names_it(stack, given, meant):
    refused = sigkit("stack", "token", stack.directory, "https://ci.acme.example/app", "--claim", f"{given}=x", status=2)
    assert f"did you mean {meant}?" in refused.stderr


@pytest.mark.parametrize(
    ("subject", "given", "silent"),
    [
        ("https://ci.acme.example/app", ("team", "sourceRepositoryURI", "groups"), "team, groups"),
        ("https://ci.acme.example/app", ("sourceRepositoryURI",), ""),
        ("mia@acme.example", ("sourceRepositoryURI",), "sourceRepositoryURI"),
    ],
)
def test_a_claim_that_reaches_no_certificate_is_said_to(stack, subject, given, silent):
    claims = [word for name in given for word in ("--claim", f"{name}=x")]
    done = sigkit("stack", "token", stack.directory, subject, *claims)
    assert done.stdout.count(".") == 2
    assert done.stderr == (f"note  in the token alone, for no certificate carries it: --claim {silent}\n" if silent else "")
    assert answer("stack", "token", stack.directory, subject, *claims)["claimsInNoCertificate"] == (silent.split(", ") if silent else [])


@pytest.mark.parametrize("given", ["team", "groups", "sourceRepositoryOwnerURI", "sourceRepositoryURI", "environment", "buildSignerDigest"])
def test_another_claim_is_taken_as_it_is(stack, given):
    sigkit("stack", "token", stack.directory, "https://ci.acme.example/app", "--claim", f"{given}=x")


def start_login(stack: stacks.Stack) -> str:
    status, raw = stack.call("POST", "/oidc/device", LOGIN_FORM.encode(), Content_Type="application/x-www-form-urlencoded")
    assert status == 200, raw
    return str(json.loads(raw)["user_code"])


def test_logins_are_listed_approved_and_denied_while_the_stack_runs(stack):
    with up(stack.directory):
        first, second = start_login(stack), start_login(stack)
        waiting = answer("stack", "approve", stack.directory)["logins"]
        assert [(login["code"], login["by"], login["from"]) for login in waiting] == [
            (code, "device", "127.0.0.1") for code in (first, second)
        ]
        assert all(login["started"] < login["ends"] for login in waiting)
        shown = sigkit("stack", "approve", stack.directory).stdout
        assert f"sigkit stack approve {stack.directory} {first} --email ADDRESS" in shown
        assert "approved" in sigkit("stack", "approve", stack.directory, first, "--email", "mia@acme.example").stdout
        assert "denied" in sigkit("stack", "approve", stack.directory, second, "--deny").stdout
        assert sigkit("stack", "approve", stack.directory) == ("no login waits\n", "")
        sigkit("stack", "approve", stack.directory, first, "--email", "eve@acme.example", status=2)
    sigkit("stack", "approve", stack.directory, first, status=2)
    sigkit("stack", "approve", stack.directory, first, "--email", "mia", status=2)
    both = sigkit("stack", "approve", stack.directory, first, "--deny", "--email", "mia@acme.example", status=2)
    assert "not both" in both.stderr


def test_an_answer_names_the_code_as_the_login_shows_it_and_says_which_it_was(stack):
    with up(stack.directory):
        codes = start_login(stack), start_login(stack)
        typed = [code.lower().replace("-", "") for code in codes]
        approved = answer("stack", "approve", stack.directory, typed[0], "--email", "mia@acme.example")
        denied = answer("stack", "approve", stack.directory, typed[1], "--deny")
    assert approved == {"schema": "sigkit.stack.approve/1", "code": codes[0], "email": "mia@acme.example", "denied": False}
    assert denied == {"schema": "sigkit.stack.approve/1", "code": codes[1], "email": None, "denied": True}


def test_of_a_stack_that_does_not_run_it_is_said_that_nobody_can_log_in(stack):
    line = f"sigkit stack up {stack.directory}"
    waiting = sigkit("stack", "approve", stack.directory)
    assert (waiting.stdout, line in waiting.stderr) == ("no login waits\n", True)
    assert line in sigkit("stack", "approve", stack.directory, "BCDF-GHJK", "--deny", status=2).stderr
    assert answer("stack", "approve", stack.directory)["running"] is False
    with up(stack.directory):
        assert answer("stack", "approve", stack.directory)["running"] is True


def test_of_a_stack_with_tls_each_command_that_starts_it_has_a_certificate(tmp_path):
    stack = stacks.make(tmp_path / "stack", url="https://stack.example")
    options = "--listen 0.0.0.0:443 --tls-cert CERT --tls-key KEY"
    line = f"sigkit stack up {stack.directory} {options}"
    assert answer("stack", "status", stack.directory)["first"]["command"] == line
    assert answer("stack", "up", "--restored", stack.directory, status=2)["error"]["remedy"] == line
    sigkit("stack", "backup", stack.directory, tmp_path / "copy")
    resume = f"cp -a {tmp_path}/copy NEW && sigkit stack up --restored NEW {options}"
    assert resume in answer("stack", "up", tmp_path / "copy", status=2)["error"]["remedy"]
    assert resume in sigkit("stack", "status", tmp_path / "copy").stdout


def test_metadata_is_renewed_and_keys_rotated_with_the_offline_keys_only(tmp_path):
    stack = stacks.make(tmp_path / "stack", offline=tmp_path / "usb")
    refused = answer("stack", "renew", stack.directory, status=2)["error"]
    assert (refused["code"], "--offline DIR" in refused["remedy"]) == ("SK-UNAVAIL-001", True)
    with up(stack.directory):
        assert answer("stack", "renew", stack.directory, "--offline", tmp_path / "usb")["oldKeys"] == []
        answer("stack", "renew", stack.directory, "--offline", tmp_path / "usb", "--rotate", "timestamp")
        assert stack.json("GET", "/tuf/3.root.json")["signed"]["version"] == 3
        assert stack.call("GET", "/tuf/4.root.json")[0] == 404


@pytest.mark.parametrize(("role", "where"), [("targets", "usb"), ("snapshot", "stack/tuf/keys")])
def test_after_a_rotation_it_is_said_which_key_is_new_and_the_old_one_can_be_deleted(tmp_path, role, where):
    stack = stacks.make(tmp_path / "stack", offline=tmp_path / "usb")
    (before,) = (tmp_path / where).glob(f"tuf-{role}-*")
    rotated = answer("stack", "renew", stack.directory, "--offline", tmp_path / "usb", "--rotate", role)
    assert rotated["oldKeys"] == [str(before)]
    before.unlink()
    assert [rotated["newKey"]] == [str(path) for path in (tmp_path / where).glob(f"tuf-{role}-*")]
    answer("stack", "renew", stack.directory, "--offline", tmp_path / "usb")


def test_a_backup_is_served_when_its_owner_has_said_so(stack, tmp_path):
    made = answer("stack", "backup", stack.directory, tmp_path / "copy")
    assert (made["schema"], made["logSize"]) == ("sigkit.stack.backup/1", 1)
    assert answer("stack", "up", tmp_path / "copy", status=2)["error"]["code"] == "SK-UNAVAIL-054"
    assert answer("stack", "backup", stack.directory, tmp_path / "copy", status=2)["error"]["code"] == "SK-UNAVAIL-052"
    with (tmp_path / "said").open("w") as said, up(tmp_path / "copy", "--restored", stderr=said):
        assert stack.call("GET", "/healthz")[0] == 200
    fork = "restored  the log goes on at 1 entry; what was answered after the backup is lost\n"
    assert fork in (tmp_path / "said").read_text()
    with up(tmp_path / "copy", "--restored", "--output", "json") as again:
        assert again.process.stdout is not None
        assert '"resumedAt": null' in "".join(again.process.stdout.readline() for _ in range(5))  # done already: nothing more is lost


def test_a_backup_that_goes_on_says_in_json_from_where(stack, tmp_path):
    sigkit("stack", "backup", stack.directory, tmp_path / "copy")
    with up(tmp_path / "copy", "--restored", "--output", "json") as server:
        assert server.process.stdout is not None
        assert json.loads(server.first + "".join(server.process.stdout.readline() for _ in range(6)))["resumedAt"] == 1


def test_the_line_that_a_refused_backup_advises_can_be_pasted(stack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backup = tmp_path / "a backup"
    sigkit("stack", "backup", stack.directory, backup)
    remedy = answer("stack", "up", backup, status=2)["error"]["remedy"]
    assert shlex.split(remedy, comments=True) == ["cp", "-a", str(backup), "NEW", "&&", "sigkit", "stack", "up", "--restored", "NEW"]
    subprocess.run(remedy.partition("&&")[0], shell=True, check=True)  # noqa: S602 - what is advised is for a shell
    with up(tmp_path / "NEW", "--restored"):
        assert stack.call("GET", "/healthz")[0] == 200
    assert (backup / "backup.json").exists()


@pytest.mark.parametrize("command", ["renew", "publish"])
def test_nothing_is_signed_for_a_backup_before_its_owner_has_said_that_it_goes_on(stack, tmp_path, command):
    sigkit("stack", "backup", stack.directory, tmp_path / "copy")
    options: tuple[object, ...] = ("--offline", stack.directory / "offline")
    if command == "publish":
        options += ("--trusted-root", stack.client("trusted_root.json"), "--signing-config", stack.client("signing_config.json"))
    before = {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert answer("stack", command, tmp_path / "copy", *options, status=2)["error"]["code"] == "SK-UNAVAIL-054"
    assert {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()} == before
    with up(tmp_path / "copy", "--restored"):
        pass
    answer("stack", command, tmp_path / "copy", *options)


def test_status_of_a_backup_advises_nothing_that_is_refused(stack, tmp_path):
    sigkit("stack", "backup", stack.directory, tmp_path / "copy")
    seen, said = answer("stack", "status", tmp_path / "copy"), sigkit("stack", "status", tmp_path / "copy").stdout
    assert (seen["first"]["command"], seen["firstByHand"]["command"]) == ("", "")
    assert [line.strip() for line in said.splitlines() if "sigkit stack up" in line] == [
        f"cp -a {tmp_path / 'copy'} NEW && sigkit stack up --restored NEW"
    ]
    assert f"sigkit stack renew {tmp_path}" not in said
    assert "by itself\n" not in said


def test_a_root_hash_is_shown_in_one_way(stack, tmp_path):
    made = answer("stack", "backup", stack.directory, tmp_path / "copy")["logRoot"]
    assert re.fullmatch("[0-9a-f]{64}", made)
    assert answer("stack", "status", stack.directory)["log"]["rootHash"] == made
    assert f"root hash {made}" in sigkit("stack", "status", stack.directory).stdout
    assert f"root hash {made}" in sigkit("stack", "backup", stack.directory, tmp_path / "other").stdout


@pytest.mark.root
def test_a_stack_that_cannot_be_written_is_looked_at_and_backed_up(stack, tmp_path):
    with up(stack.directory):
        start_login(stack)  # so that there is a database
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && "$@"'
    for command in (("status", stack.directory), ("backup", stack.directory, tmp_path / "copy")):
        line = ["unshare", "--mount", "sh", "-c", script, "sh", stack.directory, *SIGKIT, "stack", *command]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "copy" / "stack.json").exists()


@pytest.mark.root
@pytest.mark.parametrize(
    "command",
    [
        ("up",),
        ("renew",),
        ("publish", "--trusted-root", "{}/clients/trusted_root.json", "--signing-config", "{}/clients/signing_config.json"),
        ("approve",),
        ("approve", "BCDF-GHJK", "--deny"),
    ],
    ids=lambda command: " ".join(command)[:14],
)
def test_root_writes_nothing_into_a_stack_of_another_user_who_could_not_open_it(stack, command):
    give_away(stack.directory)
    name, *rest = command
    refused = answer("stack", name, stack.directory, *(item.format(stack.directory) for item in rest), status=2)["error"]
    assert (refused["code"], refused["place"]["source"]) == ("SK-UNAVAIL-058", str(stack.directory))
    assert f"sudo -u {pwd.getpwuid(ACCOUNT).pw_name}" in refused["remedy"]
    assert ("--offline" in refused["remedy"]) == (name in {"renew", "publish"})
    assert owners(stack.directory) == {ACCOUNT}


@pytest.mark.root
def test_a_user_without_a_name_is_told_by_number(stack):
    os.chown(stack.directory, 3_999_999, -1)
    assert "sudo -u '#3999999'" in answer("stack", "renew", stack.directory, status=2)["error"]["remedy"]


@pytest.mark.root
def test_root_may_look_at_a_stack_of_another_user_and_leaves_nothing_there(stack, tmp_path):
    give_away(stack.directory)
    for command in (("status",), ("token", stacks.WORKLOAD), ("backup", tmp_path / "copy"), ("down",)):
        name, *rest = command
        sigkit("stack", name, stack.directory, *rest)
        assert owners(stack.directory) == {ACCOUNT}, name


@pytest.mark.root
@pytest.mark.parametrize(
    ("command", "roots"), [("up", "log/state/journal"), ("up", "oidc/logins.db"), ("renew", "tuf/lock"), ("backup", "log/state/journal")]
)
def test_an_owner_whom_root_has_locked_out_is_told_how_that_is_mended(accounts_stack, command, roots):
    path = accounts_stack / roots
    path.touch()
    path.chmod(0o600)
    os.chown(path, 0, 0)
    with account():
        options = [accounts_stack.parent / "copy"] if command == "backup" else []
        refused = answer("stack", command, accounts_stack, *options, status=2)["error"]
    assert refused["place"]["source"] == str(path)
    assert refused["remedy"].endswith(f"sudo chown -R {ACCOUNT} {accounts_stack}")


def test_every_command_has_examples():
    for name in ("init", "up", "down", "status", "backup", "renew", "publish", "token", "approve"):
        assert "Examples:" in sigkit("stack", name, "--help").stdout


def test_other_documents_reach_clients_by_tuf_and_as_files(tmp_path):
    stack = stacks.make(tmp_path / "stack", offline=tmp_path / "usb")
    other = stacks.make(tmp_path / "other")
    files = ("--trusted-root", other.client("trusted_root.json"), "--signing-config", other.client("signing_config.json"))
    first_root = stack.client("root.json").read_bytes()
    with up(stack.directory):
        told = answer("stack", "publish", stack.directory, *files, "--offline", tmp_path / "usb", "--drop")
        assert told["trustedRoot"] == f"sha256:{hashlib.sha256(other.client('trusted_root.json').read_bytes()).hexdigest()}"
        targets = stack.json("GET", "/tuf/2.targets.json")["signed"]["targets"]
        digest = targets["trusted_root.json"]["hashes"]["sha256"]
        assert stack.call("GET", f"/tuf/targets/{digest}.trusted_root.json")[1] == other.client("trusted_root.json").read_bytes()
    assert stack.client("signing_config.json").read_bytes() == other.client("signing_config.json").read_bytes()
    assert stack.client("root.json").read_bytes() == first_root


@pytest.mark.parametrize("wrong", ["trusted_root.json", "signing_config.json"])
def test_what_clients_would_not_take_is_not_published(stack, tmp_path, wrong):
    (tmp_path / "wrong.json").write_text("{}")
    given = {
        name: tmp_path / "wrong.json" if name == wrong else stack.client(name) for name in ("trusted_root.json", "signing_config.json")
    }
    files = ("--trusted-root", given["trusted_root.json"], "--signing-config", given["signing_config.json"])
    before = {path: path.read_bytes() for path in stack.directory.rglob("*") if path.is_file()}
    sigkit("stack", "publish", stack.directory, *files, status=2)
    assert {path: path.read_bytes() for path in stack.directory.rglob("*") if path.is_file()} == before


def test_what_a_published_root_leaves_out_is_listed_and_refused_until_that_is_agreed_to(stack, tmp_path):
    document = json.loads(stack.client("trusted_root.json").read_bytes())
    document["tlogs"][0]["publicKey"]["validFor"]["start"] = "2099-01-01T00:00:00Z"
    document["ctlogs"][0]["publicKey"]["validFor"] = {"start": "2000-01-01T00:00:00Z", "end": "2000-01-02T00:00:00Z"}
    document["certificateAuthorities"], document["timestampAuthorities"] = [], []
    (tmp_path / "root.json").write_text(json.dumps(document))
    line = ("--trusted-root", tmp_path / "root.json", "--signing-config", stack.client("signing_config.json"))
    before = {path: path.read_bytes() for path in stack.directory.rglob("*") if path.is_file()}
    refused = answer("stack", "publish", stack.directory, *line, status=2)["error"]
    assert refused["code"] == "SK-ROOT-067"
    for lost in ("; certificate log", " from 2099-01-01", " until 2000-01-02", "certificate authority", "timestamp authority"):
        assert lost in refused["problem"]
    assert "--drop" in refused["remedy"]
    assert {path: path.read_bytes() for path in stack.directory.rglob("*") if path.is_file()} == before
    other = stacks.make(tmp_path / "other", url="http://127.0.0.1:20008")
    line = ("--trusted-root", other.client("trusted_root.json"), "--signing-config", other.client("signing_config.json"))
    answer("stack", "publish", stack.directory, *line, status=2)
    answer("stack", "publish", stack.directory, *line, "--drop")
    assert stack.client("trusted_root.json").read_bytes() == other.client("trusted_root.json").read_bytes()


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("tlogs", "log http://"),
        ("certificateAuthorities", "certificate authority http://"),
        ("timestampAuthorities", "timestamp authority "),
    ],
)
@pytest.mark.parametrize("how", ["absent", "elsewhere", "ended"])
def test_services_that_the_trust_root_beside_them_does_not_have_are_not_published(stack, tmp_path, kind, lost, how):
    document = json.loads(stack.client("trusted_root.json").read_bytes())
    item, name = document[kind][0], "baseUrl" if kind == "tlogs" else "uri"
    if how == "absent":
        document[kind] = []
    elif how == "elsewhere":
        item[name] = "https://elsewhere.example"
    else:
        holder = item["publicKey"] if kind == "tlogs" else item
        holder["validFor"] = {"start": "2000-01-01T00:00:00Z", "end": "2000-01-02T00:00:00Z"}
    (tmp_path / "root.json").write_text(json.dumps(document))
    line = ("--trusted-root", tmp_path / "root.json", "--signing-config", stack.client("signing_config.json"))
    before = {path: path.read_bytes() for path in stack.directory.rglob("*") if path.is_file()}
    refused = answer("stack", "publish", stack.directory, *line, "--drop", status=2)["error"]
    assert (refused["code"], lost in refused["problem"]) == ("SK-ROOT-068", True)
    assert {path: path.read_bytes() for path in stack.directory.rglob("*") if path.is_file()} == before


def test_an_authority_whose_address_the_trust_root_does_not_state_is_published(stack, tmp_path):
    document = json.loads(stack.client("trusted_root.json").read_bytes())
    del document["certificateAuthorities"][0]["uri"], document["timestampAuthorities"][0]["uri"]
    (tmp_path / "root.json").write_text(json.dumps(document))
    line = ("--trusted-root", tmp_path / "root.json", "--signing-config", stack.client("signing_config.json"))
    answer("stack", "publish", stack.directory, *line)


def test_a_root_in_which_the_old_services_end_now_beside_new_ones_is_published_without_a_question(stack, tmp_path):
    other = stacks.make(tmp_path / "other")
    old, new = (json.loads(one.client("trusted_root.json").read_bytes()) for one in (stack, other))
    for kind in ("tlogs", "ctlogs"):
        old[kind][0]["publicKey"]["validFor"]["end"] = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        old[kind] += new[kind]
    for kind in ("certificateAuthorities", "timestampAuthorities"):
        old[kind] += new[kind]
    (tmp_path / "root.json").write_text(json.dumps(old))
    answer(
        *("stack", "publish", stack.directory, "--trusted-root", tmp_path / "root.json"),
        *("--signing-config", other.client("signing_config.json")),
    )


@pytest.mark.parametrize(
    ("command", "point"),
    [
        (("up",), "stack.run.fsync"),
        (("backup", "copy"), "stack.rename"),
        (("renew",), "tuf.timestamp.fsync"),
        (("approve", "ABCD-EFGH", "--deny"), "database.commit"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_full_disk_is_answered_with_freeing_space(stack, tmp_path, monkeypatch, command, point):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(durable, "_passages", {})
    monkeypatch.setenv("SIGKIT_FAILPOINTS", f"{point}=enospc")
    name, *rest = command
    status, said, _ = run_here("stack", name, str(stack.directory), *rest, "--output", "json")
    refused = json.loads(said)["error"]
    assert status in {2, 3}
    assert "free some space" in refused["remedy"]
    assert "backup" not in refused["remedy"]


def test_up_warns_of_a_disk_that_is_nearly_full(stack, tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with (tmp_path / "said").open("w") as said, up(stack.directory, stderr=said):
        pass
    assert ("are free on the disk" in (tmp_path / "said").read_text()) == (free < LOW_BYTES)
