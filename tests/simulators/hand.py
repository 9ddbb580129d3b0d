"""What a user's hand does: sigkit commands typed one after another in a directory of their own.

What starts containers or serves is a process, as it is for a user; the others run in this one, which is much quicker than starting one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sigkit.cli.demo_image import assemble, write_layout
from tests.simulators.command import run_here

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES = ("run", "pull")

POLICY = """\
apiVersion: sigkit.dev/v1alpha1
kind: Policy
metadata:
  name: hand
keys:
  release:
    file: release.pub
rules:
  - images: ["{registry}/**"]
    require:
      key: release
"""


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    def document(self) -> Any:
        """Return the JSON document that it printed."""
        return json.loads(self.out)


class Hand:
    """Types commands in `home`, with a password and a store of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}},
            "SIGKIT_PASSWORD": "hand",
            "SIGKIT_ROOT": str(home / "store"),
        }

    def argv(self, *arguments: str | Path) -> list[str]:
        """Return the whole command line."""
        return [sys.executable, "-I", "-m", "sigkit", *map(str, arguments)]

    def __call__(self, *arguments: str | Path, status: int = 0, **environment: str) -> Done:
        """Type a command, and demand the exit status."""
        done = self._start if arguments[0] in PROCESSES else self._run
        ended = done(tuple(map(str, arguments)), {**self.environment, **environment})
        assert ended.status == status, f"exit {ended.status}, not {status}\n{ended.out}\n{ended.err}"
        assert "Traceback" not in ended.err
        return ended

    def _run(self, arguments: tuple[str, ...], environment: dict[str, str]) -> Done:
        return Done(*run_here(*arguments, home=self.home, environment=environment))

    def _start(self, arguments: tuple[str, ...], environment: dict[str, str]) -> Done:
        ended = subprocess.run(
            self.argv(*arguments),
            cwd=self.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return Done(ended.returncode, ended.stdout, ended.stderr)

    def json(self, *arguments: str | Path, status: int = 0) -> Any:
        """Type a command with `--output json`, and return its document."""
        return self(*arguments, "--output", "json", status=status).document()

    def image(self, name: str, greeting: str) -> str:
        """Write an image as a layout named `name`, and return its manifest's digest."""
        return str(write_layout(assemble(greeting), self.home / name))

    def policy(self, registry: str, name: str = "policy.yaml") -> None:
        """Write a policy that asks for release.pub on all images of a registry."""
        (self.home / name).write_text(POLICY.format(registry=registry), encoding="utf-8")

    def audit(self) -> str:
        """Return the whole audit log of the store, or nothing when there is none."""
        logs = [path for path in (self.home / "store").rglob("audit*") if path.is_file()]
        return "".join(path.read_text(encoding="utf-8") for path in logs)

    @contextlib.contextmanager
    def registry(self, *options: str) -> Iterator[str]:
        """Serve `home/registry` on a free loopback port, and give the address."""
        argv = self.argv("registry", "serve", "--listen", "127.0.0.1:0", "--root", "registry", *options)
        with subprocess.Popen(argv, cwd=self.home, env=self.environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                line = server.stdout.readline()
                found = re.search(r"127\.0\.0\.1:\d+", line)
                assert found, f"the registry said {line!r}"
                yield found[0]
            finally:
                server.terminate()
                server.wait(20)


def leftovers() -> frozenset[str]:
    """Return this host's mounts and sigkit's control groups: what is there afterwards and was not before was left behind."""
    mounts = frozenset(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return mounts | frozenset(str(path) for path in Path("/sys/fs/cgroup").rglob("*sigkit*"))
