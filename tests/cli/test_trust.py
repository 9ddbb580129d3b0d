"""`sigkit trust` as a user runs it, and the names that it gives to trust roots."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from sigkit import durable
from sigkit.digest import Digest
from sigkit.keys.private import generate
from tests.simulators.command import SIGKIT, run_here
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply
from tests.simulators.sigstore import IMAGE, REPOSITORY, Simulator
from tests.simulators.trusting import WHO, fetch, publish, write_signed_file


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Home:
    """A user's working directory, with roots of their own beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trust = path / "trust"

    def __call__(self, *arguments: str, **environment: str) -> Done:
        """Run a command in this process, which is much quicker than starting one."""
        return Done(*run_here(*arguments, home=self.path, environment={"SIGKIT_TRUST": str(self.trust), **environment}))

    def start(self, *arguments: str, **environment: str) -> Done:
        """Run a command as a process of its own, which may be killed."""
        env = {**os.environ, "SIGKIT_TRUST": str(self.trust), **environment}
        done = subprocess.run([*SIGKIT, *arguments], cwd=self.path, env=env, capture_output=True, text=True, timeout=60, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def answer(self, *arguments: str):
        done = self(*arguments, "--output", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def instance(home) -> Simulator:
    return write_signed_file(home.path)


@pytest.fixture
def mirror(instance):
    tuf = publish(instance)
    with MisbehavingServer(tuf) as server:
        yield server


def pinned(mirror) -> bytes:
    root: bytes = mirror.core.pinned
    return root


def init(home, mirror, name="acme"):
    (home.path / "1.root.json").write_bytes(pinned(mirror))
    return home("trust", "init", name, "--mirror", mirror.url, "--root", "1.root.json")


def test_a_repository_is_pinned_by_its_root_and_verifies_by_its_name(home, mirror):
    done = init(home, mirror)
    assert done.returncode == 0, done.stderr
    assert "https://ca.example" in done.stdout
    assert home("verify-blob", *WHO, "--trusted-root", "acme", "--bundle", "b.json", "file").returncode == 0


def test_or_by_the_digest_of_its_first_root(home, mirror):
    digest = Digest.of(pinned(mirror)).hex
    assert home("trust", "init", "acme", "--mirror", mirror.url, "--sha256", digest).returncode == 0
    wrong = home("trust", "init", "other", "--mirror", mirror.url, "--sha256", "0" * 64)
    assert wrong.returncode == 1
    assert "SK-ROOT-065" in wrong.stderr
    assert not (home.trust / "other").exists()


def test_a_stack_that_is_named_for_its_repository_is_told_with_the_right_url(home, instance):
    repository = publish(instance)

    def below(seen):
        return (
            repository(dataclasses.replace(seen, target=seen.target.removeprefix("/tuf"))) if seen.path.startswith("/tuf/") else Reply(404)
        )

    (home.path / "1.root.json").write_bytes(repository.pinned)
    for proof in (("--root", "1.root.json"), ("--sha256", Digest.of(repository.pinned).hex)):
        with MisbehavingServer(below) as server:
            done = home("trust", "init", "acme", "--mirror", f"{server.url}/", *proof)
            assert done.returncode == 3
            assert f"--mirror {server.url}/tuf" in done.stderr
            assert home("trust", "init", "acme", "--mirror", f"{server.url}/tuf", *proof).returncode == 0
        with MisbehavingServer(lambda _: Reply(404)) as server:
            done = home("trust", "init", "nothing", "--mirror", server.url, *proof)
            assert (done.returncode, "/tuf" in done.stderr) == (3, False)
            assert "there is no TUF repository at this address" in done.stderr
            assert "check the address" in done.stderr
        shutil.rmtree(home.trust)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "needs --mirror URL, and --root FILE or --sha256 HEX too"),
        (("--mirror", "https://m.example"), "needs --root FILE or --sha256 HEX too"),
        (("--root", "x"), "needs --mirror URL too"),
        (("--mirror", "https://m.example", "--root", "x", "--sha256", "0" * 64), "not both"),
        (("--mirror", "https://m.example", "--sha256", "abcd"), "expected  64 hex digits, in lower case · got 4\n"),
        (("--mirror", "https://m.example", "--sha256", "xyz"), "expected  64 hex digits, in lower case · got xyz\n"),
    ],
)
def test_what_is_missing_or_too_short_is_a_usage_error(home, arguments, says):
    done = home("trust", "init", "acme", *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_pinning_the_same_again_says_that_it_was(home, mirror, instance):
    (home.path / "tr.json").write_bytes(instance.root())
    pin = ("trust", "pin", "plain", "tr.json")
    assert [init(home, mirror).stdout.splitlines()[0] for _ in range(2)] == ["pinned  acme", "was pinned already  acme"]
    assert [home(*pin).stdout.splitlines()[0] for _ in range(2)] == ["pinned  plain", "was pinned already  plain"]


def test_what_cannot_sign_says_so_when_it_is_pinned_and_shown(home, instance):
    (home.path / "tr.json").write_bytes(instance.root())
    for command in (("pin", "plain", "tr.json"), ("show", "plain")):
        assert "to sign: --signing-config FILE --trusted-root plain\n" in home("trust", *command).stdout


def test_a_file_that_is_no_tuf_root_is_named_as_the_user_s(home, mirror, instance):
    (home.path / "trusted_root.json").write_bytes(instance.root())
    done = home("trust", "init", "acme", "--mirror", mirror.url, "--root", "trusted_root.json")
    assert done.returncode == 2
    assert "where     trusted_root.json" in done.stderr
    assert "KeyError" not in done.stderr
    assert not (home.trust / "acme").exists()


def test_a_name_that_nobody_pinned_leads_to_init(home):
    assert "sigkit trust init acme --mirror URL" in home("trust", "update", "acme").stdout
    assert "./acme" in home("trust", "show", "acme").stderr


def test_a_name_that_nobody_pinned_is_answered_with_those_that_are_known(home, mirror):
    init(home, mirror)
    assert "expected  one of: acme\n" in home("trust", "update", "nope").stdout  # what can be updated
    assert "one of: public-good, acme · got nope\n" in home("trust", "show", "nope").stderr
    assert "next      sigkit trust init public-good\n" in home("trust", "update", "public-good").stdout


def test_what_is_kept_and_damaged_is_fetched_anew_by_the_next_step(home, mirror):
    init(home, mirror)
    cache = home.trust / "acme" / "cache.json"
    document = json.loads(cache.read_text())
    document["files"]["timestamp.json"] = document["files"]["snapshot.json"]
    cache.write_text(json.dumps(document))
    done = home("trust", "show", "acme")
    assert "sigkit trust update acme" in done.stderr
    assert home("trust", "update", "acme").returncode == 0
    assert home("trust", "show", "acme").returncode == 0


def test_roots_are_listed_and_explained(home, mirror):
    init(home, mirror)
    assert [item["name"] for item in home.answer("trust", "show")["roots"]] == ["public-good", "acme"]
    told = home.answer("trust", "show", "acme")["roots"][0]
    assert {item["role"] for item in told["trusts"]} == {"certificates", "log", "certificate log", "timestamps"}
    assert told["checked"] <= told["expires"]
    text = home("trust", "show", "acme").stdout
    assert "since 2020-01-01T00:00:00Z" in text
    assert "run by ca.example" in text


def test_a_file_is_explained_too_and_a_name_is_never_a_file(home, instance):
    (home.path / "root.json").write_bytes(instance.root())
    (home.path / "acme").write_bytes(instance.root())
    assert "https://ca.example" in home("trust", "show", "./root.json").stdout
    missing = home("trust", "show", "acme")
    assert missing.returncode == 2
    assert "SK-UNAVAIL-061" in missing.stderr
    assert home("trust", "show", "./acme").returncode == 0


def test_update_fetches_what_changed(home, mirror):
    init(home, mirror)
    other = Simulator()
    mirror.core.targets_files["trusted_root.json"] = other.root()
    mirror.core.publish()
    before = home.answer("trust", "show", "acme")["roots"][0]["digest"]
    assert home("trust", "update").returncode == 0
    assert home.answer("trust", "show", "acme")["roots"][0]["digest"] == str(Digest.of(other.root())) != before


def test_update_says_a_line_of_each_root(home, mirror, instance):
    (home.path / "tr.json").write_bytes(instance.root())
    init(home, mirror)
    home("trust", "pin", "plain", "tr.json")
    first, second = home("trust", "update").stdout.splitlines()
    assert first.startswith("acme  up to date, valid until 20")
    assert second == "plain  stays as it is: a file that was pinned"
    assert "https://ca.example" in home("trust", "update", "-v").stdout


def test_the_age_of_a_root_is_told_from_a_day_on_and_else_to_whom_asks(home, instance):
    for days, name in ((0.9, "young"), (1.1, "old")):
        fetch(publish(instance, days_ago=days), home.trust, name)
    verify = ("verify-blob", *WHO, "--bundle", "b.json", "file", "--trusted-root")
    assert "ago" not in home(*verify, "young").stderr
    assert "hours ago" in home(*verify, "young", "-v").stderr
    assert "ago" in home(*verify, "old").stderr


def test_update_says_when_the_mirror_is_down(home, instance):
    fetch(publish(instance), home.trust)
    done = home("trust", "update", "acme")
    assert done.returncode == 3


def test_a_root_that_cannot_be_updated_stands_in_no_other_s_way(home, mirror, instance):
    fetch(publish(instance), home.trust, "away")  # its mirror is down
    init(home, mirror, "damaged")
    init(home, mirror, "whole")
    (home.trust / "damaged" / "pin.json").write_text("{")
    before = (home.trust / "whole" / "cache.json").stat().st_ino
    done = home("trust", "update", "--output", "json")
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert [root["name"] for root in told["roots"]] == ["whole"]
    assert (home.trust / "whole" / "cache.json").stat().st_ino != before
    assert {item["name"]: item["refusal"]["error"]["code"][:10] for item in told["failed"]} == {
        "away": "SK-UNAVAIL",
        "damaged": "SK-PARSE-0",
    }
    lines = home("trust", "update").stdout.splitlines()
    assert lines[0] == "2 of 3 not updated"
    assert [line.partition(":")[0] for line in lines if "not updated:" in line] == ["away  not updated", "damaged  not updated"]


def test_a_trusted_root_is_pinned_as_it_is(home, instance):
    (home.path / "root.json").write_bytes(instance.root())
    digest = Digest.of(instance.root()).hex
    assert home("trust", "pin", "plain", "root.json", "--sha256", "0" * 64).returncode == 1  # as by `init`
    assert home("trust", "pin", "plain", "root.json", "--sha256", digest).returncode == 0
    (home.path / "root.json").unlink()
    assert home("verify-blob", *WHO, "--trusted-root", "plain", "--bundle", "b.json", "file").returncode == 0


@pytest.mark.parametrize(
    ("command", "instead"), [("initialize", "trust init"), ("trusted-root", "trust create"), ("signing-config", "trust create")]
)
def test_what_cosigns_users_type_is_known(home, command, instead):
    done = home(command)
    assert done.returncode == 2
    assert instead in done.stderr


@pytest.mark.parametrize(
    "point", ["trust.root.rename", "trust.pin.rename", "trust.pin.directory", "trust.cache.rename", "trust.cache.directory"]
)
def test_a_killed_command_pins_all_or_nothing_and_can_be_run_again(home, mirror, point):
    (home.path / "1.root.json").write_bytes(pinned(mirror))
    line = ("trust", "init", "acme", "--mirror", mirror.url, "--root", "1.root.json")
    assert home.start(*line, SIGKIT_FAILPOINTS=f"{point}=kill").returncode == -9
    before = home("verify-blob", *WHO, "--trusted-root", "acme", "--bundle", "b.json", "file")
    assert before.returncode in ({0} if point == "trust.cache.directory" else {2, 3}), before.stderr
    assert home(*line).returncode == 0
    assert home("verify-blob", *WHO, "--trusted-root", "acme", "--bundle", "b.json", "file").returncode == 0


POLICY = """
apiVersion: sigkit.dev/v1alpha1
kind: Policy
trustedRoots:
  ours: {pinned: acme%s}
authorities:
  ci:
    trustedRoot: ours
    identity: {issuer: https://issuer.example, subjectRegExp: ".*"}
rules:
  - images: ["**"]
    require: {authority: ci}
"""


def test_a_policy_names_a_root_of_this_machine_and_its_limits(home, instance):
    fetch(publish(instance, days_ago=10), home.trust)
    for limits, status in (("", 3), (", maxExpired: 2d", 3), (", maxExpired: 4d", 0), (", maxExpired: 4d, maxAge: 9d", 3)):
        (home.path / "p.yaml").write_text(POLICY % limits)
        done = home("policy", "check", "p.yaml")
        assert done.returncode == status, (limits, done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("limits", "column"), [(", maxAge: 3", "maxAge"), (", maxExpired: -1d", "maxExpired"), (", file: x", "`file` or `pinned`")]
)
def test_a_policy_s_limits_are_days(home, instance, limits, column):
    (home.path / "p.yaml").write_text(POLICY % limits)
    done = home("policy", "check", "p.yaml")
    assert done.returncode == 2
    assert column in done.stderr


def test_a_policy_that_names_a_root_that_nobody_pinned_is_wrong(home):
    (home.path / "p.yaml").write_text(POLICY % "")
    done = home("policy", "check", "p.yaml")
    assert done.returncode == 2
    assert "p.yaml: 5:" in done.stderr


TWO_ROOTS = """
apiVersion: sigkit.dev/v1alpha1
kind: Policy
trustedRoots:
  ours: {pinned: ours}
  theirs: {pinned: theirs}
authorities:
  of-ours: {trustedRoot: ours, identity: {issuer: https://issuer.example, subjectRegExp: "https://.*"}}
  of-theirs: {trustedRoot: theirs, identity: {issuer: https://issuer.example, subjectRegExp: "https://.*"}}
rules:
  - images: ["**"]
    name: any
    require: {authority: %s}
"""


@pytest.mark.parametrize(("authority", "status"), [("of-ours", 0), ("of-theirs", 1)])
def test_a_policy_says_which_root_may_speak_for_an_identity(home, authority, status):
    """Judge one signature by an identity that both instances could certify, and only one did."""
    sim = Simulator()
    sim.change["statement"] = lambda document: {**document, "predicateType": "https://sigstore.dev/cosign/sign/v1"}
    (home.path / "b.json").write_bytes(sim.make("dsse", ("dsse",)).parts["bundle"])
    for name, root in (("ours", sim.root()), ("theirs", Simulator().root())):
        (home.path / "root.json").write_bytes(root)
        assert home("trust", "pin", name, "root.json").returncode == 0
    (home.path / "p.yaml").write_text(TWO_ROOTS % authority)
    done = home("verify", "--policy", "p.yaml", "--bundle", "b.json", f"{REPOSITORY}@sha256:{IMAGE}")
    assert done.returncode == status, done.stdout + done.stderr


def write_chain(path: Path, *certificates) -> None:
    path.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))


def test_files_for_services_of_one_s_own_are_written(home, instance):
    from sigkit.errors import Place
    from sigkit.keys.public import parse_public_key
    from tests.simulators.sigstore_logs import spki

    write_chain(home.path / "ca.pem", instance.ca.intermediate.certificate, instance.ca.anchor.certificate)
    write_chain(home.path / "tsa.pem", instance.tsa.leaf.certificate, instance.tsa.anchor.certificate)
    for name, key in (("ct", instance.ca.logs[0].key), ("log1", instance.log1.key), ("log2", instance.log2.key)):
        (home.path / f"{name}.pub").write_bytes(parse_public_key(spki(key), Place("x")).encode_pem())
    old = ",start-time=2020-01-01T00:00:00Z"
    made = home.answer(
        *("trust", "create", "--operator", "acme.example"),
        *("--fulcio", f"url=https://ca.example,certificate-chain=ca.pem{old}", "--oidc-provider", "url=https://issuer.example"),
        *("--rekor", f"url=https://log1.example,public-key=log1.pub,api-version=1{old}"),
        *("--rekor", f"url=https://log2.example,public-key=log2.pub,operator=other.example{old}"),
        *("--ctfe", f"url=https://ct.example,public-key=ct.pub{old}"),
        *("--tsa", f"url=https://tsa.example/api/v1/timestamp,certificate-chain=tsa.pem{old}"),
        *("--tsa-config", "EXACT:1"),
    )
    assert home("verify-blob", *WHO, "--trusted-root", made["trustedRoot"], "--bundle", "b.json", "file").returncode == 0
    config = json.loads((home.path / made["signingConfig"]).read_bytes())
    assert [item["majorApiVersion"] for item in config["rekorTlogUrls"]] == [1, 2]
    assert config["tsaConfig"] == {"selector": "EXACT", "count": 1}
    again = home("trust", "create", "--ctfe", "url=https://ct.example,public-key=ct.pub")
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert json.loads((home.path / made["signingConfig"]).read_bytes()) == config


CREATE = ("trust", "create", "--rekor", "url=https://l.example,public-key=k.pub", "--output-dir", "made")
CREATED = {"trusted_root.json", "signing_config.json"}


@pytest.mark.parametrize(
    "point",
    [f"{point}={number}" for point in ("durable.write.rename", "durable.write.directory", "durable.together.link") for number in (1, 2)],
)
@pytest.mark.parametrize("end", ["kill", "enospc"])
def test_both_files_are_made_or_none_and_after_a_killed_run_both_anew(home, point, end):
    (home.path / "k.pub").write_bytes(generate("ecdsa-p256").public.encode_pem())
    (home.path / "made").mkdir()
    assert home.start(*CREATE, SIGKIT_FAILPOINTS=f"{point}*{end}").returncode == (-9 if end == "kill" else 3)
    there = {path.name for path in (home.path / "made").iterdir()}
    assert there != CREATED
    assert end == "kill" or not there
    assert home(*CREATE).returncode == 0
    assert {path.name for path in (home.path / "made").iterdir() if not durable.is_unfinished(path.name)} == CREATED


def test_both_files_of_a_run_that_was_killed_at_its_very_end_are_left(home):
    (home.path / "k.pub").write_bytes(generate("ecdsa-p256").public.encode_pem())
    (home.path / "made").mkdir()
    home(*CREATE)
    made = {path.name: path.read_bytes() for path in (home.path / "made").iterdir()}
    for name in CREATED:
        (home.path / "made" / f".{name}.new").hardlink_to(home.path / "made" / name)
    assert home(*CREATE).returncode == 2
    assert {path.name: path.read_bytes() for path in (home.path / "made").iterdir()} == made


@pytest.mark.parametrize("name", sorted(CREATED))
def test_a_file_that_is_there_is_left_and_nothing_is_made_beside_it(home, name):
    (home.path / "k.pub").write_bytes(generate("ecdsa-p256").public.encode_pem())
    (home.path / "made").mkdir()
    (home.path / "made" / name).write_text("mine")
    done = home(*CREATE)
    assert done.returncode == 2
    assert f"{name} is there already" in done.stderr
    assert [path.read_text() for path in (home.path / "made").iterdir()] == ["mine"]


def test_an_update_that_cannot_be_kept_has_failed(home, mirror):
    (home.path / "1.root.json").write_bytes(pinned(mirror))
    home("trust", "init", "acme", "--mirror", mirror.url, "--root", "1.root.json")
    done = home.start("trust", "update", SIGKIT_FAILPOINTS="trust.cache.rename=enospc")
    assert done.returncode == 3
    assert "not updated" in done.stdout
    assert "next" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--fulcio", "url=https://ca.example"),
        ("--rekor", "public-key=k.pub"),
        ("--rekor", "url=http://[::1,public-key=k.pub"),
        ("--rekor", "url=http://[1:::2],public-key=k.pub"),
        ("--rekor", "url=notaurl,public-key=k.pub"),
        ("--ctfe", "url=notaurl,public-key=k.pub"),  # stands in no signing config
        ("--rekor", "url=https://l.example,public-key=k.pub", "--oidc-provider", "url=also not"),
        ("--rekor", "url=https://l.example,public-key=k.pub,colour=red"),
        ("--rekor", "url=https://l.example,public-key=k.pub,start-time=yesterday"),
        ("--rekor", "url=https://l.example,public-key=k.pub,api-version=3"),
        ("--rekor", "url=https://l.example,public-key=k.pub", "--rekor-config", "EXACT:0"),
        ("--rekor", "url=https://l.example,public-key=k.pub", "--rekor-config", "EXACT:2"),
        (*("--rekor", "url=https://l.example,public-key=k.pub") * 2, "--rekor-config", "EXACT:2"),
    ],
)
def test_a_service_that_is_described_wrongly_is_a_usage_error_and_nothing_is_written(home, arguments):
    (home.path / "k.pub").write_bytes(generate("ecdsa-p256").public.encode_pem())
    assert home("trust", "create", *arguments).returncode == 2
    assert not list(home.path.glob("*.json"))


@pytest.mark.parametrize(
    ("line", "at"), [("sigkit trust show ac", 3), ("sigkit trust update ac", 3), ("sigkit verify --trusted-root ac", 3)]
)
def test_a_shell_completes_the_names_that_are_pinned(home, mirror, line, at):
    init(home, mirror)
    done = home.start(_SIGKIT_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(at))
    assert done.stdout == "plain,acme\n"
