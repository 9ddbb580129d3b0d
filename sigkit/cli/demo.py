"""`sigkit demo`: the whole story on this machine, told by the commands that a user would type.

Each command below runs as a process of its own, exactly as it is printed; nothing is done behind its back but what a step says. The
registry, and the stack of the last step, are served by this process.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from sigkit.cli.options import DIRECTORY
from sigkit.cli.output import EXITS, Command, Output
from sigkit.errors import EXIT_DONE, EXIT_REFUSED, EXIT_RUN_REFUSED, DemoBroken, FileUnwritable, Place
from sigkit.limits import MANIFEST_BYTES
from sigkit.strict import parse_json
from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.strict import Json

COMMAND_TIMEOUT_S = 120
JOB = "https://ci.example/demo/release"
PASSWORD = "demo"  # noqa: S105 - it guards a key that the demo makes and forgets

POLICY = """\
# Only images signed by release.pub, under their own name, may start.
apiVersion: sigkit.dev/v1alpha1
kind: Policy
metadata:
  name: demo
keys:
  release:
    file: release.pub
rules:
  - images: ["{registry}/demo/**"]
    require:
      key: release
"""


class Ran(NamedTuple):
    """One command of the story, as it ended."""

    argv: tuple[str, ...]
    status: int
    text: str


class Step(NamedTuple):
    """One step of the story, told."""

    title: str
    proves: str
    commands: tuple[Ran, ...]


@click.command(
    cls=Command,
    name="demo",
    epilog=EXITS,
    examples="""
    sigkit demo
    sigkit demo --keep ./demo && cd ./demo
    """,
)
@click.option("--keep", type=DIRECTORY, metavar="DIR", help="Leave registry, keys, images and policy in DIR (new or empty) to play with.")
@click.pass_obj
def command(output: Output, keep: str | None) -> None:
    """See the whole story on this machine: serve, push, sign, verify, run, five refusals, and an identity instead of a key.

    Nothing outside the temporary directory (or DIR) is touched, and nothing but loopback is reached. As root, containers are real; without
    root they use a user namespace; where neither lets a container start, the demo does everything but the start, and says so.
    """
    from sigkit.services.extra import SERVER, TOKENS, need_extra
    from sigkit.services.serve import running_registry

    need_extra(Place("demo"), *SERVER, *TOKENS)  # before a directory is made
    with _home(keep) as home, running_registry(home / "registry") as address:
        story = Story(output, home, address)
        steps = story.tell()
    if keep is not None:
        output.note(
            f"\nEverything is in {escape(str(home))}. Go on there:\n"
            f"  cd {escape(shlex.quote(keep))}\n"
            f"  export SIGKIT_PASSWORD={PASSWORD} SIGKIT_ROOT=$PWD/store\n"
            f"  sigkit registry serve --listen {address} --root registry &\n"
            f"  sigkit stack up stack"
        )
    output.answer((), {"schema": "sigkit.demo/1", "steps": [_encode(step) for step in steps]})


@contextlib.contextmanager
def _home(keep: str | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="sigkit-demo-") as directory:
            yield Path(directory)
        return
    home = Path(keep).absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        occupied = any(home.iterdir())
    except OSError as err:
        raise FileUnwritable(f"cannot use the directory: {err.strerror}", place=Place.operator(keep)) from err
    if occupied:
        raise FileUnwritable("the directory is not empty", place=Place.operator(keep), remedy="name a new one")
    yield home


class Story:
    """The nine steps, each told while it happens."""

    def __init__(self, output: Output, home: Path, address: str) -> None:
        self._output = output
        self._home = home
        self._address = address
        self._image = f"{address}/demo/hello:1.0"
        self._environment = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR"}},
            "SIGKIT_PASSWORD": PASSWORD,
            "SIGKIT_ROOT": str(home / "store"),
        }
        self._digest = ""
        self._steps: list[Step] = []
        self._commands: list[Ran] = []

    def tell(self) -> tuple[Step, ...]:
        """Tell all steps.

        Raises:
            DemoBroken: a command did not end as the story says.
        """
        self._say(f"In {escape(str(self._home))}, with SIGKIT_PASSWORD={PASSWORD} and SIGKIT_ROOT=$PWD/store\n")
        self._serve()
        self._push()
        self._refuse_unsigned()
        self._sign()
        self._verify()
        self._start()
        self._refuse_moved_and_copied()
        self._refuse_changed_byte()
        self._sign_without_key()
        return tuple(self._steps)

    def _serve(self) -> None:
        with self._step("A private registry on loopback", "an OCI 1.1 registry over plain files, in this process"):
            self._show(f"sigkit registry serve --listen {self._address} --root registry")

    def _push(self) -> None:
        from sigkit.cli.demo_image import assemble, write_layout

        with self._step("A small real image out of this machine's own files", "what is pushed is named by the digest of its bytes"):
            self._digest = str(write_layout(assemble("hello from a verified image"), self._home / "image"))
            write_layout(assemble("hello from a TAMPERED image"), self._home / "tampered")
            self._run("copy", "oci:image", self._image)

    def _refuse_unsigned(self) -> None:
        with self._step("A key pair and a policy; the unsigned image is refused", "no evidence, no start: with the reason and the remedy"):
            self._run("key", "generate", "--output-key-prefix", "release")
            policy = POLICY.format(registry=self._address)
            (self._home / "policy.yaml").write_text(policy, encoding="utf-8")
            self._show("cat policy.yaml", policy)
            self._run("run", "--policy", "policy.yaml", self._image, status=EXIT_RUN_REFUSED)

    def _sign(self) -> None:
        with self._step("Sign it", "the signature is an OCI artifact beside the image, in the form that cosign 3 reads"):
            self._run("sign", "--key", "release.key", self._image)
            self._run("tree", self._image)

    def _verify(self) -> None:
        with self._step("Verify it", "which key signed which digest under which name; and what was not checked"):
            self._run("verify", "--key", "release.pub", self._image)

    def _start(self) -> None:
        from sigkit.runtime.create import can_run

        with self._step("Run it under the policy", "the verified digest, and nothing else, starts in namespaces of its own"):
            reason = can_run()
            if reason:
                self._run("pull", "--policy", "policy.yaml", self._image)
                self._say(f"  This machine lets no container start: {escape(reason)}. The image was admitted and pulled, not started.")
            else:
                self._run("run", "--policy", "policy.yaml", self._image)

    def _refuse_moved_and_copied(self) -> None:
        other = f"{self._address}/demo/other:1.0"
        with self._step(
            "Move the tag to a tampered image; copy image and signature to another name", "a tag proves nothing, and the name is signed too"
        ):
            self._run("copy", "oci:tampered", self._image)
            self._run("run", "--policy", "policy.yaml", self._image, status=EXIT_RUN_REFUSED)
            self._run("copy", f"{self._address}/demo/hello@{self._digest}", other)
            self._run("run", "--policy", "policy.yaml", other, status=EXIT_RUN_REFUSED)

    def _refuse_changed_byte(self) -> None:
        with self._step(
            "Change one byte of a layer in the registry's storage", "every byte is verified: nothing started, nothing half-unpacked is left"
        ):
            self._run("copy", "oci:image", self._image)
            self._show(self._change_byte())
            self._run("run", "--root", "other-host", "--policy", "policy.yaml", self._image, status=EXIT_RUN_REFUSED)
            self._check_nothing_left()

    def _change_byte(self) -> str:
        """Flip one bit in the middle of the stored layer, and return the command that does the same."""
        layer = self._layer_path()
        content = bytearray(layer.read_bytes())
        middle = len(content) // 2
        content[middle] ^= 1
        layer.write_bytes(content)
        name = layer.relative_to(self._home)
        return f"printf '\\{content[middle]:03o}' | dd of={name} bs=1 seek={middle} conv=notrunc"

    def _check_nothing_left(self) -> None:
        left = [path.name for path in (self._home / "other-host").rglob("hello")]
        if left:
            raise DemoBroken("something was left half-unpacked", place=Place(str(self._home / "other-host")), got=", ".join(left))

    def _sign_without_key(self) -> None:
        from sigkit.services.stack.run import running_stack

        proves = "an identity signed, a log holds it and an authority dates it, on this machine alone; another identity is refused"
        with self._step("Sign without a key: a private sigstore, and the token of a CI job", proves):
            self._run("stack", "init", "stack")
            with running_stack(str(self._home / "stack")) as stack:
                self._show("sigkit stack up stack &")
                self._sign_as_job(stack.address, stack.config.url)

    def _sign_as_job(self, address: str, issuer: str) -> None:
        image, trust = f"{address}/demo/hello:1.0", ("--trusted-root", "stack/clients/trusted_root.json")
        identity = ("--certificate-oidc-issuer", issuer, "--certificate-identity")
        self._run("copy", "oci:image", image)
        self._run("stack", "token", "stack", JOB, into="job-token")
        services = ("--signing-config", "stack/clients/signing_config.json")
        self._run("sign", *services, *trust, "--identity-token", "job-token", "--yes", image)
        self._run("verify", *trust, *identity, JOB, image)
        self._run("verify", *trust, *identity, f"{JOB}-of-another", image, status=EXIT_REFUSED)

    def _layer_path(self) -> Path:
        manifest = (self._home / "image" / "blobs" / self._digest.replace(":", "/")).read_bytes()
        layer = parse_json(manifest, most_bytes=MANIFEST_BYTES).member("layers").items(1)[0].member("digest").text()
        # Beside the blob itself there is an empty mark of that name in each repository that has it.
        named = (self._home / "registry").rglob(layer.partition(":")[2])
        return max((path for path in named if path.is_file()), key=lambda path: path.stat().st_size)

    def _run(self, *arguments: str, status: int = EXIT_DONE, into: str = "") -> None:
        """Run a command, whose output goes to the file `into` if that is named."""
        argv = ("sigkit", *arguments)
        self._say(f"  $ {shlex.join(argv)}" + (f" > {into}" if into else ""))
        ended = subprocess.run(
            [sys.executable, "-I", "-m", "sigkit", *arguments],
            cwd=self._home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        text = ended.stdout.decode("utf-8", "replace")
        if into and not ended.returncode:
            (self._home / into).write_text(text, encoding="utf-8")
            text = ""
        self._tell_lines(text)
        self._commands.append(Ran(argv, ended.returncode, text))
        if ended.returncode != status:
            raise DemoBroken(
                f"`{shlex.join(argv)}` did not end as the story says",
                place=Place("sigkit demo"),
                expected=f"exit {status}",
                got=f"exit {ended.returncode}: {text[-300:]}",
            )
        if status:
            self._say(f"    (exit {status})")

    def _show(self, line: str, text: str = "") -> None:
        self._say(f"  $ {line}")
        self._tell_lines(text)
        self._commands.append(Ran(tuple(shlex.split(line)), EXIT_DONE, text))

    def _tell_lines(self, text: str) -> None:
        for line in text.splitlines():
            self._say(f"    {escape(line, 400)}")

    @contextlib.contextmanager
    def _step(self, title: str, proves: str) -> Iterator[None]:
        self._commands.clear()
        self._say(f"{len(self._steps) + 1}. {title}")
        yield
        self._steps.append(Step(title, proves, tuple(self._commands)))
        self._say(f"  Proved: {proves}.\n")

    def _say(self, line: str) -> None:
        if not self._output.json and not self._output.quiet:
            click.echo(line)


def _encode(step: Step) -> Json:
    return {
        "title": step.title,
        "proves": step.proves,
        "commands": [{"argv": list(ran.argv), "exit": ran.status, "output": ran.text} for ran in step.commands],
    }
