"""The rooms keep their walls: contracts between modules, who builds what lets a container start, and what a start imports.

import-linter reads import statements; it does not follow a parent package's `__init__`, nor know which imports are lazy. So what
a fresh interpreter has loaded afterwards is looked at as well.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sigkit.runtime.create import can_run
from tests.simulators.hand import Hand

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "sigkit"
ROOMS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))

# Where the two values that let a container start may be built, and nowhere else.
ONLY_BUILDER = {"Allow": "policy/decide.py", "Admission": "gate/admit.py"}
# Other ways to make an object of a class, or a changed copy of one.
BACK_DOORS = {"replace", "_replace", "__new__", "__setattr__", "__reduce__", "copy", "deepcopy", "loads", "_make"}

# What no pure room may have loaded (`socket` is: cryptography.x509 loads it).
IMPURE = {"requests", "urllib3", "http.client", "ssl", "sqlite3", "subprocess", "asyncio", "tuf", "sigstore", "pydantic", "yaml", "click"}
HELP_NEVER_LOADS = {"pydantic", "sigstore", "tuf", "requests", "urllib3", "cryptography", "nacl", "yaml", "sqlite3", "ssl", "uvicorn"}

# Each costs a cold verification more than it is worth (docs/dependencies.md has what was measured).
COLD_NEVER_LOADS = {
    *("requests", "urllib3", "yaml", "nacl", "sqlite3", "pydantic", "sigstore", "tuf", "rich", "uvicorn", "isal", "backports"),
    *("cryptography.x509", "cryptography.hazmat.primitives.serialization", "cryptography.hazmat.backends"),
    *("logging", "asyncio", "subprocess", "concurrent", "dataclasses", "encodings.idna", "ctypes"),
}
# A module more is a decision: each costs half a millisecond, one with many dataclasses ten.
COLD_LOADS = """
__main__ cli cli.connect cli.decisions cli.main cli.options cli.output cli.verify
gate gate.admit gate.prove
policy policy.commands policy.decide policy.decision policy.distinct policy.evaluate policy.explain policy.flags policy.model policy.scope
verify verify.bind verify.claims verify.facts verify.signature verify.verify
evidence evidence.bundle evidence.collect evidence.envelope evidence.form evidence.simple_signing evidence.statement
trust trust.root keys keys.load keys.pem keys.public
oci oci.auth oci.blobs oci.descriptor oci.exchange oci.manifest oci.reference oci.referrers oci.registry oci.resolve
net net.address net.cold net.failures net.hop net.retry net.secrets net.session net.url
clock data digest durable errors limits strict text
"""
# What the start of a pulled image has no use for, although what it shares with other commands would load it.
RUN_NEVER_LOADS = {
    *(COLD_NEVER_LOADS - {"sqlite3", "yaml", "ctypes"}),
    *("sigkit.engine.tar", "sigkit.oci.credentials", "sigkit.policy.lint", "tempfile"),
}

# Runs `sigkit` in this interpreter with the arguments given, then prints what was loaded, as JSON on the last line of stderr.
RUN_AND_LIST = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
def listed():
    import json
    print(json.dumps(before), file=sys.stderr)
import atexit
before = None
def keep():
    global before
    before = sorted(sys.modules)
    listed()
atexit.register(keep)
sys.argv[0] = "sigkit"
from sigkit.__main__ import main
main()
"""


@functools.cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """Return every module of the package: its path below sigkit/, and its syntax tree."""
    return tuple((path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_bytes())) for path in sorted(PACKAGE.rglob("*.py")))


def called_name(call: ast.Call) -> str:
    """Return the last part of what is called: `Allow` of `decision.Allow(…)`."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield every call below a node."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def names(tree: ast.AST) -> set[str]:
    """Return every identifier and attribute that a tree reads, imports or defines."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case _:
                pass
    return found


def loaded_by(*command: str) -> set[str]:
    """Run Python code in a fresh isolated interpreter and return the modules that it has loaded in the end."""
    done = subprocess.run([sys.executable, "-I", *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def loaded_by_import(module: str) -> set[str]:
    """Return the modules that importing one module loads."""
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import {module}; m = sorted(sys.modules); import json; "
    return loaded_by("-c", code + "print(json.dumps(m), file=sys.stderr)")


def under(loaded: set[str], packages: set[str]) -> set[str]:
    """Return which of the packages are loaded, whole or in part."""
    return {package for package in packages if any(name == package or name.startswith(f"{package}.") for name in loaded)}


def test_the_contracts_between_rooms_hold():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_runs_no_code_when_it_is_entered(room):
    body = ast.parse((room / "__init__.py").read_bytes()).body
    assert [type(node) for node in body] == [ast.Expr], "a room's __init__.py holds a docstring only"


@pytest.mark.parametrize(("built", "builder"), ONLY_BUILDER.items(), ids=ONLY_BUILDER)
def test_it_is_built_at_one_place(built, builder):
    places = [path for path, tree in modules() for call in calls(tree) if called_name(call) == built]
    assert places == [builder]


@pytest.mark.parametrize("built", ONLY_BUILDER)
def test_it_is_made_by_no_back_door(built):
    found = []
    for path, tree in modules():
        if built not in names(tree):
            continue
        found += [f"{path}:{call.lineno} {called_name(call)}" for call in calls(tree) if called_name(call) in BACK_DOORS]
    assert found == []


@pytest.mark.parametrize("built", ONLY_BUILDER)
def test_it_is_built_by_no_method_or_subclass_of_its_own(built):
    found = []
    for path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef):
                continue
            if any(built in names(base) for base in node.bases):
                found.append(f"{path}:{node.lineno} subclass")
            if node.name == built:
                found += [f"{path}:{call.lineno} cls()" for call in calls(node) if called_name(call) == "cls"]
    assert found == []


def test_it_is_reached_under_no_other_name():
    found = []
    for path, tree in modules():
        for node in ast.walk(tree):
            match node:
                case ast.alias(name=name, asname=str()) if name in ONLY_BUILDER:
                    found.append(f"{path}:{node.lineno} import {name} as")
                case ast.Assign(value=ast.Name(id=name)) | ast.Assign(value=ast.Attribute(attr=name)) if name in ONLY_BUILDER:
                    found.append(f"{path}:{node.lineno} = {name}")
                case _:
                    pass
    assert found == []


def test_a_blanket_except_raises_or_exits_unless_every_failure_there_ends_in_deny():
    boundaries = {"cli/main.py", "services/app.py", "runtime/cli.py", "runtime/init.py", "runtime/launch.py"}
    boundaries.add("in_order.py")  # of a thread: raised again in the one that takes the result
    boundaries.add("services/stack/run.py")  # of a thread: what it could not sign again expires, and clients refuse it
    found = []
    for path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler) or (node.type and not names(node.type) & {"Exception", "BaseException"}):
                continue
            last = node.body[-1]
            leaves = isinstance(last, ast.Raise) or (isinstance(last, ast.Expr) and "_exit" in names(last.value))
            if not leaves and path not in boundaries:
                found.append(f"{path}:{node.lineno}")
    assert found == []


def test_nothing_is_promised_for_later():
    hollow = re.compile(r"#\s*(TODO|FIXME|XXX)|NotImplementedError")
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        found += [f"{path.name}:{number}" for number, line in enumerate(path.read_text().splitlines(), 1) if hollow.search(line)]
    assert found == []


def test_verifying_loads_nothing_that_does_input_or_output():
    assert under(loaded_by_import("sigkit.verify.verify"), IMPURE) == set()


def test_deciding_loads_nothing_that_does_input_or_output():
    assert under(loaded_by_import("sigkit.policy.decide"), IMPURE) == set()


def test_the_help_loads_no_command_and_nothing_heavy():
    loaded = loaded_by("-c", RUN_AND_LIST, "--help")
    assert under(loaded, HELP_NEVER_LOADS) == set()
    assert {name for name in loaded if name.startswith("sigkit.")} <= {
        *("sigkit.__main__", "sigkit.cli", "sigkit.cli.main", "sigkit.cli.options", "sigkit.cli.output"),
        *("sigkit.errors", "sigkit.limits", "sigkit.text"),
    }


def test_a_cold_verification_by_key_loads_only_what_it_needs(tmp_path):
    """Hold the start-up budget by the list of modules, not by time (docs/dependencies.md)."""
    hand = Hand(tmp_path)
    with hand.registry() as address:
        image = f"{address}/demo/hello:1.0"
        hand.image("image", "hello")
        hand("copy", "oci:image", image)
        hand("key", "generate", "--output-key-prefix", "release")
        hand("sign", "--key", "release.key", image)
        loaded = loaded_by("-c", RUN_AND_LIST, "verify", "--key", str(tmp_path / "release.pub"), image)
    assert under(loaded, COLD_NEVER_LOADS) == set()
    ours = {name.removeprefix("sigkit.") for name in loaded if name.startswith("sigkit.")}
    assert ours == set(COLD_LOADS.split())


def test_the_start_of_a_pulled_image_loads_nothing_heavy_beside_what_it_needs(tmp_path):
    if why := can_run():
        pytest.skip(why)
    hand = Hand(tmp_path)
    with hand.registry() as address:
        image = f"{address}/demo/hello:1.0"
        hand.image("image", "hello")
        hand("copy", "oci:image", image)
        hand("key", "generate", "--output-key-prefix", "release")
        hand("sign", "--key", "release.key", image)
        run = ("run", "--root", str(tmp_path / "store"), "--key", str(tmp_path / "release.pub"), image)
        hand(*run)
        assert under(loaded_by("-c", RUN_AND_LIST, *run), RUN_NEVER_LOADS) == set()
