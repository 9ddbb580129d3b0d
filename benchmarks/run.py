"""Measure sigkit beside its peers, and write the table into benchmarks/README.md.

    python -m benchmarks.run                all sections, as root, with the peers of .ci/peers
    python -m benchmarks.run verify run     these sections only, printed and not written

Each section measures all its subjects in turns in one run. Peers run in their own root; what entering it costs is a row of its own.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import core as core_alone
from benchmarks import corpus
from benchmarks import log as log_alone
from benchmarks.many import many, thousand
from benchmarks.measure import Subject, compare, table
from sigkit.cli.demo_image import assemble, write_layout
from tests.simulators import peer_root, stacks

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
PASSWORD = {"SIGKIT_PASSWORD": "bench", "COSIGN_PASSWORD": "bench"}
SIGKIT = (str(Path(sys.executable).with_name("sigkit")),)  # as a user starts it: root pays a second start, with -I
RUNTIME = (sys.executable, "-I", "-S", str(HERE.parent / "sigkit" / "runtime" / "cli.py"))

# What no keyless signature here goes without: a command line, HTTP, certificates, timestamps.
LIBRARIES_OF_SIGN = "import click, http.client, cryptography.x509, rfc3161_client"

POLICY = """\
apiVersion: sigkit.dev/v1alpha1
kind: Policy
metadata:
  name: bench
keys:
  bench:
    file: bench.pub
rules:
  - images: ["{registry}/**"]
    require:
      key: bench
    run:
      command: any
"""


class Bench(NamedTuple):
    """Where a section finds what it measures."""

    peer: peer_root.PeerRoot
    registry: str
    home: Path

    def sigkit(self, name: str, *arguments: str) -> Subject:
        """Return a sigkit command as a subject."""
        return Subject(name, [*SIGKIT, *arguments], PASSWORD, cwd=str(self.home))

    def peers(self, name: str, *arguments: str | Path) -> Subject:
        """Return a peer's command as a subject."""
        env = {**PASSWORD, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
        return Subject(name, self.peer.command(str(arguments[0]), *arguments[1:], env=env))

    def entering(self) -> Subject:
        """Return what every peer's row holds besides the peer."""
        return self.peers("(entering the peers' root)", "true")

    def do(self, *arguments: str) -> None:
        """Run a sigkit command that prepares a section."""
        subprocess.run([*SIGKIT, *arguments], cwd=self.home, env={**os.environ, **PASSWORD}, check=True, stdout=subprocess.DEVNULL)

    def peer_do(self, *arguments: str | Path) -> None:
        """Run a peer's command that prepares a section."""
        done = self.peer(str(arguments[0]), *arguments[1:], env={**PASSWORD, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}, timeout_s=600)
        if done.returncode:
            raise RuntimeError(done.stderr)


@contextlib.contextmanager
def prepared() -> Iterator[Bench]:
    """Serve a docker-registry with a signed image, and give keys and a policy."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sigkit-bench-", dir="/tmp")))
        peer = stack.enter_context(peer_root.PeerRoot.opened())
        registry = stack.enter_context(peer_root.docker_registry(peer, home)).address
        bench = Bench(peer, registry, home)
        write_layout(assemble("hello"), home / "image")
        bench.do("key", "generate", "--output-key-prefix", "bench")
        (home / "policy.yaml").write_text(POLICY.format(registry=registry), encoding="utf-8")
        bench.do("copy", "oci:image", f"{registry}/bench/hello:1")
        bench.do("sign", "--key", "bench.key", f"{registry}/bench/hello:1")
        yield bench


def verify(bench: Bench) -> str:
    """Cold verification with a key."""
    image = f"{bench.registry}/bench/hello:1"
    rows = compare(
        [
            Subject("python -I -c pass", [sys.executable, "-I", "-c", "pass"]),
            Subject("python -I -c 'import click'", [sys.executable, "-I", "-c", "import click"]),
            bench.sigkit("sigkit --help", "--help"),
            bench.sigkit("sigkit verify --key", "verify", "--key", "bench.pub", image),
            bench.peers("cosign verify --key", "cosign", "verify", "--key", bench.home / "bench.pub", "--insecure-ignore-tlog", image),
            bench.entering(),
        ],
        rounds=20,
    )
    goal = "`sigkit verify --key` ≤ 2.5 times cosign; `sigkit --help` ≤ 3 times `import click`"
    return table("Cold verify, signed image, docker-registry on loopback", rows, "cosign verify --key", goal)


def sign(bench: Bench) -> str:
    """Signing with an identity's token, against a stack in this process."""
    with stacks.running(bench.home / "stack") as stack:
        image = f"{stack.url.removeprefix('http://')}/bench/hello:1"
        bench.do("copy", "oci:image", image)
        (bench.home / "token").write_text(stack.token(), encoding="ascii")
        root, config = (str(stack.client(name)) for name in ("trusted_root.json", "signing_config.json"))
        ours = ("--trusted-root", root, "--signing-config", config, "--identity-token", "token", "--yes")
        token = f"--identity-token={bench.home / 'token'}"
        theirs = (f"--trusted-root={root}", f"--signing-config={config}", token, "-y", "--allow-http-registry")
        rows = compare(
            [
                bench.sigkit("sigkit sign", "sign", *ours, image),
                bench.peers("cosign sign", "cosign", "sign", *theirs, image),
                bench.entering(),
                Subject("python -I, libraries alone", [sys.executable, "-I", "-c", LIBRARIES_OF_SIGN]),
            ],
            rounds=15,
        )
    goal = "`sigkit sign` ≤ 2 times cosign"
    return table("Keyless sign: certificate, timestamp, log entry and upload, all at a stack on loopback", rows, "cosign sign", goal)


def run(bench: Bench) -> str:
    """Run a pulled image, verification included."""
    image = f"{bench.registry}/bench/hello:1"
    store = str(bench.home / "store")
    sigkit = ("run", "--rm", "--network", "none", "--root", store, "--policy", "policy.yaml", image)
    bench.do(*sigkit)
    podman = ("podman", "--root", bench.home / "podman", "--runroot", bench.home / "podman-run", "--cgroup-manager", "cgroupfs")
    bench.peer_do(*podman, "pull", "--tls-verify=false", image)
    rows = compare(
        [
            bench.sigkit("sigkit run --rm", *sigkit),
            bench.peers("podman run --rm (crun)", *podman, "--runtime", "crun", "run", "--rm", "--network", "none", image),
            bench.peers("podman run --rm (runc)", *podman, "--runtime", "runc", "run", "--rm", "--network", "none", image),
            bench.entering(),
        ],
        rounds=20,
    )
    return table(
        "Run a pulled image, `--network none`",
        rows,
        "podman run --rm (crun)",
        "≤ 1.1 times podman, although sigkit verifies and podman does not",
    )


def runtime(bench: Bench) -> str:
    """Run the same bundle directory with each runtime."""
    bundle = bench.home / "bundle"
    rootfs = bundle / "rootfs"
    rootfs.mkdir(parents=True)
    manifest = assemble("hello")
    archive = bench.home / "layer.tar.gz"
    archive.write_bytes(manifest.layers[0])
    subprocess.run(["tar", "-xzf", archive, "-C", rootfs], check=True)
    bench.peer_do("sh", "-c", f"cd {bundle} && runc spec")
    spec = (bundle / "config.json").read_text(encoding="utf-8")
    spec = spec.replace('"terminal": true', '"terminal": false').replace('"sh"\n', '"/bin/sh", "/hello"\n')
    (bundle / "config.json").write_text(spec, encoding="utf-8")
    rows = compare(
        [
            Subject("sigkit-runtime run", [*RUNTIME, "--root", str(bench.home / "rt"), "run", "--bundle", str(bundle), "bench"]),
            bench.peers("crun run", "crun", "--root", bench.home / "crun", "run", "--bundle", bundle, "bench"),
            bench.peers("runc run", "runc", "--root", bench.home / "runc", "run", "--bundle", bundle, "bench"),
            bench.entering(),
            Subject("python -I -S -c pass", [sys.executable, "-I", "-S", "-c", "pass"]),
        ],
        rounds=20,
    )
    return table("The runtime alone, the same bundle directory (`runc spec`, no seccomp in it)", rows, "runc run", "≤ 1.5 times runc")


def pull(bench: Bench) -> str:
    """Pull and unpack the corpus."""
    layout = bench.home / "corpus"
    corpus.write(layout)
    image = f"{bench.registry}/bench/corpus:1"
    bench.do("copy", f"oci:{layout}", image)
    bench.do("sign", "--key", "bench.key", image)
    store, podman_root, unpacked = bench.home / "pull", bench.home / "podman-pull", bench.home / "umoci"

    def gone(directory: Path) -> None:
        if directory.exists():
            subprocess.run(["rm", "-rf", directory], check=True)
        os.sync()

    podman = ("podman", "--root", podman_root, "--runroot", bench.home / "podman-pull-run")
    skopeo_umoci = (
        f"skopeo copy -q --src-tls-verify=false docker://{image} oci:{unpacked}/i:1 && umoci unpack --image {unpacked}/i:1 {unpacked}/b"
    )
    rows = compare(
        [
            bench.sigkit("sigkit pull", "-q", "pull", "--root", str(store), "--policy", "policy.yaml", image)._replace(
                before=lambda: gone(store)
            ),
            bench.peers("podman pull", *podman, "pull", "-q", "--tls-verify=false", image)._replace(before=lambda: gone(podman_root)),
            bench.peers("skopeo copy + umoci unpack", "sh", "-c", f"mkdir -p {unpacked} && {skopeo_umoci}")._replace(
                before=lambda: gone(unpacked)
            ),
        ],
        rounds=3,
    )
    return table(
        "Pull and unpack `ten-layers` (10 layers, 300 MB compressed, 20,000 files)",
        rows,
        "podman pull",
        "≤ 0.7 times podman; peak memory under 150 MB",
    )


def core(bench: Bench) -> str:
    """Parse and verify a bundle in one process."""
    del bench  # nothing is asked of a registry
    return core_alone.measure()


def log(bench: Bench) -> str:
    """Append to the stack's log, and to Rekor's."""
    del bench  # it has servers of its own
    return log_alone.measure()


SECTIONS = {
    "verify": verify,
    "sign": sign,
    "log": log,
    "run": run,
    "runtime": runtime,
    "pull": pull,
    "core": core,
    "many": many,
    "thousand": thousand,
}


def main() -> None:
    """Measure the sections named, or all and write them down."""
    wanted = sys.argv[1:] or list(SECTIONS)
    if why := peer_root.why_absent() or ("core" in wanted and core_alone.why_absent()):
        sys.exit(why)
    with prepared() as bench:
        figures = "\n".join(SECTIONS[name](bench) for name in wanted)
    print(figures)
    if not sys.argv[1:]:
        _write_down(figures)


def _write_down(figures: str) -> None:
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    versions = (peer_root.find_root() / "versions.txt").read_text(encoding="utf-8").replace("\n", " · ").rstrip(" ·")
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, CPython {platform.python_version()}; peers: {versions}."
    readme.write_text(f"{head}{BEGIN}\n\n{machine}\n\n{figures}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    if shutil.which("nsenter") is None:
        sys.exit("nsenter (util-linux) is needed")
    main()
