from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from sigkit.errors import InvalidConfig, Kind, Place, SigkitError, UnsupportedConfig
from sigkit.runtime.config import parse_config
from sigkit.runtime.spec import Config
from sigkit.runtime.users import Maps
from sigkit.runtime.validate import validate
from tests.simulators.bundles import make_config

PLACE = Place("config.json")


def parse(document: object) -> Config:
    config = parse_config(json.dumps(document).encode(), PLACE)
    maps = Maps(config.uid_mappings, config.gid_mappings, groups=True) if config.namespace("user") else None
    validate(config, PLACE, None if maps is None else (maps.uids, maps.gids))
    return config


def changed(path: str, value: object) -> dict[str, Any]:
    """Return a good document with one member (`a.b.0.c`) set, or taken away by `...`."""
    document = copy.deepcopy(make_config("true"))
    place: object = document
    *above, last = path.split(".")
    for name in above:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})  # type: ignore[attr-defined]
    key = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]  # type: ignore[attr-defined]
    elif isinstance(place, list) and key == len(place):
        place.append(value)
    else:
        place[key] = value  # type: ignore[index]
    return document


def refused(path: str, value: object) -> SigkitError:
    with pytest.raises(SigkitError) as caught:
        parse(changed(path, value))
    return caught.value


def test_what_an_engine_writes_is_understood():
    config = parse(make_config("sh", "-c", "true"))
    assert config.process.args == ("sh", "-c", "true")
    assert config.root_path == "rootfs"
    assert [n.kind for n in config.namespaces] == ["pid", "network", "ipc", "uts", "mount", "cgroup"]


@pytest.mark.parametrize("written", [2**64 - 1, -1])
def test_no_limit_is_written_in_two_ways(written):
    config = parse(changed("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 0, "hard": written}]))
    assert [(limit.soft, limit.hard) for limit in config.process.rlimits] == [(0, 2**64 - 1)]


def test_number_beyond_64_bits_is_refused():
    assert refused("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64}]).kind is Kind.PARSE


def test_other_numbers_are_signed():
    assert refused("process.oomScoreAdj", 2**64 - 1).kind in {Kind.PARSE, Kind.RUNTIME}


def test_unknown_members_are_ignored_as_the_specification_demands():
    document = make_config("true")
    document["later"] = {"x": 1}
    document["process"]["later"] = document["linux"]["later"] = True
    assert parse(document).process.args == ("true",)


USER_NAMESPACE = {"type": "user"}


@pytest.mark.parametrize(
    ("path", "value", "at"),
    [
        pytest.param("ociVersion", "2.0.0", "$.ociVersion", id="version"),
        pytest.param("process.args", [], "$.process.args", id="no program"),
        pytest.param("process.args", [""], "$.process.args", id="empty program"),
        pytest.param("process.args", ["a\0b"], "$.process.args[0]", id="NUL"),
        pytest.param("process.env", ["NOVALUE"], "$.process.env[0]", id="environment without ="),
        pytest.param("process.env", ["=x"], "$.process.env[0]", id="environment without name"),
        pytest.param("process.cwd", "tmp", "$.process.cwd", id="relative cwd"),
        pytest.param("process.cwd", "/../../etc", "$.process.cwd", id="climbing cwd"),
        pytest.param("process.capabilities.bounding", ["CAP_ALL"], "$.process.capabilities.bounding[0]", id="capability"),
        pytest.param("process.capabilities.effective", ["CAP_SYS_ADMIN"], "$.process.capabilities.effective", id="effective"),
        pytest.param("process.rlimits", [{"type": "RLIMIT_X", "soft": 1, "hard": 1}], "$.process.rlimits[0].type", id="limit"),
        pytest.param("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}], "$.process.rlimits[0]", id="soft above hard"),
        pytest.param("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2, "$.process.rlimits[1].type", id="limit twice"),
        pytest.param("linux.namespaces.6", {"type": "pid"}, "$.linux.namespaces[6].type", id="namespace twice"),
        pytest.param("linux.namespaces.6", {"type": "x"}, "$.linux.namespaces[6].type", id="unknown namespace"),
        pytest.param("linux.namespaces.1", {"type": "network", "path": "ns"}, "$.linux.namespaces[1].path", id="relative namespace"),
        pytest.param("linux.namespaces.4", ..., "$.linux.namespaces", id="no mount namespace"),
        pytest.param("linux.namespaces.6", USER_NAMESPACE, "$.linux.uidMappings", id="user namespace without maps"),
        pytest.param("linux.uidMappings", [{"containerID": 0, "hostID": 1, "size": 1}], "$.linux.uidMappings", id="maps without namespace"),
        pytest.param("hostname", "x" * 65, "$.hostname", id="long host name"),
        pytest.param("linux.namespaces.3", {"type": "user", "path": ""}, "$.linux.uidMappings", id="host name of the host"),
        pytest.param("mounts.0.destination", "/", "$.mounts[0].destination", id="mount over the root"),
        pytest.param("mounts.0.destination", "/a/../../x", "$.mounts[0].destination", id="climbing mount"),
        pytest.param("mounts.0.destination", "/other", "$.mounts[0].destination", id="proc elsewhere"),
        pytest.param("mounts.7", {"destination": "/proc/self", "type": "tmpfs"}, "$.mounts[7].destination", id="mount over proc"),
        pytest.param("mounts.7", {"destination": "/x", "type": "bind"}, "$.mounts[7]", id="bind without source"),
        pytest.param("mounts.7", {"destination": "/x", "type": "", "source": "/"}, "$.mounts[7]", id="mount without type"),
        pytest.param("linux.sysctl", {"kernel.core_pattern": "|/x"}, "$.linux.sysctl.kernel.core_pattern", id="sysctl of the host"),
        pytest.param("linux.sysctl", {"net/../kernel/core_pattern": "x"}, "$.linux.sysctl.net/../kernel/core_pattern", id="climbing"),
        pytest.param("linux.resources.memory", {"limit": 4096}, "$.linux.resources.memory.limit", id="too little memory"),
        pytest.param("linux.resources.memory", {"swap": 2**30}, "$.linux.resources.memory.swap", id="swap without limit"),
        pytest.param("linux.resources.cpu", {"quota": 1000, "burst": 2000}, "$.linux.resources.cpu.burst", id="burst"),
        pytest.param("linux.resources.devices", [{"allow": True, "type": "x"}], "$.linux.resources.devices[0].type", id="device rule"),
        pytest.param("linux.resources.devices", [{"allow": True, "access": "rx"}], "$.linux.resources.devices[0].access", id="access"),
        pytest.param("linux.devices", [{"path": "/dev/x", "type": "q"}], "$.linux.devices[0].type", id="device type"),
        pytest.param("linux.maskedPaths", ["proc"], "$.linux.maskedPaths[0]", id="relative masked path"),
    ],
)
def test_wrong_value_is_refused_with_its_path(path, value, at):
    err = refused(path, value)
    assert isinstance(err, InvalidConfig)
    assert err.place == Place("config.json", at)


@pytest.mark.parametrize(
    ("path", "value", "at"),
    [
        pytest.param("process.terminal", True, "$.process.terminal", id="terminal"),
        pytest.param("process.apparmorProfile", "x", "$.process.apparmorProfile", id="AppArmor"),
        pytest.param("process.selinuxLabel", "x", "$.process.selinuxLabel", id="SELinux"),
        pytest.param("hooks", {"prestart": [{"path": "/bin/true"}]}, "$.hooks", id="hooks"),
        pytest.param("linux.intelRdt", {"closID": "x"}, "$.linux.intelRdt", id="Intel RDT"),
        pytest.param("linux.rootfsPropagation", "shared", "$.linux.rootfsPropagation", id="shared root"),
        pytest.param("linux.resources.unified", {"a": "b"}, "$.linux.resources.unified", id="unified"),
        pytest.param("linux.resources.cpu", {"cpus": "0"}, "$.linux.resources.cpu.cpus", id="cpuset"),
        pytest.param("linux.namespaces.6", {"type": "time"}, "$.linux.namespaces[6]", id="time namespace"),
        pytest.param("linux.devices", [{"path": "/x", "type": "c"}], "$.linux.devices[0].path", id="device outside /dev"),
        pytest.param("mounts.0.options", ["idmap"], "$.mounts[0].options[0]", id="id-mapped mount"),
        pytest.param("mounts.0.options", ["rshared"], "$.mounts[0].options[0]", id="shared mount"),
        pytest.param("mounts.7", {"destination": "/x", "type": "ext4", "source": "/dev/sda"}, "$.mounts[7].type", id="block device"),
    ],
)
def test_what_this_runtime_does_not_do_is_refused_by_name(path, value, at):
    err = refused(path, value)
    assert isinstance(err, UnsupportedConfig)
    assert err.place == Place("config.json", at)


@pytest.mark.parametrize("path", ["process.apparmorProfile", "process.selinuxLabel", "linux.mountLabel", "linux.rootfsPropagation"])
def test_empty_value_of_an_unsupported_member_asks_for_nothing(path):
    parse(changed(path, ""))


@pytest.mark.parametrize("value", [-1, 2**32 - 1, 2**32, 4294967296000, 1.0, "0", True])
def test_user_id_that_the_kernel_would_read_otherwise_is_refused(value):
    assert refused("process.user.uid", value).place.inside == "$.process.user.uid"
    assert refused("process.user.additionalGids", [value]).place.inside == "$.process.user.additionalGids[0]"


def test_id_that_is_not_mapped_is_refused():
    document = changed("linux.namespaces.6", USER_NAMESPACE)
    for name in ("uidMappings", "gidMappings"):
        document["linux"][name] = [{"containerID": 0, "hostID": 1000, "size": 1}]
    parse(document)
    document["process"]["user"]["uid"] = 1
    with pytest.raises(InvalidConfig) as caught:
        parse(document)
    assert caught.value.place.inside == "$.process.user.uid"


def test_group_option_that_is_not_mapped_is_refused_before_the_kernel_says_EINVAL():
    document = changed("linux.namespaces.6", USER_NAMESPACE)
    for name in ("uidMappings", "gidMappings"):
        document["linux"][name] = [{"containerID": 0, "hostID": 1000, "size": 1}]
    document["mounts"][2]["options"].append("gid=5")
    with pytest.raises(InvalidConfig) as caught:
        parse(document)
    assert caught.value.place.inside == "$.mounts[2].options"


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"ociVersion":"1.0.0","ociVersion":"1.0.0"}', b"\xff", b'{"ociVersion":NaN}'])
def test_what_is_no_config_is_refused_as_parse(raw):
    with pytest.raises(SigkitError) as caught:
        parse_config(raw, PLACE)
    assert caught.value.kind is Kind.PARSE


def test_device_mode_with_type_bits_is_taken_without_them():
    device = {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 8576}
    assert parse(changed("linux.devices", [device])).devices[0].mode == 0o600


def test_masked_paths_may_repeat():
    assert parse(changed("linux.maskedPaths", ["/proc/keys", "/proc//keys"])).masked == ("/proc/keys",)


def test_relative_destination_counts_from_the_root():
    assert parse(changed("mounts.7", {"destination": "data", "type": "tmpfs"})).mounts[7].destination == "/data"
