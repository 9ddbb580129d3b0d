"""config.json: what the user asked for before the image before the engine, and the admission caps all."""

from __future__ import annotations

import os

import pytest

from sigkit.digest import Digest
from sigkit.engine.account import Account
from sigkit.engine.admission import UNLIMITED, BindMount, Confinement, MountAccess, Network
from sigkit.engine.spec import Surroundings, arguments, environment, make_spec
from sigkit.errors import NothingToRun, Place
from sigkit.oci.descriptor import host_platform
from sigkit.oci.image import ImageConfig, encode_image_config, parse_image_config
from sigkit.runtime.config import parse_config
from sigkit.runtime.validate import validate
from sigkit.strict import encode_json
from tests.simulators.engine_host import admission, push
from tests.simulators.memory_registry import MemoryRegistry

ROOT = Account(0, 0, (), "/root")
APP = Account(1000, 1001, (10, 63), "/home/app")
AROUND = Surroundings("inside", {"/etc/hosts": "/store/hosts"}, None)


def image(**config) -> ImageConfig:
    return parse_image_config(encode_image_config(host_platform(), (Digest.of(b"layer"),), **config), Place("config"))


def admitted(**changes):
    return admission(push(MemoryRegistry(), [b"layer"]), **changes)


def confined(**changes):
    return admitted(confinement=Confinement(**changes))


def spec(config: ImageConfig, given, account: Account = ROOT, around: Surroundings = AROUND) -> dict:
    return make_spec(config, given, account, around)


@pytest.mark.parametrize(
    ("asked", "held", "limit"), [(None, 2048, 2048), (None, None, None), (50, 2048, 50), (5000, None, 5000), (UNLIMITED, 2048, None)]
)
def test_processes_are_limited_unless_another_limit_or_none_was_granted(asked, held, limit):
    around = Surroundings(AROUND.hostname, AROUND.files, AROUND.seccomp, held)
    resources = spec(image(cmd=("c",)), confined(pids=asked), ROOT, around)["linux"]["resources"]
    assert resources.get("pids") == (None if limit is None else {"limit": limit})


@pytest.mark.parametrize(
    ("config", "asked", "expected"),
    [
        pytest.param({"cmd": ("c",)}, {}, ("c",), id="cmd"),
        pytest.param({"entrypoint": ("e",), "cmd": ("c",)}, {}, ("e", "c"), id="entrypoint-and-cmd"),
        pytest.param({"entrypoint": ("e",), "cmd": ("c",)}, {"command": ("a", "b")}, ("e", "a", "b"), id="arguments-replace-cmd"),
        pytest.param({"entrypoint": ("e",), "cmd": ("c",)}, {"command": ()}, ("e",), id="no-arguments-replace-cmd"),
        pytest.param({"entrypoint": ("e",), "cmd": ("c",)}, {"entrypoint": ("x",)}, ("x",), id="entrypoint-drops-cmd"),
        pytest.param({"cmd": ("c",)}, {"entrypoint": ("x",), "command": ("a",)}, ("x", "a"), id="entrypoint-and-arguments"),
    ],
)
def test_command_line(config, asked, expected):
    assert arguments(image(**config), admitted(**asked)) == expected


@pytest.mark.parametrize("config", [{}, {"cmd": ("",)}, {"entrypoint": (), "cmd": ()}])
def test_nothing_to_run_is_an_error_of_the_engine(config):
    with pytest.raises(NothingToRun) as caught:
        arguments(image(**config), admitted())
    assert caught.value.status() == 125


@pytest.mark.attack("CVE-2021-3602")
def test_environment_is_built_from_nothing(monkeypatch):
    monkeypatch.setenv("SECRET", "of the host")
    found = environment(image(cmd=("c",)), admitted(), APP, "inside")
    assert found == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/app", "HOSTNAME=inside")
    assert not any("SECRET" in variable for variable in found)
    assert "SECRET" in os.environ


def test_environment_of_the_user_before_the_images_before_the_engines():
    given = admitted(environment=(("A", "user"), ("NEW", "x=y")))
    found = dict(v.split("=", 1) for v in environment(image(env=("A=image", "HOME=/image", "B=")), given, APP, "inside"))
    assert (found["A"], found["HOME"], found["B"], found["NEW"]) == ("user", "/image", "", "x=y")


def test_capabilities_of_root_are_exactly_those_granted():
    process = spec(image(cmd=("c",)), confined(capabilities=("CAP_CHOWN", "CAP_KILL")))["process"]
    assert set(process["capabilities"]) == {"bounding", "effective", "permitted"}
    assert all(names == ["CAP_CHOWN", "CAP_KILL"] for names in process["capabilities"].values())
    assert process["noNewPrivileges"] is True


def test_another_user_has_no_capability():
    process = spec(image(cmd=("c",)), confined(capabilities=("CAP_CHOWN",)), APP)["process"]
    assert (process["capabilities"]["effective"], process["capabilities"]["permitted"]) == ([], [])
    assert process["user"] == {"uid": 1000, "gid": 1001, "umask": 0o022, "additionalGids": [10, 63]}


def test_working_directory_of_the_user_before_the_images():
    config = image(cmd=("c",), working_dir="/image")
    assert spec(config, confined())["process"]["cwd"] == "/image"
    assert spec(config, confined(working_dir="/user"))["process"]["cwd"] == "/user"
    assert spec(image(cmd=("c",)), confined())["process"]["cwd"] == "/"


@pytest.mark.parametrize(("network", "own"), [(Network.NONE, True), (Network.HOST, False)])
def test_network_namespace(network, own):
    kinds = {n["type"] for n in spec(image(cmd=("c",)), confined(network=network))["linux"]["namespaces"]}
    assert ("network" in kinds) is own
    assert kinds >= {"pid", "ipc", "uts", "mount", "cgroup"}


def test_limits_are_those_of_the_admission():
    resources = spec(image(cmd=("c",)), confined(memory_bytes=1 << 26, pids=50, cpus=1.5))["linux"]["resources"]
    assert resources == {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 1 << 26},
        "pids": {"limit": 50},
        "cpu": {"quota": 150_000, "period": 100_000},
    }


def test_mounts_are_the_engines_and_the_granted_ones():
    mounts = (BindMount("/srv/data", "/data", MountAccess.READ_WRITE), BindMount("/srv/conf", "/etc/hosts", MountAccess.READ_ONLY))
    found = spec(image(cmd=("c",)), confined(mounts=mounts))["mounts"]
    assert [(m["destination"], m["source"]) for m in found if m["type"] == "bind"] == [
        ("/etc/hosts", "/store/hosts"),
        ("/data", "/srv/data"),
        ("/etc/hosts", "/srv/conf"),
    ]
    writable, read_only = found[-2]["options"], found[-1]["options"]
    assert "ro" not in writable
    assert {"ro", "rro", "nosuid", "nodev"} <= set(read_only)


def test_read_only_root_leaves_places_to_write():
    found = spec(image(cmd=("c",)), confined(read_only=True))
    assert found["root"] == {"path": "rootfs", "readonly": True}
    assert {m["destination"] for m in found["mounts"] if m["type"] == "tmpfs"} >= {"/tmp", "/run", "/var/tmp"}


@pytest.mark.attack("CVE-2026-53488")
def test_labels_volumes_and_ports_of_an_image_steer_nothing():
    labelled = image(cmd=("c",), labels={"containerd.io/logger": "binary:///bin/sh", "run": "x"})
    assert spec(labelled, admitted()) == spec(image(cmd=("c",)), admitted())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network": Network.HOST, "read_only": True},
        {"capabilities": ("CAP_NET_RAW",), "memory_bytes": 1 << 26, "pids": 5, "cpus": 0.001, "working_dir": "/w", "hostname": "h"},
        {"mounts": (BindMount("/srv", "/data/srv", MountAccess.READ_ONLY),)},
    ],
)
def test_runtime_takes_what_the_engine_writes(changes):
    place = Place("config.json")
    document = spec(image(cmd=("c",), env=("A=b",), working_dir="/w"), confined(**changes), APP)
    document["linux"].pop("seccomp")
    config = parse_config(encode_json(document), place)
    validate(config, place, None)
    assert config.process.args == ("c",)
