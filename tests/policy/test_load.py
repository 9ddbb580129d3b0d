"""A policy file is read in one way or refused, with file, line, column and a caret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import (
    EXIT_USAGE,
    AmbiguousRules,
    FileUnreadable,
    Kind,
    MalformedPolicy,
    MalformedReference,
    MalformedYaml,
    NotUtf8,
    Place,
    SameKeyTwice,
    SigkitError,
    TooDeep,
    TooLarge,
    TooMany,
    UnsupportedPolicyVersion,
)
from sigkit.policy.load import load_policy, parse_policy
from sigkit.policy.model import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    Access,
    AllOf,
    AnyOf,
    Anything,
    AtLeast,
    Commands,
    Grant,
    ImageOwn,
    KeyRequirement,
    Mode,
    MountGrant,
    NameRule,
    Network,
    Remap,
    Unverified,
    Users,
)
from sigkit.runtime.capabilities import NAMES
from tests.simulators import verdicts
from tests.simulators.verdicts import policy, read_key, trusted

HEAD = "apiVersion: sigkit.dev/v1alpha1\nkind: Policy\n"
KEYS = "keys:\n  a: {file: a.pub}\n  b: {file: b.pub}\n  c: {file: c.pub}\n"
RULE = "rules:\n  - images: reg.example/app\n    require: {key: a}\n"


def load(text: str):
    return parse_policy(text.encode(), Place.operator("policy.yaml"), read_key)


def refused(text: str) -> SigkitError:
    with pytest.raises(SigkitError) as caught:
        load(text)
    return caught.value


def caret(err: SigkitError) -> str:
    """Return what stands above the caret, up to the next space or end."""
    line, below = err.__notes__[0].splitlines()
    return line[below.index("^") :]


def rule(text: str):
    return policy(text, "a", "b", "c").rules[0]


def required(text: str):
    return rule(f"  - images: reg.example/app\n    require: {text}\n").require


def granted(text: str):
    return rule(f"  - images: reg.example/app\n    require: {{key: a}}\n    run: {text}\n").run


# --- what a policy says


def test_the_least_rule_asks_for_the_key_under_the_repositorys_own_name_and_grants_nothing_more():
    found = rule("  - images: reg.example/app\n    require: {key: a}\n")
    assert isinstance(found.require, KeyRequirement)
    assert found.require.key == trusted("a")
    assert (found.name, found.mode, found.remaps) == (NameRule.REPOSITORY, Mode.ENFORCE, ())
    assert found.run == Grant()
    assert found.run.network is Network.NONE
    assert isinstance(found.run.command, ImageOwn)
    assert found.run.capabilities == DEFAULT_CAPABILITIES


def test_requirements_nest():
    found = required("{allOf: [{key: a}, {anyOf: [{key: b}, {atLeast: {n: 1, of: [{key: c}]}}]}]}")
    assert isinstance(found, AllOf)
    assert isinstance(found.of[1], AnyOf)
    assert isinstance(found.of[1].of[1], AtLeast)
    assert found.of[1].of[1].n == 1


def test_a_key_can_stand_in_the_file_itself():
    pem = "\n".join(f"      {line}" for line in verdicts.private("a").public.encode_pem().decode().splitlines())
    found = load(f"{HEAD}keys:\n  inline:\n    pem: |\n{pem}\n{RULE.replace('key: a', 'key: inline')}")
    assert found.keys[0].key == trusted("a").key


def test_key_files_lie_beside_the_policy(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/a.pub").write_bytes(verdicts.private("a").public.encode_pem())
    (tmp_path / "policy.yaml").write_text(f"{HEAD}keys:\n  a: {{file: keys/a.pub}}\n{RULE}")
    found = load_policy(tmp_path / "policy.yaml")
    assert found.keys == (trusted("a"),)
    assert found.name == "policy.yaml"


@pytest.mark.parametrize("name", ['"a\\0b"', '"a\\e[2J"', "nosuch.pub", "."])
def test_a_key_file_that_cannot_be_read_is_a_usage_error_with_its_line(name, tmp_path):
    (tmp_path / "policy.yaml").write_text(f"{HEAD}keys:\n  a: {{file: {name}}}\n{RULE}")
    with pytest.raises(FileUnreadable) as caught:
        load_policy(tmp_path / "policy.yaml")
    assert (caught.value.status(), caught.value.place.inside) == (EXIT_USAGE, "4:13")
    assert "relative" in caught.value.remedy


def test_metadata_gives_the_name():
    assert load(f"{HEAD}metadata: {{name: production}}\n{KEYS}{RULE}").name == "production"


def test_another_key_in_the_same_file_is_another_policy():
    text = f"{HEAD}keys:\n  a: {{file: a.pub}}\n{RULE}".encode()
    files = [verdicts.private(name).public.encode_pem() for name in "ab"]
    digests = {parse_policy(text, Place.operator("policy.yaml"), lambda _: files.pop()).digest for _ in range(2)}
    assert len(digests) == 2


def test_a_name_rule_maps_names_longest_first():
    found = rule(
        "  - images: m.example/**\n    require: {key: a}\n    name: {remap: [{from: m.example, to: x.example}, "
        "{from: m.example/acme, to: y.example/acme}]}\n"
    )
    assert found.name is NameRule.REMAP
    assert found.remaps == (Remap("m.example", "x.example"), Remap("m.example/acme", "y.example/acme"))
    names = [str(found.wanted_name(verdicts.request(ref).repository)) for ref in ("m.example/a/b", "m.example/acme/b", "m.example/acmes/b")]
    assert names == ["x.example/a/b", "y.example/acme/b", "x.example/acmes/b"]


def test_an_unverified_rule_holds_its_reason():
    found = rule("  - images: reg.example/app\n    unverified: {reason: 'old, see OPS-1'}\n")
    assert isinstance(found.require, Unverified)
    assert found.require.reason == "old, see OPS-1"


def test_a_grant_is_read_whole():
    found = granted(
        "{command: [[/bin/app, --serve], [sh]], environment: [TZ, 'APP_*'], mounts: [{from: /srv/a, to: /data, access: read-write}, "
        "{from: /etc/ssl}], network: host, capabilities: [NET_RAW, CAP_CHOWN], user: ['1000:1000', app], readOnly: true, memory: 512MiB, "
        "pids: 100, cpus: 1.5}"
    )
    assert found == Grant(
        command=Commands((("/bin/app", "--serve"), ("sh",))),
        environment=("TZ", "APP_*"),
        mounts=(MountGrant("/srv/a", "/data", Access.READ_WRITE), MountGrant("/etc/ssl", "/etc/ssl", Access.READ_ONLY)),
        network=Network.HOST,
        capabilities=("CAP_NET_RAW", "CAP_CHOWN"),
        user=Users(("1000:1000", "app")),
        root=Access.READ_ONLY,
        memory_bytes=512 * 2**20,
        pids=100,
        cpus=1.5,
    )


def test_words_stand_for_everything_and_nothing():
    found = granted("{command: any, user: any, capabilities: none}")
    assert (found.command, found.user, found.capabilities) == (Anything(), Anything(), ())
    found = granted("{command: image, user: image, capabilities: default, network: none, readOnly: false}")
    assert found == Grant()


def test_the_names_of_capabilities_are_the_runtimes():
    assert CAPABILITIES == NAMES


def test_text_stays_text_and_is_never_a_number_or_a_boolean():
    found = granted("{command: [[no, '012', 1:30, ~, null]]}")
    assert found.command == Commands((("no", "012", "1:30", "~", "null"),))


def test_the_most_specific_rule_is_found_whatever_the_order():
    rules = [
        "  - {images: '**', require: {key: a}}\n",
        "  - {images: reg.example/**, require: {key: b}}\n",
        "  - {images: reg.example/app, require: {key: c}}\n",
    ]
    for text in ("".join(rules), "".join(reversed(rules))):
        loaded = policy(text, "a", "b", "c")
        keys = []
        for reference in ("other.example/x", "reg.example/x/y", "reg.example/app"):
            found = loaded.rule_for(verdicts.request(reference).repository, None)
            assert found is not None
            assert isinstance(found.require, KeyRequirement)
            keys.append(found.require.key.name)
        assert keys == ["a", "b", "c"]


# --- what is refused, and where


@pytest.mark.parametrize(
    ("text", "at", "above"),
    [
        pytest.param(HEAD + KEYS + RULE + "    reqiure: {key: a}\n", "10:5", "reqiure", id="unknown-field-of-a-rule"),
        pytest.param(HEAD + KEYS + RULE + "rulez: []\n", "10:1", "rulez", id="unknown-field-at-the-top"),
        pytest.param(HEAD + KEYS + RULE + "    run: {privileged: true}\n", "10:11", "privileged", id="unknown-field-of-run"),
        pytest.param(HEAD + "keys:\n  a: {file: a.pub, hint: x}\n" + RULE, "4:20", "hint", id="unknown-field-of-a-key"),
        pytest.param(HEAD + KEYS + RULE.replace("key: a", "kye: a"), "9:15", "kye", id="unknown-requirement"),
        pytest.param(HEAD + KEYS + RULE.replace("key: a", "key: d"), "9:20", "d}", id="key-that-is-not-there"),
        pytest.param(HEAD + KEYS + RULE.replace("reg.example/app", "reg.example/[ab]*"), "8:13", "reg", id="foreign-pattern"),
        pytest.param(HEAD + KEYS + "rules: []\n", "7:8", "[]", id="no-rules"),
        pytest.param(HEAD + KEYS + "rules: {}\n", "7:8", "{}", id="rules-are-a-list"),
        pytest.param(HEAD + KEYS + "rules:\n  - images: []\n    require: {key: a}\n", "8:13", "[]", id="no-images"),
        pytest.param(HEAD + KEYS + RULE.replace("{key: a}", "{allOf: []}"), "9:22", "[]", id="all-of-nothing"),
        pytest.param(HEAD + KEYS + RULE.replace("{key: a}", "{anyOf: []}"), "9:22", "[]", id="any-of-nothing"),
        pytest.param(HEAD + KEYS + RULE.replace("{key: a}", "{atLeast: {n: 1, of: []}}"), "9:35", "[]", id="at-least-of-nothing"),
        pytest.param(HEAD + KEYS + RULE.replace("{key: a}", "{atLeast: {n: 0, of: [{key: a}]}}"), "9:28", "0", id="at-least-none"),
        pytest.param(HEAD + KEYS + RULE.replace("{key: a}", "{atLeast: {n: 2, of: [{key: a}]}}"), "9:28", "2", id="at-least-more-than-all"),
        pytest.param(HEAD + KEYS + RULE.replace("{key: a}", "{atLeast: {n: -1, of: [{key: a}]}}"), "9:28", "-1", id="at-least-negative"),
        pytest.param(HEAD + KEYS + RULE.replace("{key: a}", "{key: a, anyOf: [{key: b}]}"), "9:14", "{key", id="two-requirements"),
        pytest.param(HEAD + KEYS + RULE.replace("{key: a}", "{}"), "9:14", "{}", id="no-requirement"),
        pytest.param(HEAD + KEYS + RULE.replace("{key: a}", "a"), "9:14", "a", id="requirement-as-text"),
        pytest.param(HEAD + KEYS + "rules:\n  - images: reg.example/app\n", "8:5", "images", id="neither-required-nor-unverified"),
        pytest.param(HEAD + KEYS + RULE + "    unverified: {reason: x}\n", "8:5", "images", id="both"),
        pytest.param(HEAD + "rules:\n  - {images: '**', unverified: {}}\n", "4:32", "{}", id="unverified-without-reason"),
        pytest.param(HEAD + "rules:\n  - {images: '**', unverified: {reason: ' '}}\n", "4:41", "' '", id="unverified-for-a-blank-reason"),
        pytest.param(HEAD + "rules:\n  - {images: '**', unverified: {reason: x}, mode: warn}\n", "4:51", "warn", id="unverified-and-warn"),
        pytest.param(HEAD + KEYS + RULE + "    name: if-signed\n", "10:11", "if-signed", id="the-flags-name-rule"),
        pytest.param(HEAD + KEYS + RULE + "    name: {remap: []}\n", "10:19", "[]", id="empty-map"),
        pytest.param(HEAD + KEYS + RULE + "    name: {remap: [{from: a.b, to: acme/x}]}\n", "10:36", "acme/x", id="map-without-registry"),
        pytest.param(HEAD + KEYS + RULE + "    mode: Warn\n", "10:11", "Warn", id="mode"),
        pytest.param(HEAD + KEYS + RULE + "    run: {network: bridge}\n", "10:20", "bridge", id="network"),
        pytest.param(HEAD + KEYS + RULE + "    run: {readOnly: yes}\n", "10:21", "yes", id="yes-is-not-true"),
        pytest.param(HEAD + KEYS + RULE + "    run: {memory: 1GB}\n", "10:19", "1GB", id="memory"),
        pytest.param(HEAD + KEYS + RULE + "    run: {memory: 1KiB}\n", "10:19", "1KiB", id="too-little-memory"),
        pytest.param(HEAD + KEYS + RULE + "    run: {cpus: 0.0}\n", "10:17", "0.0", id="no-processor"),
        pytest.param(HEAD + KEYS + RULE + "    run: {pids: 0}\n", "10:17", "0", id="no-process"),
        pytest.param(HEAD + KEYS + RULE + "    run: {capabilities: [SYS_ADMN]}\n", "10:26", "SYS_ADMN", id="capability"),
        pytest.param(HEAD + KEYS + RULE + "    run: {command: [/bin/sh]}\n", "10:21", "/bin/sh", id="command-as-text"),
        pytest.param(HEAD + KEYS + RULE + "    run: {command: [[]]}\n", "10:21", "[]", id="empty-command"),
        pytest.param(HEAD + KEYS + RULE + "    run: {environment: ['A=b']}\n", "10:25", "'A=b'", id="variable-with-value"),
        pytest.param(HEAD + KEYS + RULE + "    run: {mounts: [{from: srv}]}\n", "10:27", "srv", id="relative-mount"),
        pytest.param(HEAD + KEYS + RULE + "    run: {mounts: [{from: /a/../b}]}\n", "10:27", "/a/..", id="mount-with-dots"),
        pytest.param(HEAD + KEYS + RULE + "    run: {user: ['-1']}\n", "10:18", "'-1'", id="user"),
        pytest.param(HEAD + KEYS + RULE + "    tags: 'v[0-9]'\n", "10:11", "'v[0", id="tag-pattern"),
        pytest.param(HEAD + "keys: {}\n" + RULE, "3:7", "{}", id="no-keys"),
        pytest.param(HEAD + "keys:\n  a: {}\n" + RULE, "4:6", "{}", id="key-without-material"),
        pytest.param(HEAD + "keys:\n  'a b': {file: a.pub}\n" + RULE, "4:10", "{file", id="name-of-a-key"),
        pytest.param(HEAD + KEYS + "rules: ''\n", "7:8", "''", id="empty-text"),
    ],
)
def test_a_field_that_is_wrong_is_shown(text, at, above):
    err = refused(text)
    assert isinstance(err, MalformedPolicy)
    assert err.place == Place.operator("policy.yaml", at)
    assert caret(err).startswith(above)
    assert err.status() == EXIT_USAGE


def test_a_missing_field_is_named():
    assert "`rules`" in refused(HEAD + KEYS).problem


@pytest.mark.attack("CVE-2025-29778")
def test_an_unknown_field_is_refused_by_name_with_what_was_meant():
    err = refused(HEAD + KEYS + RULE.replace("require", "requires"))
    assert isinstance(err, MalformedPolicy)
    assert "`requires`" in err.problem
    assert "`require`" in err.remedy
    assert err.place.inside == "9:5"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        pytest.param(HEAD.replace("v1alpha1", "v1") + KEYS + RULE, "1:13", id="version"),
        pytest.param(HEAD.replace("kind: Policy", "kind: ClusterImagePolicy") + KEYS + RULE, "2:7", id="kind"),
    ],
)
def test_another_version_or_kind_is_refused_before_its_fields_are_read(text, at):
    err = refused(text + "newField: x\n")
    assert isinstance(err, UnsupportedPolicyVersion)
    assert err.place.inside == at


@pytest.mark.parametrize(
    ("text", "at"),
    [
        pytest.param(HEAD + "keys: &k {a: {file: a.pub}}\n" + RULE, "3:7", id="anchor"),
        pytest.param(HEAD + "keys: *k\n" + RULE, "3:7", id="alias"),
        pytest.param(HEAD + "keys: !!map {a: {file: a.pub}}\n" + RULE, "3:7", id="tag"),
        pytest.param(HEAD + "keys: !!python/object/apply:os.system [id]\n" + RULE, "3:7", id="tag-that-runs-code"),
        pytest.param(HEAD + "keys: ! x\n" + RULE, "3:7", id="bare-tag"),
        pytest.param("%YAML 1.1\n---\n" + HEAD + KEYS + RULE, "1:1", id="directive"),
        pytest.param(HEAD + KEYS + RULE + "---\na: b\n", "10:1", id="second-document"),
        pytest.param(HEAD + "kind: Policy\n" + KEYS + RULE, "3:1", id="same-key-twice"),
        pytest.param(HEAD + "keys:\n  a: {file: a.pub}\n  a: {file: b.pub}\n" + RULE, "5:3", id="same-name-twice"),
        pytest.param(HEAD + "[a]: b\n", "3:1", id="list-as-key"),
        pytest.param(HEAD + "keys: [\n", "4:1", id="unclosed"),
        pytest.param(HEAD + "a: b: c\n", "3:5", id="syntax"),
        pytest.param(HEAD + "\ta: b\n", "3:1", id="tab"),
        pytest.param(HEAD + "images: **\n", "3:10", id="unquoted-stars"),
        pytest.param(HEAD + "a: \x07\n", "3:4", id="control-character"),
        pytest.param("", "1:1", id="empty"),
        pytest.param("# nothing\n", "1:1", id="comments-only"),
    ],
)
def test_yaml_that_is_not_plain_is_refused_where_it_stands(text, at):
    err = refused(text)
    assert isinstance(err, MalformedYaml)
    assert err.place.inside == at
    assert err.__notes__


def test_a_merge_key_is_an_unknown_field():
    assert "`<<`" in refused(HEAD + KEYS + "rules:\n  - {images: x.y/z, require: {key: a}, <<: {mode: warn}}\n").problem


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(NotUtf8):
        parse_policy(b"\xff\xfe", Place.operator("policy.yaml"), read_key)


@pytest.mark.parametrize("place", ["keys", "list"])
def test_one_key_under_two_names_is_refused(place):
    text = HEAD + "keys:\n  a: {file: a.pub}\n  alias: {file: a.pub}\n" + RULE
    if place == "list":
        text = HEAD + KEYS + RULE.replace("{key: a}", "{atLeast: {n: 2, of: [{key: a}, {key: b}, {key: a}]}}")
    err = refused(text)
    assert isinstance(err, SameKeyTwice)
    assert err.place.inside == {"keys": "5:10", "list": "9:56"}[place]


@pytest.mark.parametrize(
    "of",
    [
        pytest.param("{atLeast: {n: 2, of: [{key: a}, {allOf: [{key: b}, {key: a}]}]}}", id="nested-in-a-threshold"),
        pytest.param("{anyOf: [{key: a}, {key: a}]}", id="twice-in-any"),
        pytest.param("{allOf: [{key: a}, {key: b}, {key: a}]}", id="twice-in-all"),
    ],
)
def test_a_key_that_would_count_twice_is_refused(of):
    assert isinstance(refused(HEAD + KEYS + RULE.replace("{key: a}", of)), SameKeyTwice)


def test_a_key_may_stand_in_alternatives():
    required("{anyOf: [{allOf: [{key: a}, {key: b}]}, {allOf: [{key: a}, {key: c}]}]}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("reg.example/app", "reg.example/app", id="equal"),
        pytest.param("busybox", "docker.io/library/busybox", id="equal-after-docker-defaults"),
        pytest.param("reg.example/a*", "reg.example/*a", id="same-weight-and-a-common-name"),
        pytest.param("reg.example/**/app", "reg.example/**/*/app", id="tie-behind-two-stars"),
        pytest.param("a*.example/x", "*z.example/x", id="registries"),
    ],
)
def test_two_rules_that_could_both_decide_are_refused(one, other):
    text = f"{HEAD}{KEYS}rules:\n  - {{images: '{one}', require: {{key: a}}}}\n  - {{images: '{other}', require: {{key: b}}}}\n"
    if one == "reg.example/**/app":
        load(text)  # the longer one is more specific
        return
    err = refused(text)
    assert isinstance(err, AmbiguousRules)
    assert err.place.inside == "9:5"
    assert "line 8" in err.got


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("reg.example/a/*", "reg.example/b/*", id="disjoint-literals"),
        pytest.param("reg.example/app-*", "reg.example/lib-*", id="disjoint-beginnings"),
        pytest.param("reg.example/*-x", "reg.example/*-y", id="disjoint-ends"),
        pytest.param("reg.example/*", "reg.example/**", id="one-is-more-specific"),
    ],
)
def test_rules_about_different_images_stand_side_by_side(one, other):
    load(f"{HEAD}{KEYS}rules:\n  - {{images: '{one}', require: {{key: a}}}}\n  - {{images: '{other}', require: {{key: b}}}}\n")


def tagged(one: str, other: str) -> str:
    rules = "".join(f"  - {{images: reg.example/app, require: {{key: a}}{tags}}}\n" for tags in (one, other))
    return f"{HEAD}{KEYS}rules:\n{rules}"


def test_tags_tell_rules_apart():
    load(tagged("", ", tags: 'v*'"))
    load(tagged(", tags: 'v*'", ", tags: 'w*'"))
    load(tagged(", tags: 'v*'", ", tags: 'v1*'"))
    for ambiguous in (tagged(", tags: 'v*'", ", tags: '*v'"), tagged(", tags: latest", ", tags: [latest, v1]")):
        assert isinstance(refused(ambiguous), AmbiguousRules)


def test_ten_thousand_rules_are_read(tmp_path):
    rules = "".join(f"  - {{images: reg.example/team{i}/**, require: {{key: a}}}}\n" for i in range(10_000))
    assert len(load(f"{HEAD}{KEYS}rules:\n{rules}").rules) == 10_000


@pytest.mark.attack("CVE-2019-11253, CVE-2020-14343")
def test_a_yaml_bomb_is_refused_at_its_first_anchor():
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]", *(f"{c}: &{c} [{','.join(['*' + p] * 9)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True))]
    err = refused("\n".join(lines))
    assert isinstance(err, MalformedYaml)
    assert err.place.inside == "1:4"


@pytest.mark.attack("CVE-2019-11253, CVE-2020-14343")
@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("[" * 100, TooDeep, id="deep"),
        pytest.param("- " * 100, TooDeep, id="deep-block"),
        pytest.param("[" + "a," * 250_000 + "]", TooMany, id="many"),
        pytest.param("#" * (2**20 + 1), TooLarge, id="large"),
    ],
)
def test_too_much_yaml_is_refused_before_it_is_built(text, error):
    err = refused(text)
    assert type(err) is error
    assert err.kind is Kind.LIMIT
    assert err.status() == EXIT_USAGE


@pytest.mark.attack("CVE-2019-11253, CVE-2020-14343")
def test_a_tag_that_would_run_code_is_refused(tmp_path):
    bomb = f'!!python/object/new:os.system ["touch {tmp_path}/owned"]'
    err = refused(f"{HEAD}keys: {bomb}\n{RULE}")
    assert isinstance(err, MalformedYaml)
    assert err.place.inside == "3:7"
    assert not list(tmp_path.iterdir())


def test_a_key_file_that_cannot_be_read_is_the_operators_fault(tmp_path):
    (tmp_path / "policy.yaml").write_text(f"{HEAD}keys:\n  a: {{file: absent.pub}}\n{RULE}")
    with pytest.raises(SigkitError) as caught:
        load_policy(tmp_path / "policy.yaml")
    assert caught.value.status() == EXIT_USAGE
    assert caught.value.place == Place.operator(str(tmp_path / "policy.yaml"), "4:13")
    assert "absent.pub" in caught.value.problem


def test_a_key_that_is_none_is_refused_at_the_line_that_names_it(tmp_path):
    (tmp_path / "a.pub").write_text("no key")
    (tmp_path / "policy.yaml").write_text(f"{HEAD}keys:\n  a: {{file: a.pub}}\n{RULE}")
    with pytest.raises(SigkitError) as caught:
        load_policy(tmp_path / "policy.yaml")
    assert caught.value.status() == EXIT_USAGE
    assert caught.value.place.inside == "4:13"


def test_an_impossible_name_in_a_pattern_is_refused_with_its_place():
    err = refused(HEAD + KEYS + RULE.replace("reg.example/app", "reg.example/App"))
    assert isinstance(err, MalformedReference)
    assert err.place == Place.operator("policy.yaml", "8:13")
    assert caret(err).startswith("reg.example/App")


def test_an_absent_policy_is_a_usage_error(tmp_path):
    with pytest.raises(SigkitError) as caught:
        load_policy(tmp_path / "absent.yaml")
    assert caught.value.status() == EXIT_USAGE


WHOLE = f"""{HEAD}metadata: {{name: x}}
{KEYS}rules:
  - images: [reg.example/**, "busybox"]
    tags: ["v*"]
    require: {{anyOf: [{{key: a}}, {{atLeast: {{n: 2, of: [{{key: b}}, {{key: c}}]}}}}]}}
    name: {{remap: [{{from: reg.example, to: "[::1]:5000/x"}}]}}
    mode: warn
    run: {{command: [[a, b]], environment: [TZ], mounts: [{{from: /a, to: /b}}], user: ["1"], memory: 8MiB, pids: 1, cpus: 1.5}}
  - images: x.y/z
    unverified: {{reason: r}}
"""
ODD = [
    "",
    "\0",
    "\x85",
    "\u2028",
    "\ud7ff",
    "\ufeff",
    "\u0663",
    "&a ",
    "*a",
    "!!int ",
    "|",
    ">",
    "- ",
    ": ",
    "{",
    "]",
    "'",
    '"',
    "%",
    "\t",
    "---\n",
    "? ",
    "<<",
    "9" * 40,
]


def test_the_whole_example_loads():
    assert len(load(WHOLE).rules) == 2


@given(st.integers(0, len(WHOLE)), st.integers(0, 12), st.sampled_from(ODD) | st.text(max_size=5))
def test_a_damaged_policy_is_read_or_refused_and_nothing_else(at, cut, put):
    status = EXIT_USAGE
    try:
        load(WHOLE[:at] + put + WHOLE[at + cut :])
    except SigkitError as err:
        status = err.status()
    assert status == EXIT_USAGE


@given(st.binary(max_size=200))
def test_bytes_that_are_no_policy_are_refused(raw):
    with pytest.raises(SigkitError):
        parse_policy(raw, Place.operator("policy.yaml"), read_key)


@pytest.mark.parametrize(
    ("require", "accepted"),
    [
        ("{attestation: {type: spdxjson, by: {key: a}}}", False),
        ("{anyOf: [{attestation: {type: spdxjson, by: {key: a}}}, {attestation: {type: vuln, by: {key: b}}}]}", False),
        ("{allOf: [{attestation: {type: spdxjson, by: {key: a}}}, {key: a}]}", True),
    ],
    ids=["one", "several", "and-a-signature"],
)
def test_annotations_that_nothing_would_be_compared_with_are_refused(require, accepted):
    text = f"{HEAD}{KEYS}rules:\n  - images: reg.example/app\n    require: {require}\n    annotations: {{env: prod}}\n"
    if accepted:
        assert load(text).rules[0].annotations == {"env": "prod"}
        return
    err = refused(text)
    assert isinstance(err, MalformedPolicy)
    assert err.place.inside.startswith("10:")
