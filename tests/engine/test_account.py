"""Users and groups from an image's own files."""

from __future__ import annotations

import pytest

from sigkit.engine.account import Account, find_account
from sigkit.errors import Kind, Place, UnknownUser

PASSWD = b"""\
root:x:0:0:root:/root:/bin/sh
# a comment
app:x:1000:1001:App:/home/app:/bin/sh
1234:x:5000:5001::/numbered:/bin/sh
short:x:1
relative:x:7:7::home:/bin/sh
wrapping:x:4294967296:0::/:/bin/sh
negative:x:-1:0::/:/bin/sh
large:x:2147483648:0::/:/bin/sh
largest:x:2147483647:2147483647::/:/bin/sh
empty:x:::::
"""
GROUP = b"""\
root:x:0:
app:x:1001:
wheel:x:10:root,app
audio:x:63:app
777:x:888:
wrapping:x:4294967296:
"""


def find(user: str, passwd: bytes = PASSWD, group: bytes = GROUP) -> Account:
    return find_account(user, passwd, group, Place("image"))


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        pytest.param("", Account(0, 0, (10,), "/root"), id="nothing-is-root"),
        pytest.param("root", Account(0, 0, (10,), "/root"), id="name"),
        pytest.param("app", Account(1000, 1001, (10, 63), "/home/app"), id="name-with-groups"),
        pytest.param("1000", Account(1000, 1001, (10, 63), "/home/app"), id="number-in-passwd"),
        pytest.param("1234", Account(5000, 5001, (), "/numbered"), id="name-before-number"),
        pytest.param("4242", Account(4242, 0, (), "/"), id="number-not-in-passwd"),
        pytest.param("app:audio", Account(1000, 63, (), "/home/app"), id="group-and-no-others"),
        pytest.param("app:99", Account(1000, 99, (), "/home/app"), id="group-number"),
        pytest.param("0:777", Account(0, 888, (), "/root"), id="group-name-before-number"),
        pytest.param("relative", Account(7, 7, (), "/"), id="relative-home"),
        pytest.param("largest", Account(2147483647, 2147483647, (), "/"), id="largest"),
    ],
)
def test_account_of(user, expected):
    assert find(user) == expected


def test_image_without_files_has_root_and_numbers():
    assert find("", b"", b"") == Account(0, 0, (), "/")
    assert find("5:6", b"", b"") == Account(5, 6, (), "/")


@pytest.mark.attack("CVE-2024-40635, CVE-2026-46680, CVE-2026-30892")
@pytest.mark.parametrize(
    "user",
    [
        *("nobody", "app:nogroup", "wrapping", "negative", "large", "empty", "short", "app:wrapping"),
        *("4294967296", "4294967295", "2147483648", "-1", "+5", " 5", "0x10", "٣", "9" * 5000),
        *(":5", "5:", ":", "a:b:c", "app\n", "app:", "root\0"),
    ],
)
def test_user_that_is_not_there_or_out_of_range_is_refused(user):
    with pytest.raises(UnknownUser) as caught:
        find(user)
    assert caught.value.kind is Kind.RUNTIME
    assert caught.value.place.source == "image"


def test_user_in_a_group_whose_id_is_out_of_range_is_refused():
    with pytest.raises(UnknownUser):
        find("app", PASSWD, b"evil:x:4294967296:app\n")


def test_user_in_too_many_groups_is_refused():
    with pytest.raises(UnknownUser):
        find("app", PASSWD, b"".join(b"g%d:x:%d:app\n" % (n, n + 5000) for n in range(65_600)))
