"""The command line as a user or a script meets it: help, usage errors, codes and JSON."""

import json
import os
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from sigkit.cli.demo_image import assemble, write_layout
from sigkit.cli.main import COMMANDS, run
from sigkit.errors import EXIT_RUN_USAGE, EXIT_USAGE, all_codes
from sigkit.keys.files import write_key_pair
from sigkit.keys.private import generate
from tests.simulators.command import CHECKOUT, run_here
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release

PUBLIC_KEY = generate("ed25519").public.encode_pem()


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def sigkit(*arguments: str, **environment: str) -> Done:
    return Done(*run_here(*arguments, environment=environment))


def started(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-I", "-m", "sigkit", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def test_help_names_every_command_and_every_command_has_help_and_examples():
    top = sigkit("--help")
    assert top.returncode == 0
    for name in COMMANDS:
        assert f"  {name} " in top.stdout
        own = sigkit(name, "--help")
        assert own.returncode == 0, own.stderr
        assert "Usage: sigkit " + name in own.stdout


@pytest.mark.parametrize(
    "name",
    [
        "sign",
        "attest",
        "sign-blob",
        "attest-blob",
        "verify",
        "tree",
        "inspect",
        "pull",
        "run",
        "images",
        "copy",
        "demo",
        "why",
        "completion",
    ],
)
def test_help_shows_examples(name):
    assert re.search(rf"Examples:\n  .*sigkit {name}", sigkit(name, "--help").stdout)


def test_version_is_one_line():
    assert re.fullmatch(r"sigkit \d+\.\d+\.\d+\n", started("--version").stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify-blob", "--trusted-root", "", "file"),
        ("verify-blob", "--key", "", "file"),
        ("verify", "--policy", "", "registry.example/app"),
        ("log", "search", "--identity", ""),
        ("log", "search", "--key", ""),
        ("log", "get", "--rekor-url", "", "1"),
        ("log", "get", "--trusted-root", "", "1"),
    ],
    ids=" ".join,
)
def test_what_is_given_empty_is_not_as_if_it_were_not_given(arguments):
    done = sigkit(*arguments)
    assert (done.returncode, "it is empty" in done.stderr) == (2, True)


INTERRUPTED = f"""
import signal, sys
sys.path.insert(0, {str(CHECKOUT)!r})

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
from sigkit.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["sigkit.cli.main", "click", "sigkit.cli.output"])
def test_what_is_interrupted_while_it_starts_ends_without_a_traceback(module):
    done = subprocess.run([sys.executable, "-I", "-c", INTERRUPTED, module], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_misspelt_command_is_a_usage_error_with_the_near_one():
    done = sigkit("verfy")
    assert done.returncode == 2
    assert "verify" in done.stderr
    assert done.stdout == ""


def test_an_unknown_option_is_a_usage_error():
    assert sigkit("verify", "--no-such").returncode == 2
    assert sigkit("run", "--no-such").returncode == 125


@pytest.mark.parametrize(
    "line",
    [
        "verify --key k --layout a --layout b registry.example/app",
        "verify --key k -ojson -otext registry.example/app",
        "verify --certificate-identity a --certificate-identity b registry.example/app",
        "sign --key a --key b registry.example/app",
        "run --key k --user 1 --user 2 registry.example/app",
        "stack token --lifetime 1 --lifetime 2 s a@b",
    ],
)
def test_an_option_with_one_value_is_not_taken_twice(line):
    done = sigkit(*line.split())
    assert done.returncode in {EXIT_USAGE, EXIT_RUN_USAGE}
    assert "is given twice" in done.stderr + done.stdout


def test_what_follows_the_image_of_run_may_be_given_twice():
    assert "twice" not in sigkit("run", "--key", "absent", "registry.example/app", "tool", "--user", "1", "--user", "2").stderr


@pytest.mark.parametrize("given", ["--offline=true", "--insecure-ignore-tlog=false"])
def test_a_flag_with_a_value_is_answered_with_how_to_write_it(given):
    done = sigkit("verify", given, "registry.example/app")
    assert done.returncode == EXIT_USAGE
    assert f"Write {given.partition('=')[0]} alone" in done.stderr


def test_usage_errors_are_JSON_when_JSON_is_asked_for_anywhere():
    for arguments in (
        ("--output", "json", "verfy"),
        ("verify", "--output=json"),
        ("verify", "-o", "json", "--nothing"),
        ("verify", "-ojson", "--nothing"),
        ("--output", "json", "policy"),
    ):
        done = sigkit(*arguments)
        document = json.loads(done.stdout)
        assert document["schema"] == "sigkit.error/1"
        assert document["exit"] == done.returncode == 2


def test_what_follows_the_image_of_run_is_the_containers_and_asks_for_no_JSON(tmp_path):
    key = tmp_path / "release.pub"
    (tmp_path / "release.pub").write_bytes(PUBLIC_KEY)
    done = sigkit("run", "--root", str(tmp_path / "store"), "--key", str(key), "127.0.0.1:1/app", "kubectl", "-o", "json")
    assert (done.returncode, done.stdout) == (123, "")
    assert done.stderr.startswith("could not check")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--cpus", "nan"), id="cpus, not a number"),
        pytest.param(("--memory", "0"), id="no memory"),
        pytest.param(("--memory", "0g"), id="no memory, in GiB"),
        pytest.param(("--timeout", "nan"), id="time, not a number"),
        pytest.param(("--hostname", "a\udcff"), id="not UTF-8"),
        pytest.param(("--env", "NOT_UTF_8"), id="a variable that is not UTF-8"),
    ],
)
def test_a_value_that_cannot_be_meant_is_a_usage_error(arguments, tmp_path):
    (tmp_path / "release.pub").write_bytes(PUBLIC_KEY)
    wanted = ("--root", str(tmp_path / "store"), "--key", str(tmp_path / "release.pub"))
    done = sigkit("run", *wanted, *arguments, "127.0.0.1:1/app", NOT_UTF_8="\udcff")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("usage error")
    assert not (tmp_path / "store").exists()


def test_a_traceback_obeys_no_outside_text_either():
    done = sigkit("-vv", "why", "\x1b[2J\nx")
    assert "Traceback" in done.stderr
    assert "UnknownCode" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_layout_that_is_not_there_is_the_users_to_mend(tmp_path):
    done = sigkit("copy", f"oci:{tmp_path}/nosuch", "127.0.0.1:1/app:v1")
    assert done.returncode == 2
    assert "nosuch" in done.stderr


@pytest.mark.parametrize(("line", "word"), [("tree 127.0.0.1:1/a", "failed"), ("pull --key {} 127.0.0.1:1/a", "could not check")])
def test_what_checks_nothing_fails_and_does_not_fail_to_check(line, word, tmp_path):
    (tmp_path / "release.pub").write_bytes(PUBLIC_KEY)
    done = sigkit(*line.format(tmp_path / "release.pub").split(), SIGKIT_ROOT=str(tmp_path / "store"))
    assert done.stderr.startswith(f"{word}  SK-UNAVAIL-007")
    assert [step.split()[:2] for step in done.stderr.splitlines()[2:]] == [["next", "check"]]  # nothing beside what to do


def test_a_target_that_holds_something_else_is_the_users_to_mend(tmp_path):
    write_layout(assemble("hello"), tmp_path / "image")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "mine").write_text("mine")
    for taken in ("file", "directory"):
        done = sigkit("copy", f"oci:{tmp_path}/image", f"oci:{tmp_path}/{taken}")
        assert (done.returncode, done.stdout) == (2, "")
        assert taken in done.stderr
    assert os.listdir(tmp_path / "directory") == ["mine"]


@pytest.mark.parametrize("code", sorted(all_codes()))
def test_why_explains_every_code(code, capsys):
    assert run(["why", code]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{code}  ")
    assert len(printed.strip().splitlines()) >= 3


def test_why_refuses_a_code_that_is_not_there():
    done = sigkit("why", "SK-NO-999", "--output", "json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "SK-REF-001"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell):
    done = sigkit("completion", shell)
    assert done.returncode == 0
    assert "_SIGKIT_COMPLETE" in done.stdout


def test_completion_completes_commands():
    done = sigkit(_SIGKIT_COMPLETE="bash_complete", COMP_WORDS="sigkit ver", COMP_CWORD="1")
    assert "verify" in done.stdout


def test_a_reader_that_goes_away_is_no_traceback():
    pipe = subprocess.run(
        ["bash", "-c", f"{sys.executable} -I -m sigkit why --all | head -1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in pipe.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is isolated")
@pytest.mark.parametrize(
    "variables", [{}, {"PYTHONPATH": "HERE"}, {"PYTHONUNBUFFERED": "1"}], ids=["plain", "PYTHONPATH", "any PYTHON variable"]
)
def test_root_imports_nothing_from_beside_the_script_the_working_directory_or_the_environment(tmp_path, variables):
    # Not `sigkit` and `re`: the entry point imports them before it can look around (docs/security.md).
    for poisoned in ("click.py", "json.py", "cryptography.py"):
        (tmp_path / poisoned).write_text("raise SystemExit('poisoned')\n")
    script = tmp_path / "sigkit"
    shutil.copy(os.path.join(os.path.dirname(sys.executable), "sigkit"), script)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = clean | {name: value.replace("HERE", str(tmp_path)) for name, value in variables.items()}
    done = subprocess.run([script, "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "poisoned" not in done.stdout + done.stderr


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line in bash where `$SIGKIT` is the command."""
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "SIGKIT": f"{sys.executable} -m sigkit"},
    )


@pytest.mark.parametrize("arguments", ["why --all", "why --all --output json", "--help", "verify --help", "--version", "completion bash"])
def test_an_answer_that_cannot_be_written_is_no_success_and_no_bug(arguments):
    done = shell(f"$SIGKIT {arguments} >/dev/full")
    assert done.returncode == 3
    assert "cannot write the answer: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "SK-INTERNAL" not in done.stderr


def test_a_reader_that_leaves_is_no_refusal():
    done = shell('$SIGKIT why --all --output json | : ; echo "${PIPESTATUS[0]}"')
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_an_answer_is_there_in_one_piece_for_head():
    done = shell('$SIGKIT why SK-DIGEST-002 | head -1; echo "${PIPESTATUS[0]}"')
    assert done.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">/dev/full 2>&1", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_status_is_the_same_when_nobody_hears_why(redirection, form):
    assert shell(f"$SIGKIT verify --output {form} --key /nonexistent registry.example/app {redirection}").returncode == 2
    assert shell(f"$SIGKIT run --output {form} --key /nonexistent registry.example/app {redirection}").returncode == 125


def test_a_closed_stdout_is_dev_null():
    done = shell("$SIGKIT why SK-DIGEST-002 >&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sign --fulcio-url https://ca.example registry.example/app", "--signing-config"),
        ("verify --type slsaprovenance registry.example/app", "verify-attestation"),
        ("verify -y --key k registry.example/app", "commands that sign"),
        ("verify-blob --offline --key k file", "nothing is ever connected"),
        ("attest --replace --key k registry.example/app", "what is attached stays"),
        ("sign-blob --output-certificate c file", "in the bundle"),
        ("log search --email me@acme.example", "--identity"),
        ("sign --tlog-upload --key k registry.example/app", "transparency log"),
        ("attach sbom registry.example/app", "sigkit attest"),
        ("login registry.example", "podman login"),
        ("version", "--version"),
    ],
)
def test_what_other_tools_have_is_refused_by_name(line, says):
    done = sigkit(*line.split())
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("option", "says"), [("-d", "background"), ("-it", "standard streams"), ("-p", "network"), ("--privileged", "run:")]
)
def test_what_podman_run_has_is_refused_by_name(option, says):
    done = sigkit("run", option, "registry.example/app")
    assert done.returncode == 125
    assert says in done.stderr


def complete(*words: str) -> list[str]:
    done = sigkit(_SIGKIT_COMPLETE="bash_complete", COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1))
    return done.stdout.split()


def test_the_shell_completes_commands_options_choices_files_and_codes():
    assert complete("sigkit", "ver") == [f"plain,verify{rest}" for rest in ("", "-attestation", "-blob", "-blob-attestation")]
    assert complete("sigkit", "verify", "--ke") == ["plain,--key"]
    assert complete("sigkit", "verify", "--key", "rel") == ["file,rel"]
    assert complete("sigkit", "policy", "check", "pol") == ["file,pol"]
    assert complete("sigkit", "run", "--root", "st") == ["dir,st"]
    for command in ("attest", "attest-blob", "verify-attestation"):
        assert complete("sigkit", command, "--type", "slsaprovenance0") == ["plain,slsaprovenance02"]
    assert "plain,SK-DIGEST-002" in complete("sigkit", "why", "sk-dig")


@pytest.mark.parametrize("line", ["sign --key k", "verify --key k", "tree", "pull --key k", "run --key k"])
def test_a_layout_is_not_looked_for_on_docker_hub(line, tmp_path):
    (tmp_path / "release.pub").write_bytes(PUBLIC_KEY)
    command = line.replace(" k", f" {tmp_path / 'release.pub'}").split()
    done = sigkit(*command, "oci:image", SIGKIT_ROOT=str(tmp_path / "store"))
    assert done.returncode in {2, 125}
    assert "sigkit copy oci:image" in done.stderr


@pytest.mark.parametrize("option", ["--cap-add=FOO", "--cap-add=all", "--cap-drop=CAP_FOO"])
def test_an_unknown_capability_is_a_usage_error_and_not_one_that_a_rule_could_grant(option, tmp_path):
    (tmp_path / "release.pub").write_bytes(PUBLIC_KEY)
    done = sigkit("run", option, "--root", str(tmp_path / "store"), "--key", str(tmp_path / "release.pub"), "127.0.0.1:1/app")
    assert done.returncode == 125
    assert "is no capability" in done.stderr


def test_what_starts_without_evidence_is_allowed_and_never_called_verified(tmp_path):
    with MisbehavingRegistry() as registry:
        release = Release.prepare(tmp_path, registry.address)
        rule = f"  - images: {registry.address}/**\n    unverified: {{reason: dev}}\n"
        (tmp_path / "open.yaml").write_text(f"apiVersion: sigkit.dev/v1alpha1\nkind: Policy\nrules:\n{rule}")
        done = release.sigkit("verify", "--policy", "open.yaml", release.reference)
    assert done.status == 0, done.said
    assert done.out.startswith("allowed  ")
    assert "verified  " not in done.out


def test_an_empty_password_is_taken_and_said(tmp_path):
    done = sigkit("key", "generate", "--output-key-prefix", str(tmp_path / "k"), SIGKIT_PASSWORD="")
    assert done.returncode == 0
    assert "the password is empty" in done.stderr


@pytest.mark.parametrize("option", ["--authfile", "--registry-cacert"])
@pytest.mark.parametrize(("command", "status"), [("verify", 2), ("tree", 2), ("run", 125)])
def test_a_file_of_an_option_that_is_not_there_is_named_before_anything_is_asked_for(option, command, status, tmp_path):
    (tmp_path / "release.pub").write_bytes(PUBLIC_KEY)
    key = () if command == "tree" else ("--key", str(tmp_path / "release.pub"))
    missing = str(tmp_path / "missing")
    done = sigkit(command, *key, option, missing, "127.0.0.1:1/app", SIGKIT_ROOT=str(tmp_path / "store"))
    assert done.returncode == status
    assert done.stderr.startswith("usage error  SK-UNAVAIL-001")
    assert missing in done.stderr


@pytest.mark.parametrize(("command", "status"), [("pull", 2), ("run", 125)])
def test_a_root_that_is_a_file_is_a_usage_error(command, status, tmp_path):
    (tmp_path / "release.pub").write_bytes(PUBLIC_KEY)
    (tmp_path / "file").write_text("x")
    done = sigkit(command, "--key", str(tmp_path / "release.pub"), "--root", str(tmp_path / "file"), "127.0.0.1:1/app")
    assert done.returncode == status
    assert done.stderr.startswith("usage error  SK-UNAVAIL-002")
    assert str(tmp_path / "file") in done.stderr


@pytest.mark.parametrize(("command", "status"), [("pull", 3), ("run", 123)])
def test_a_root_that_cannot_be_made_is_no_usage_error(command, status, tmp_path):
    """Nothing can be made below /proc, by no user."""
    (tmp_path / "release.pub").write_bytes(PUBLIC_KEY)
    done = sigkit(command, "--key", str(tmp_path / "release.pub"), "--root", "/proc/self/store", "127.0.0.1:1/app")
    assert done.returncode == status
    assert done.stderr.startswith("could not check  SK-UNAVAIL-002")


@pytest.mark.parametrize(("locale", "lines"), [("C", "`-- "), ("de_DE.ISO-8859-1", "`-- "), ("C.UTF-8", "└── ")])
def test_lines_are_drawn_in_ascii_where_the_locale_has_no_others(locale, lines, tmp_path):
    with MisbehavingRegistry() as registry:
        release = Release.prepare(tmp_path, registry.address)
        done = started("tree", release.reference, LC_ALL=locale)
    assert done.returncode == 0
    assert lines in done.stdout
    assert done.stdout.isascii() is (lines == "`-- ")


@pytest.mark.parametrize("line", ["--help", "verify --help", "why", "verify --key /absent x/app"])
def test_help_and_errors_are_ascii_where_the_locale_has_no_other_letters(line):
    done = started(*line.split(), LC_ALL="C")
    assert (done.stdout + done.stderr).isascii()


def test_what_a_library_warns_its_programmers_of_is_not_told():
    odd = "x509.NameAttribute(NameOID.COUNTRY_NAME, 'DEU', _validate=False)"
    code = "from cryptography import x509\nfrom cryptography.x509 import NameOID\nimport sigkit.cli.main as cli, sigkit.__main__ as it\n"
    code += f"cli.run = lambda _: str(x509.Name([{odd}]).public_bytes()) and 0\nit.main()"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "left",
    [
        "atexit.register(lambda: print('done'))",
        "threading.Thread(target=lambda: (threading.main_thread().join(), print('done'))).start()",
    ],
    ids=["registered", "thread"],
)
def test_what_is_left_to_do_when_a_command_ends_is_done(left):
    code = f"import atexit, threading\n{left}\nimport sigkit.__main__ as it; it.main()"
    command = [sys.executable, "-I", "-c", code, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "done", "")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sign --key k --use-signing-config=false registry.example/app", "--signing-config"),
        ("sign --key k --recursive registry.example/app", "index"),
        ("sign --key k --registry-password=x registry.example/app", "podman login"),
        ("verify --key k --check-claims=false registry.example/app", "always compared"),
        ("verify --key k --local-image registry.example/app", "--layout DIR"),
        ("verify --rekor-url https://log.example registry.example/app", "checked offline"),
        ("verify-blob --ca-roots roots.pem file", "--trusted-root"),
        ("verify --max-workers 3 registry.example/app", "eight"),
        ("verify-attestation --policy p --type custom registry.example/app", "sigkit verify --policy"),
        ("verify-blob --policy p file", "about images"),
        ("verify-blob --name any file", "about images"),
        ("verify-blob --key env://KEY --signature s file", "a key is a file"),
        ("sign --key gcpkms://projects/p registry.example/app", "a key is a file"),
        ("save registry.example/app", "sigkit copy"),
        ("triangulate registry.example/app", "sigkit tree"),
        ("download signature registry.example/app", "sigkit inspect"),
    ],
)
def test_what_a_pipeline_of_cosign_says_is_refused_with_what_to_do(line, says):
    done = sigkit(*line.split())
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--env-file=x", "-e NAME=VALUE"),
        ("--pull=always", "always asked first"),
        ("--net=host", "--network"),
        ("--device=/dev/fuse", "device"),
        ("--init", "process 1"),
        ("--name=web", "containers have no names"),
        ("--memory=1", "512k"),
    ],
)
def test_an_option_of_podman_run_is_answered_with_what_there_is(option, says, tmp_path):
    (tmp_path / "release.pub").write_bytes(PUBLIC_KEY)
    done = sigkit("run", "--key", str(tmp_path / "release.pub"), option, "127.0.0.1:1/app", SIGKIT_ROOT=str(tmp_path / "store"))
    assert done.returncode == 125
    assert says in done.stderr


def test_the_host_name_of_podman_run_is_no_request_for_help_that_ends_well():
    done = sigkit("run", "-h", "web", "registry.example/app")
    assert done.returncode == 125
    assert "--hostname" in done.stderr


def test_a_key_pair_for_a_directory_that_is_not_there_is_a_usage_error_and_names_it(tmp_path):
    done = sigkit("key", "generate", "--output-key-prefix", str(tmp_path / "missing" / "k"), SIGKIT_PASSWORD="x")
    assert done.returncode == 2
    assert f"  where     {tmp_path / 'missing'}\n" in done.stderr
    assert "mkdir" in done.stderr


def test_a_host_without_a_policy_is_told_where_one_would_be():
    done = sigkit("run", "registry.example/app")
    assert done.returncode == 125
    assert "/etc/sigkit/policy.yaml" in done.stderr


def test_a_wrong_password_is_answered_with_the_variable_that_holds_it(tmp_path):
    write_key_pair(str(tmp_path / "release"), "ecdsa-p256", "right")
    done = sigkit("sign", "--key", str(tmp_path / "release.key"), "127.0.0.1:1/app", SIGKIT_PASSWORD="wrong")
    assert done.returncode == 2
    assert "set SIGKIT_PASSWORD" in done.stderr


def test_a_registry_that_is_down_is_answered_with_what_to_check():
    done = sigkit("tree", "127.0.0.1:1/app")
    assert done.returncode == 3
    assert "that the service runs there" in done.stderr


@pytest.mark.parametrize(("source", "says"), [("./image", "did you mean oci:./image ?"), ("oci-archive:image.tar", "skopeo copy")])
def test_a_place_that_copy_does_not_read_is_not_looked_for_on_docker_hub(source, says):
    done = sigkit("copy", source, "127.0.0.1:1/app")
    assert done.returncode == 2
    assert says in done.stderr


def test_a_layout_named_with_a_tag_is_answered_with_its_directory(tmp_path):
    (tmp_path / "image").mkdir()
    done = sigkit("copy", f"oci:{tmp_path / 'image'}:1.0", "127.0.0.1:1/app")
    assert done.returncode == 2
    assert f"without a tag: oci:{tmp_path / 'image'}\n" in done.stderr
