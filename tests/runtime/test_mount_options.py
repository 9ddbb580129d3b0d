from __future__ import annotations

import pytest

from sigkit.errors import InvalidConfig, Place, UnsupportedConfig
from sigkit.runtime import syscalls
from sigkit.runtime.mount_options import MountOptions, known_options, parse_options
from sigkit.strict import Cursor


def parse(*options: str, kind: str = "tmpfs") -> MountOptions:
    return parse_options(Cursor({"type": kind, "options": list(options)}, "$.mounts[0]", Place("config.json")))


def test_last_of_two_opposite_options_counts():
    assert parse("ro", "rw").add == 0
    assert parse("rw", "ro").add == syscalls.MOUNT_ATTR_RDONLY
    assert parse("rw", "ro").remove == 0


def test_access_time_options_replace_each_other():
    options = parse("noatime", "strictatime")
    assert options.add & syscalls.MOUNT_ATTR__ATIME == syscalls.MOUNT_ATTR_STRICTATIME


def test_what_is_no_option_of_a_mount_goes_to_the_file_system():
    assert parse("size=64k", "mode=755", "nosuid", "foo").data == (("size", "64k"), ("mode", "755"), ("foo", None))


@pytest.mark.parametrize("kind", ["bind", "rbind", "none"])
def test_bind_mount_is_known_by_type_or_option(kind):
    options = parse("rbind" if kind == "none" else "ro", kind=kind)
    assert options.bind
    assert options.recursive == (kind != "bind")


def test_file_system_option_of_a_bind_mount_is_refused():
    with pytest.raises(InvalidConfig) as caught:
        parse("bind", "size=1")
    assert caught.value.place.inside == "$.mounts[0].options[1]"


@pytest.mark.parametrize("name", ["shared", "rshared", "idmap", "ridmap", "idmap=uids=0-1-2", "tmpcopyup"])
def test_option_that_is_not_done_is_refused_and_not_dropped(name):
    with pytest.raises(UnsupportedConfig):
        parse("bind", name)


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_option_that_is_no_word_is_refused(name):
    with pytest.raises(InvalidConfig):
        parse(name)


def test_features_name_no_option_that_is_refused():
    for name in known_options():
        parse(name)
