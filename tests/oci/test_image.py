from __future__ import annotations

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import MalformedDigest, NoSuchPlatform, Place, SigkitError, TooLarge, TooMany, WrongShape
from sigkit.oci.image import ImageConfig, check_platform, encode_image_config, parse_image_config
from sigkit.strict import encode_json
from tests.simulators.images import AMD64, ARM64

HERE = Place("test")
ROOTFS = {"type": "layers", "diff_ids": [str(Digest.of(b"layer"))]}


def read(process=None, **more) -> ImageConfig:
    members = {"os": "linux", "architecture": "amd64", "rootfs": ROOTFS} | more
    if process is not None:
        members["config"] = process
    return parse_image_config(encode_json(members), HERE)


def test_everything_that_a_process_needs_is_read():
    found = read(
        {
            "User": "app:staff",
            "Env": ["PATH=/bin", "EMPTY=", "A=b=c"],
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["echo hi"],
            "WorkingDir": "/srv",
            "Volumes": {"/data": {}, "/cache": {}},
            "ExposedPorts": {"80/tcp": {}},
            "Labels": {"k": "v"},
            "StopSignal": "SIGRTMIN+3",
            "Healthcheck": {"Test": ["NONE"]},
        },
        history=[{"created_by": "x"}],
        variant="v1",
    )
    assert (found.user, found.working_dir, found.stop_signal) == ("app:staff", "/srv", "SIGRTMIN+3")
    assert found.env == ("PATH=/bin", "EMPTY=", "A=b=c")
    assert (found.entrypoint, found.cmd) == (("/bin/sh", "-c"), ("echo hi",))
    assert (found.volumes, found.exposed_ports, found.labels) == (("/data", "/cache"), ("80/tcp",), {"k": "v"})
    assert found.diff_ids == (Digest.of(b"layer"),)
    assert str(found.platform) == "linux/amd64/v1"


@pytest.mark.parametrize(
    "process",
    [
        pytest.param(None, id="no config"),
        pytest.param({}, id="empty config"),
        pytest.param(
            dict.fromkeys(["User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Volumes", "Labels", "StopSignal"]), id="nulls, as Go writes"
        ),
        pytest.param({"User": "", "WorkingDir": "", "StopSignal": "", "Env": [], "Volumes": {}}, id="empty values"),
    ],
)
def test_what_the_image_does_not_say_is_empty(process):
    found = read(process)
    assert (found.user, found.env, found.entrypoint, found.cmd, found.working_dir) == ("", (), (), (), "")
    assert (found.volumes, found.labels, found.stop_signal) == ((), {}, None)


@pytest.mark.parametrize(
    "process",
    [
        pytest.param({"Env": ["NAME"]}, id="variable without ="),
        pytest.param({"Env": ["=value"]}, id="variable without name"),
        pytest.param({"Env": ["A=\0"]}, id="NUL in a variable"),
        pytest.param({"Cmd": ["a\0b"]}, id="NUL in an argument"),
        pytest.param({"Cmd": "a b"}, id="command as one text"),
        pytest.param({"User": 0}, id="user as a number"),
        pytest.param({"WorkingDir": "srv"}, id="relative directory"),
        pytest.param({"StopSignal": "SIGTERM; reboot"}, id="signal with more"),
        pytest.param({"Volumes": ["/data"]}, id="volumes as an array"),
        pytest.param({"Labels": {"a": 1}}, id="label as a number"),
        pytest.param({"env": ["A=b"]}, id="env in another case"),
        pytest.param([], id="config is an array"),
    ],
)
def test_what_no_process_can_be_given_is_refused(process):
    with pytest.raises(WrongShape) as caught:
        read(process)
    assert caught.value.place.inside.startswith("$.config")


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"os": None}, id="no system"),
        pytest.param({"architecture": ""}, id="empty architecture"),
        pytest.param({"rootfs": {"type": "tar", "diff_ids": []}}, id="another kind of root file system"),
        pytest.param({"rootfs": None}, id="no root file system"),
        pytest.param({"Rootfs": ROOTFS}, id="rootfs twice, in two cases"),
    ],
)
def test_image_without_what_it_must_have_is_refused(more):
    with pytest.raises(WrongShape):
        read(**more)


@pytest.mark.parametrize(
    ("entrypoint", "command", "argv"),
    [
        pytest.param(None, None, ("/app", "--serve"), id="the image's own"),
        pytest.param(None, ("--help",), ("/app", "--help"), id="arguments in the place of Cmd"),
        pytest.param(None, (), ("/app",), id="no arguments"),
        pytest.param(("/sh",), None, ("/sh",), id="another entry point drops Cmd"),
        pytest.param(("/sh",), ("-c", "id"), ("/sh", "-c", "id"), id="both"),
        pytest.param((), ("id",), ("id",), id="no entry point"),
    ],
)
def test_the_command_line_is_the_images_with_what_is_asked_for(entrypoint, command, argv):
    assert read({"Entrypoint": ["/app"], "Cmd": ["--serve"]}).argv(entrypoint, command) == argv


def test_diff_ids_are_digests():
    with pytest.raises(MalformedDigest) as caught:
        read(rootfs={"type": "layers", "diff_ids": ["sha256:x"]})
    assert caught.value.place == Place("test", "$.rootfs.diff_ids[0]")


def test_limits_come_before_work():
    with pytest.raises(TooLarge):
        parse_image_config(b" " * (limits.CONFIG_BYTES + 1), HERE)
    with pytest.raises(TooMany):
        read({"Env": ["A=b"] * (limits.CONFIG_ITEMS + 1)})
    with pytest.raises(TooMany):
        read(rootfs={"type": "layers", "diff_ids": [str(Digest.of(b""))] * (limits.MANIFEST_LAYERS + 1)})


def test_what_is_encoded_is_read_back():
    raw = encode_image_config(
        ARM64,
        (Digest.of(b"a"), Digest.of(b"b", "sha512")),
        entrypoint=("/e",),
        cmd=("c",),
        env=("A=b",),
        working_dir="/w",
        user="u",
        labels={"k": "v"},
    )
    found = parse_image_config(raw, HERE)
    assert found.raw == raw
    assert (found.platform, found.diff_ids) == (ARM64, (Digest.of(b"a"), Digest.of(b"b", "sha512")))
    assert (found.entrypoint, found.cmd, found.env) == (("/e",), ("c",), ("A=b",))
    assert (found.working_dir, found.user, found.labels) == ("/w", "u", {"k": "v"})


def test_image_of_another_platform_is_refused():
    config = parse_image_config(encode_image_config(ARM64, ()), HERE)
    check_platform(config, ARM64, HERE)
    with pytest.raises(NoSuchPlatform) as caught:
        check_platform(config, AMD64, HERE)
    assert (caught.value.expected, caught.value.got) == ("linux/amd64", "linux/arm64/v8")


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"null", b"\xff", b'{"os":"linux"}'])
def test_anything_else_is_refused(raw):
    with pytest.raises(SigkitError):
        parse_image_config(raw, HERE)
