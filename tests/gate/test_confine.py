"""What is asked for is given if the rule grants it, and else refused with the edit that would allow it; never less in silence."""

import os

import pytest

from sigkit.engine.admission import UNLIMITED, BindMount, MountAccess
from sigkit.engine.admission import Network as EngineNetwork
from sigkit.errors import (
    EXIT_REFUSED,
    EXIT_USAGE,
    CapabilityNotGranted,
    CommandNotGranted,
    EnvironmentNotGranted,
    MalformedOption,
    MountNotGranted,
    NetworkNotGranted,
    Place,
    PolicyError,
    ResourceNotGranted,
    UserNotGranted,
)
from sigkit.gate.confine import Asked, AskedMount, confine
from sigkit.policy.model import CAPABILITIES, DEFAULT_CAPABILITIES, OPEN_GRANT, Access, Grant, Network
from tests.simulators.verdicts import policy

RULE = Place.operator("policy.yaml", "7:5")


def grant(text: str) -> Grant:
    return policy(f"  - images: reg.example/app\n    require: {{key: a}}\n    run: {text}\n", "a").rules[0].run


def confined(asked: Asked, text: str = "{}"):
    argv = (asked.entrypoint or ("/bin/app",)) + (asked.command or (() if asked.entrypoint else ("--serve",)))
    return confine(asked, grant(text), RULE, lambda: argv)


def refused(asked: Asked, text: str = "{}") -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        confined(asked, text)
    assert caught.value.status() == EXIT_REFUSED
    assert "policy.yaml: 7:5" in caught.value.remedy
    return caught.value


def test_who_asks_for_nothing_gets_the_image_alone():
    found = confined(Asked())
    assert found.network is EngineNetwork.NONE
    assert found.mounts == ()
    assert found.capabilities == DEFAULT_CAPABILITIES
    assert found.no_new_privileges
    assert (found.user, found.memory_bytes, found.pids, found.cpus, found.read_only) == (None, None, None, None, False)


@pytest.mark.parametrize(
    ("asked", "error", "edit"),
    [
        pytest.param(Asked(command=("sh",)), CommandNotGranted, "command: [[sh]]", id="command"),
        pytest.param(Asked(entrypoint=("sh",)), CommandNotGranted, "command: [[sh]]", id="entry-point"),
        pytest.param(Asked(command=()), CommandNotGranted, "command: any", id="empty-command"),
        pytest.param(Asked(working_dir="/tmp"), CommandNotGranted, "command: any", id="directory"),
        pytest.param(Asked(environment=(("LD_PRELOAD", "/x.so"),)), EnvironmentNotGranted, "environment: [LD_PRELOAD]", id="variable"),
        pytest.param(Asked(mounts=(AskedMount("/srv", "/srv", Access.READ_ONLY),)), MountNotGranted, "from: /srv", id="mount"),
        pytest.param(Asked(network=Network.HOST), NetworkNotGranted, "network: host", id="network"),
        pytest.param(Asked(add_capabilities=("CAP_SYS_ADMIN",)), CapabilityNotGranted, "capabilities: [SYS_ADMIN]", id="capability"),
        pytest.param(Asked(user="0"), UserNotGranted, "user: ['0']", id="user"),
    ],
)
def test_what_the_rule_does_not_grant_is_refused_with_the_edit_that_would(asked, error, edit):
    err = refused(asked)
    assert type(err) is error
    assert edit in err.remedy


def test_an_edit_that_is_printed_does_allow_it():
    for asked in (
        Asked(command=("sh", "-c")),
        Asked(environment=(("TZ", "UTC"),)),
        Asked(mounts=(AskedMount("/srv", "/srv", Access.READ_ONLY),)),
        Asked(network=Network.HOST),
        Asked(add_capabilities=("CAP_SYS_ADMIN",)),
        Asked(user="0:0"),
    ):
        edit = refused(asked).remedy.rpartition(f"{RULE}: ")[2]
        if asked.command:
            edit = edit.replace("[[sh", "[[/bin/app, sh")  # the entry point is the image's
        confined(asked, f"{{{edit}}}")


def test_a_listed_command_is_compared_argument_by_argument():
    rule = "{command: [[/bin/app, --migrate], [/bin/sh, -c]]}"
    confined(Asked(command=("--migrate", "now")), rule)
    confined(Asked(entrypoint=("/bin/sh",), command=("-c", "id")), rule)
    confined(Asked(), rule)
    for asked in (
        Asked(command=("--migrate=now",)),
        Asked(entrypoint=("/bin/sh",)),
        Asked(entrypoint=("/bin/sh -c",)),
        Asked(command=("--serve", "--migrate")),
        Asked(command=("--migrate",), working_dir="/tmp"),
    ):
        refused(asked, rule)


def test_the_configuration_is_fetched_only_to_compare_commands():
    def never():
        raise AssertionError("asked for")

    confine(Asked(), grant("{command: [[a]]}"), RULE, never)
    confine(Asked(command=("x",)), grant("{command: any}"), RULE, never)


def test_a_variable_is_granted_by_its_whole_name():
    rule = "{environment: [TZ, 'APP_*']}"
    confined(Asked(environment=(("TZ", "UTC"), ("APP_LOG", "1"))), rule)
    refused(Asked(environment=(("TZDIR", "/x"),)), rule)
    refused(Asked(environment=(("MY_APP_LOG", "1"),)), rule)


def test_a_mount_is_granted_below_a_path_and_with_the_access_at_most(tmp_path):
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data2").mkdir()
    rule = f"{{mounts: [{{from: {tmp_path}/data, to: /data}}]}}"
    found = confined(Asked(mounts=(AskedMount(f"{tmp_path}/data/sub", "/data/x/", Access.READ_ONLY),)), rule)
    assert found.mounts == (BindMount(f"{tmp_path}/data/sub", "/data/x", MountAccess.READ_ONLY),)
    for mount in (
        AskedMount(f"{tmp_path}/data", "/data", Access.READ_WRITE),
        AskedMount(f"{tmp_path}/data2", "/data", Access.READ_ONLY),
        AskedMount(f"{tmp_path}", "/data", Access.READ_ONLY),
        AskedMount(f"{tmp_path}/data", "/etc", Access.READ_ONLY),
        AskedMount(f"{tmp_path}/data", "/data/../etc", Access.READ_ONLY),
        AskedMount(f"{tmp_path}/data/../data2", "/data", Access.READ_ONLY),
    ):
        assert isinstance(refused(Asked(mounts=(mount,)), rule), MountNotGranted)


def test_a_link_out_of_the_granted_path_is_followed_before_it_is_compared(tmp_path):
    (tmp_path / "data").mkdir()
    os.symlink("/etc", tmp_path / "data/link")
    rule = f"{{mounts: [{{from: {tmp_path}/data, to: /}}]}}"
    assert isinstance(refused(Asked(mounts=(AskedMount(f"{tmp_path}/data/link", "/x", Access.READ_ONLY),)), rule), MountNotGranted)


def test_a_granted_path_may_be_a_link_itself(tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "data")
    found = confined(
        Asked(mounts=(AskedMount(f"{tmp_path}/data", "/x", Access.READ_ONLY),)), f"{{mounts: [{{from: {tmp_path}/data, to: /}}]}}"
    )
    assert found.mounts[0].source == str(tmp_path / "real")


def test_a_mount_is_granted_at_its_own_path_unless_the_rule_names_another(tmp_path):
    (tmp_path / "x").mkdir()
    rule = f"{{mounts: [{{from: {tmp_path}}}]}}"
    confined(Asked(mounts=(AskedMount(f"{tmp_path}/x", f"{tmp_path}/x", Access.READ_ONLY),)), rule)
    assert isinstance(refused(Asked(mounts=(AskedMount(f"{tmp_path}/x", "/bin", Access.READ_ONLY),)), rule), MountNotGranted)


def test_write_access_is_given_where_it_is_granted(tmp_path):
    rule = f"{{mounts: [{{from: {tmp_path}, to: /x}}, {{from: {tmp_path}, to: /x, access: read-write}}]}}"
    assert confined(Asked(mounts=(AskedMount(str(tmp_path), "/x"),)), rule).mounts[0].access is MountAccess.READ_WRITE


def test_capabilities_are_the_usual_ones_capped_by_the_rule():
    assert confined(Asked(), "{capabilities: none}").capabilities == ()
    assert confined(Asked(), "{capabilities: [NET_RAW, CHOWN]}").capabilities == ("CAP_CHOWN",)
    assert set(confined(Asked(add_capabilities=("CAP_NET_RAW",)), "{capabilities: [NET_RAW, CHOWN]}").capabilities) == {
        "CAP_CHOWN",
        "CAP_NET_RAW",
    }
    assert confined(Asked(drop_capabilities=("ALL",))).capabilities == ()
    assert "CAP_CHOWN" not in confined(Asked(drop_capabilities=("CAP_CHOWN",))).capabilities
    only = Asked(drop_capabilities=("ALL",), add_capabilities=("CAP_CHOWN",))
    assert confined(only).capabilities == ("CAP_CHOWN",)


def test_limits_are_the_less_of_both():
    rule = "{memory: 64MiB, pids: 10, cpus: 1.5}"
    found = confined(Asked(), rule)
    assert (found.memory_bytes, found.pids, found.cpus) == (64 * 2**20, 10, 1.5)
    found = confined(Asked(memory_bytes=2**20, pids=5, cpus=0.5), rule)
    assert (found.memory_bytes, found.pids, found.cpus) == (2**20, 5, 0.5)
    for asked in (Asked(memory_bytes=2**30), Asked(pids=11), Asked(cpus=2.0)):
        assert isinstance(refused(asked, rule), ResourceNotGranted)


@pytest.mark.parametrize("asked", [0, -1])
def test_any_number_of_processes_is_had_where_the_rule_caps_none(asked):
    assert confined(Asked(pids=asked), "{}").pids == UNLIMITED
    assert isinstance(refused(Asked(pids=asked), "{pids: 10}"), ResourceNotGranted)


@pytest.mark.parametrize("rule", ["{}", "{memory: 64MiB, pids: 10, cpus: 1.5}"])
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(Asked(memory_bytes=0), id="no memory, which some runtimes take for no limit"),
        pytest.param(Asked(memory_bytes=-1), id="less than none"),
        pytest.param(Asked(pids=-2), id="less than no process"),
        pytest.param(Asked(cpus=0.0), id="no processor"),
        pytest.param(Asked(cpus=float("nan")), id="not a number, which is not above any cap"),
    ],
)
def test_a_limit_that_is_none_is_refused(asked, rule):
    assert isinstance(refused(asked, rule), ResourceNotGranted)


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        pytest.param(Asked(hostname="a\n6.6.6.6 api.internal"), "--hostname", id="a host name with a line for the hosts file"),
        pytest.param(Asked(hostname="a b"), "--hostname", id="a host name with a space"),
        pytest.param(Asked(hostname=""), "--hostname", id="no host name"),
        pytest.param(Asked(hostname="a" * 65), "--hostname", id="a host name that the kernel does not take"),
        pytest.param(Asked(working_dir="srv"), "--workdir", id="a relative directory"),
        pytest.param(Asked(mounts=(AskedMount("/nosuch/path", "/x"),)), "--volume", id="a path that is not on this host"),
        pytest.param(Asked(mounts=(AskedMount("/etc", "/x/.."),)), "--volume", id="a mount over the root"),
        pytest.param(Asked(mounts=(AskedMount("/etc", "//"),)), "--volume", id="a mount over the root, as POSIX lets it be written"),
    ],
)
def test_a_value_that_cannot_be_used_is_the_users_to_mend(asked, option):
    with pytest.raises(MalformedOption) as caught:
        confine(asked, OPEN_GRANT, RULE, lambda: ())
    assert (caught.value.status(), caught.value.place.source) == (EXIT_USAGE, option)


@pytest.mark.parametrize("name", ["a", "web-1", "db.example.org", "web_1", "0", "A" * 63])
def test_ordinary_host_names_are_taken(name):
    assert confined(Asked(hostname=name)).hostname == name


def test_a_read_only_root_is_the_rules_or_the_users_wish():
    assert confined(Asked(), "{readOnly: true}").read_only
    assert confined(Asked(root=Access.READ_ONLY)).read_only
    assert not confined(Asked()).read_only


def test_a_listed_user_may_be_asked_for():
    assert confined(Asked(user="1000"), "{user: ['1000']}").user == "1000"
    refused(Asked(user="1000:0"), "{user: ['1000']}")
    assert confined(Asked(user="0"), "{user: any}").user == "0"


def test_flags_grant_whatever_their_user_asks_for(tmp_path):
    asked = Asked(
        command=("sh",),
        environment=(("LD_PRELOAD", "x"),),
        mounts=(AskedMount(str(tmp_path), "/x"),),
        network=Network.HOST,
        add_capabilities=(CAPABILITIES[-1],),
        user="0",
        working_dir="/",
        memory_bytes=2**40,
    )
    found = confine(asked, OPEN_GRANT, RULE, lambda: ("sh",))
    assert found.capabilities[-1] == CAPABILITIES[-1]
    assert set(DEFAULT_CAPABILITIES) < set(found.capabilities)
    assert set(confine(Asked(), OPEN_GRANT, RULE, lambda: ()).capabilities) == set(DEFAULT_CAPABILITIES)
