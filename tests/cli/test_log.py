"""`sigkit log`: entries are proved, checkpoints followed, and what cannot be searched is a usage error."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sigkit import limits
from sigkit.cli.main import run
from sigkit.digest import Digest
from sigkit.errors import CheckpointNotSigned, FileUnreadable, LogForked, MalformedKey, Place
from sigkit.keys.private import generate
from sigkit.keys.public import ED25519, parse_public_key
from sigkit.services.exchange import whole_answer
from sigkit.services.log.hashedrekord import terms_of
from sigkit.strict import encode_base64
from sigkit.tlog.cosignature import COSIGNATURE_TYPE
from sigkit.tlog.entry_v2 import KeyVerifier, encode_hashedrekord
from sigkit.tlog.merkle import leaf_hash
from sigkit.tlog.note import ED25519_TYPE, encode_line, key_id_of
from tests.simulators.log_server import KEY, LOG_KEY, ORIGIN, RekorV1, serving, tile_log
from tests.simulators.note_keys import encode_note_key
from tests.simulators.sigstore_logs import root_hash, spki

SIGNER = ec.generate_private_key(ec.SECP256R1())
DIGEST = Digest.of(b"hello")


def leaf_of(message):
    signature = SIGNER.sign(message, ec.ECDSA(hashes.SHA256()))
    return encode_hashedrekord(Digest.of(message), signature, KeyVerifier(spki(SIGNER)), "PKIX_ECDSA_P256_SHA_256")


LEAF = leaf_of(b"hello")


@pytest.fixture(autouse=True)
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGKIT_CHECKPOINTS", str(tmp_path / "seen"))


@pytest.fixture
def served(tmp_path):
    with tile_log(tmp_path / "log", [LEAF], terms=terms_of) as (log, front, url, _):
        yield log, front, url


@pytest.fixture
def trusted(served, tmp_path):
    """A trusted root that has the log."""
    log, _, url = served
    root = {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [
            {
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": encode_base64(KEY.public.spki),
                    "keyDetails": "PKIX_ED25519",
                    "validFor": {"start": "2020-01-01T00:00:00Z"},
                },
                "logId": {"keyId": encode_base64(log.log_id)},
            }
        ],
    }
    path = tmp_path / "trusted_root.json"
    path.write_text(json.dumps(root))
    return path


def call(capsys, *arguments):
    status = run(["log", *map(str, arguments), "--output", "json"])
    return status, json.loads(capsys.readouterr().out)


def by_key(url):
    return "--rekor-url", url, "--log-key", LOG_KEY


def test_an_entry_is_printed_with_the_tree_that_holds_it(served, capsys):
    _, _, url = served
    assert run(["log", "get", "1", *by_key(url)]) == 0
    out = capsys.readouterr().out
    assert "included  in the tree of 2 entries" in out
    assert '"kind": "hashedrekord"' in out
    assert f"signer    key {parse_public_key(spki(SIGNER), Place('key')).fingerprint}, as the entry says" in out
    status, document = call(capsys, "get", "1", *by_key(url))
    assert (status, document["schema"], document["size"]) == (0, "sigkit.log.entry/1", 2)
    assert document["body"] == json.loads(LEAF)


def test_the_log_of_a_trusted_root_is_found_with_and_without_its_url(served, trusted, capsys):
    _, _, url = served
    for more in ((), ("--rekor-url", url)):
        status, document = call(capsys, "verify", "1", "--trusted-root", trusted, *more)
        assert (status, document["log"], document["index"]) == (0, url, 1)


def test_a_log_that_no_trusted_root_has_is_a_usage_error_and_is_not_asked(served, trusted, capsys):
    status, document = call(capsys, "get", "1", "--trusted-root", trusted, "--rekor-url", "https://other.example")
    assert (status, document["error"]["kind"]) == (2, "ROOT")
    assert served[1].asked == []


def test_a_key_without_an_address_is_a_usage_error(capsys):
    assert run(["log", "get", "1", "--log-key", LOG_KEY]) == 2
    assert run(["log", "get", "1", "--log-key", "junk", "--rekor-url", "http://127.0.0.1:9"]) == 2


def test_a_checkpoint_is_printed_and_followed(served, capsys):
    log, _, url = served
    assert run(["log", "checkpoint", *by_key(url)]) == 0
    said = capsys.readouterr()
    assert said.out == log.checkpoint()
    assert "first checkpoint" in said.err
    log.append_many([leaf_of(b"another")])
    status, document = call(capsys, "checkpoint", *by_key(url))
    assert (status, document["seen"], document["sizeBefore"], document["note"]) == (0, "grown", 2, log.checkpoint())
    status, document = call(capsys, "verify", "1", *by_key(url))
    assert (status, document["seen"]) == (0, "same")


def test_a_checkpoint_is_printed_whole_so_that_it_can_be_piped(served, capsys):
    log, front, url = served
    note = log.checkpoint() + encode_line("w\\é.example", b"abcd", bytes(2_428))  # as long as one with ML-DSA-44
    front.altered("/checkpoint", lambda _: note.encode())
    assert run(["log", "checkpoint", *by_key(url)]) == 0
    assert capsys.readouterr().out == note


def test_what_a_terminal_would_obey_in_a_checkpoint_is_escaped(served, capsys):
    log, front, url = served
    front.altered("/checkpoint", lambda raw: raw + encode_line("w\u202e\x9b2J.example", b"abcd", bytes(64)).encode())
    assert run(["log", "checkpoint", *by_key(url)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(log.checkpoint())
    assert "w\\u202e\\x9b2J.example" in out


def test_a_rollback_and_a_fork_are_refused(served, capsys, tmp_path):
    log, front, url = served
    old = log.checkpoint()
    log.append_many([leaf_of(b"another")])
    call(capsys, "checkpoint", *by_key(url))
    front.altered("/checkpoint", lambda _: old.encode())
    assert call(capsys, "checkpoint", *by_key(url))[0] == 1
    with tile_log(tmp_path / "forked", [b"X", b"Y", b"Z"]) as (_, _, forked, _):
        status, document = call(capsys, "verify", "1", *by_key(forked))
    assert (status, document["error"]["kind"]) == (1, "TLOG")
    assert len(list((tmp_path / "seen").glob("*.alarm-*"))) == 2


def test_an_altered_entry_is_refused(served, capsys):
    _, front, url = served
    front.altered("tile/entries", lambda raw: raw.replace(b"hashedrekord", b"hashedrekorD"))
    status, document = call(capsys, "get", "1", *by_key(url))
    assert (status, document["error"]["code"]) == (1, "SK-TLOG-001")


def test_an_entry_that_is_not_there_could_not_be_checked(served, capsys):
    assert call(capsys, "get", "2", *by_key(served[2]))[0] == 3


def test_entries_are_found_by_digest_and_by_key(served, capsys, tmp_path):
    _, _, url = served
    for digest, found in ((DIGEST.hex, ["1"]), (str(DIGEST), ["1"]), ("0" * 64, [])):
        assert call(capsys, "search", "--sha256", digest, *by_key(url)) == (
            0,
            {"schema": "sigkit.log.search/1", "log": url, "entries": found, "truncated": False},
        )
    from sigkit.errors import Place

    key = tmp_path / "signer.pub"
    key.write_bytes(parse_public_key(spki(SIGNER), Place("key")).encode_pem())
    assert call(capsys, "search", "--key", key, *by_key(url))[1]["entries"] == ["1"]
    assert run(["log", "search", "--identity", "nobody@example.com", *by_key(url)]) == 0
    said = capsys.readouterr()
    assert (said.out, "no such entry" in said.err) == ("", True)


def test_an_index_that_knows_more_is_said_to(served, capsys):
    _, front, url = served
    front.altered("index/retrieve", lambda raw: raw.replace(b"false", b"true"))
    assert call(capsys, "search", "--sha256", DIGEST.hex, *by_key(url))[1]["truncated"] is True
    assert run(["log", "search", "--sha256", DIGEST.hex, *by_key(url)]) == 0
    said = capsys.readouterr()
    assert (said.out, "knows more" in said.err) == ("1\n", True)


def test_one_thing_is_searched_at_a_time(capsys):
    assert run(["log", "search"]) == 2
    assert run(["log", "search", "--sha256", "0" * 64, "--identity", "x"]) == 2
    assert run(["log", "search", "--sha256", "0" * 63, "--rekor-url", "http://127.0.0.1:9", "--log-key", LOG_KEY]) == 2


def test_a_log_that_nothing_can_search_is_a_usage_error_that_says_so(served, capsys):
    _, front, url = served
    front.absent("index/retrieve")
    status, document = call(capsys, "search", "--identity", "x", *by_key(url))
    assert status == 2
    assert "search" in document["error"]["problem"]


def test_a_log_of_the_first_generation_is_read(capsys, tmp_path):
    core = RekorV1()
    uuid, entry = core.add({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {}})
    core.entries = {uuid: entry}
    with serving(core) as url:
        root = {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [{**core.log.trusted(), "baseUrl": url}]}
        path = tmp_path / "root.json"
        path.write_text(json.dumps(root))
        status, document = call(capsys, "verify", uuid, "--trusted-root", path)
        assert (status, document["promised"], document["origin"]) == (0, "2026-06-01T12:00:00Z", "127.0.0.1 - 4711")
        assert call(capsys, "checkpoint", "--trusted-root", path)[1]["seen"] == "same"


class Notes:
    """Answers for the newest checkpoint of a log, of the generation that the test sets: a note that the log's key signed."""

    def __init__(self, key):
        self.key = key
        self.second()

    def second(self, *leaves, name=ORIGIN):
        self.answers = {"/api/v2/checkpoint": self.signed(name, name, leaves).encode()}

    def first(self, *leaves, name=ORIGIN):
        head = self.signed(f"{name} - 1", name, leaves)
        self.answers = {"/api/v1/log": json.dumps({"signedTreeHead": head}).encode()}

    def signed(self, origin, name, leaves):
        text = f"{origin}\n{len(leaves)}\n{encode_base64(root_hash([leaf_hash(leaf) for leaf in leaves or (b'',)]))}\n"
        key_id = self.key.public.fingerprint.value
        if self.key.public.kind == ED25519:
            key_id = key_id_of(name, ED25519_TYPE, self.key.public.spki[-32:])
        return f"{text}\n{encode_line(name, key_id, self.key.sign(text.encode()))}"

    async def answer(self, request):
        found = self.answers.get(request.path)
        return whole_answer(404, b"", ()) if found is None else whole_answer(200, found, ())


@pytest.mark.attack("fork by another name")
@pytest.mark.parametrize("name", [ORIGIN, "log2.example"])
def test_a_log_that_goes_by_the_id_of_the_second_generation_is_never_read_as_one_of_the_first(capsys, tmp_path, name):
    core = Notes(KEY)
    with serving(core) as url:
        core.first(b"X", name=name)
        status, document = call(capsys, "checkpoint", *by_key(url))
        assert (status, document["error"]["code"], document["error"]["expected"]) == (1, CheckpointNotSigned.code, ORIGIN)
        assert not (tmp_path / "seen").exists()
        core.second(b"a", b"b", b"c")
        assert call(capsys, "checkpoint", *by_key(url))[1]["seen"] == "first"


@pytest.mark.attack("fork by another name")
@pytest.mark.parametrize("name", [ORIGIN, "log2.example"])
@pytest.mark.parametrize("seen", ["first", "second"])
def test_a_log_that_answers_as_one_of_the_other_generation_shows_a_fork_whatever_its_name(capsys, tmp_path, name, seen):
    core = Notes(generate("ecdsa-p256"))
    path = tmp_path / "root.json"
    with serving(core) as url:
        key, key_id = core.key.public.spki, core.key.public.fingerprint.value
        listed = {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": encode_base64(key),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "2020-01-01T00:00:00Z"},
            },
            "logId": {"keyId": encode_base64(key_id)},
        }
        path.write_text(json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [listed]}))
        ways = {"first": lambda: core.first(b"a", b"b", name=name), "second": lambda: core.second(b"a", b"b")}
        ways.pop(seen)()
        assert call(capsys, "checkpoint", "--trusted-root", path)[1]["seen"] == "first"
        [(_, other)] = ways.items()
        other()
        status, document = call(capsys, "checkpoint", "--trusted-root", path)
        assert (status, document["error"]["code"]) == (1, LogForked.code)
        assert len(list((tmp_path / "seen").glob("*.alarm-*"))) == 1


@pytest.mark.attack("fork by another name")
def test_another_spelling_of_its_name_makes_no_new_tree_of_a_log_of_the_first_generation(capsys, tmp_path):
    core = RekorV1()
    core.add({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {}})
    with serving(core) as url:
        path = tmp_path / "root.json"
        listed = [{**core.log.trusted(), "baseUrl": url}]
        path.write_text(json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": listed}))
        assert call(capsys, "checkpoint", "--trusted-root", path)[1]["seen"] == "first"
        core.log.host = "127.0.0.1."
        document = call(capsys, "checkpoint", "--trusted-root", path)[1]
        assert (document["origin"], document["seen"]) == ("127.0.0.1. - 4711", "same")
        core.log.leaves[0] = core.log.leaves[1]
        status, document = call(capsys, "checkpoint", "--trusted-root", path)
        assert (status, document["error"]["code"]) == (1, LogForked.code)


WITNESSES = [generate("ed25519") for _ in range(3)]
NAMES = [f"w{number}.example" for number in range(3)]
KEYS = [encode_note_key(name, COSIGNATURE_TYPE, key.public) for name, key in zip(NAMES, WITNESSES, strict=True)]


TWIN = encode_note_key("twin.example", COSIGNATURE_TYPE, WITNESSES[0].public)


def cosign(note, number, name=""):
    name = name or NAMES[number]
    text = note[: note.index("\n\n") + 1]
    key = WITNESSES[number]
    key_id = key_id_of(name, COSIGNATURE_TYPE, key.public.spki[-32:])
    signature = (1_700_000_000).to_bytes(8, "big") + key.sign(f"cosignature/v1\ntime 1700000000\n{text}".encode())
    return note + encode_line(name, key_id, signature)


def test_witnesses_that_are_asked_for_must_have_signed(served, capsys):
    log, front, url = served
    named = [option for key in KEYS for option in ("--witness", key)]
    assert call(capsys, "checkpoint", *by_key(url), *named)[0] == 1
    front.altered("/checkpoint", lambda raw: cosign(cosign(raw.decode(), 0), 2).encode())
    assert call(capsys, "checkpoint", *by_key(url), *named)[0] == 1
    status, document = call(capsys, "checkpoint", *by_key(url), *named, "--witnesses", "2")
    assert status == 0
    assert document["witnesses"] == [{"name": NAMES[number], "time": "2023-11-14T22:13:20Z"} for number in (0, 2)]
    assert run(["log", "verify", "1", *by_key(url), *named, "--witnesses", "4"]) == 2
    assert ORIGIN in log.checkpoint()


@pytest.mark.parametrize("command", [("checkpoint",), ("verify", "1")])
@pytest.mark.parametrize(
    "options", [("--witness", "junk"), ("--witness", LOG_KEY), ("--witness", KEYS[0], "--witnesses", "2"), ("--witnesses", "1")]
)
def test_witnesses_that_cannot_be_meant_are_a_usage_error_and_no_log_is_asked(served, command, options):
    _, front, url = served
    assert run(["log", *command, *by_key(url), *options]) == 2
    assert front.asked == []


@pytest.mark.parametrize("options", [("--witness", KEYS[0], "--witness", TWIN, "--witnesses", "2"), ("--witness", LOG_KEY)])
def test_one_witness_under_two_names_and_a_log_as_a_witness_are_refused(served, capsys, options):
    _, front, url = served
    front.altered("/checkpoint", lambda raw: cosign(cosign(raw.decode(), 0), 0, "twin.example").encode())
    status, document = call(capsys, "checkpoint", *by_key(url), *options)
    assert (status, document["error"]["code"]) == (2, "SK-POLICY-022" if "--witnesses" in options else MalformedKey.code)


def test_the_key_of_a_witness_is_none_of_a_log(served, capsys):
    status, document = call(capsys, "checkpoint", "--rekor-url", served[2], "--log-key", KEYS[0])
    assert (status, document["error"]["code"]) == (2, MalformedKey.code)


@pytest.mark.parametrize("name", ["abc", "-1", "1.5", "12 ", "g" * 64, "1" * 19, ""])
def test_what_no_log_calls_an_entry_by_is_a_usage_error_and_no_log_is_asked(served, capsys, name):
    _, front, url = served
    assert run(["log", "get", *by_key(url), "--", name]) == 2
    assert "by its index" in capsys.readouterr().err
    assert front.asked == []


def test_a_log_whose_operator_has_explained_a_rollback_is_followed_anew(served, capsys, tmp_path):
    log, front, url = served
    old = log.checkpoint()
    log.append_many([leaf_of(b"another")])
    assert run(["log", "checkpoint", *by_key(url)]) == 0
    before = next(path for path in (tmp_path / "seen").iterdir() if len(path.name) == 64).read_text()
    capsys.readouterr()
    front.altered("/checkpoint", lambda _: old.encode())
    status, document = call(capsys, "checkpoint", *by_key(url))
    assert (status, document["error"]["code"]) == (1, "SK-TLOG-044")
    assert str(tmp_path / "seen") in document["error"]["problem"]
    seen = document["error"]["remedy"].rpartition(" ")[2]
    assert Path(seen).read_text() == before
    assert run(["log", "forget", "other.example"]) == 2
    assert ORIGIN in capsys.readouterr().err
    status, document = call(capsys, "forget", seen)
    assert (status, document["origin"], document["size"]) == (0, ORIGIN, 3)
    assert Path(document["kept"][0]).read_text() == before
    assert call(capsys, "checkpoint", *by_key(url))[1]["seen"] == "first"


@pytest.mark.parametrize("content", [b"", b"127.0.0.1\n2\n", bytes(limits.NOTE_BYTES + 1)], ids=["empty", "cut", "large"])
def test_a_checkpoint_that_was_damaged_here_is_told_with_the_command_that_lets_the_log_be_followed_anew(served, capsys, tmp_path, content):
    _, _, url = served
    assert call(capsys, "checkpoint", *by_key(url))[0] == 0
    [file] = [path for path in (tmp_path / "seen").iterdir() if len(path.name) == 64]
    file.write_bytes(content)
    status, document = call(capsys, "checkpoint", *by_key(url))
    assert (status, document["error"]["code"], document["error"]["place"]["source"]) == (3, FileUnreadable.code, str(file))
    command = shlex.split(document["error"]["remedy"].rpartition(": ")[2])
    assert command[:3] == ["sigkit", "log", "forget"]
    assert Path(call(capsys, "forget", *command[3:])[1]["kept"][0]).read_bytes() == content
    assert call(capsys, "checkpoint", *by_key(url))[1]["seen"] == "first"


def test_one_log_is_forgotten_and_no_other_of_its_host(served, capsys, tmp_path):
    _, _, url = served
    assert call(capsys, "checkpoint", *by_key(url))[0] == 0
    first = RekorV1()
    first.add({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {}})
    with serving(first) as old:
        root = tmp_path / "root.json"
        listed = [{**first.log.trusted(), "baseUrl": old}]
        root.write_text(json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": listed}))
        assert call(capsys, "checkpoint", "--trusted-root", root)[0] == 0
        assert run(["log", "forget", ORIGIN]) == 0
        assert f"forgot  {ORIGIN}, a tree of 2 entries" in capsys.readouterr().out
        assert call(capsys, "checkpoint", "--trusted-root", root)[1]["seen"] == "same"


def test_of_several_logs_with_one_origin_the_one_to_forget_is_named_by_its_file(served, capsys, tmp_path):
    _, _, url = served
    files = tmp_path / "seen"
    assert call(capsys, "checkpoint", *by_key(url))[0] == 0
    [other] = [path for path in files.iterdir() if len(path.name) == 64]
    (files / ("0" * 64)).write_bytes(other.read_bytes())
    assert run(["log", "forget", ORIGIN]) == 2
    said = capsys.readouterr().err.replace("\n", "")
    assert "2 logs call themselves" in said
    (tmp_path / "here").symlink_to(files)
    assert call(capsys, "forget", os.path.relpath(tmp_path / "here" / other.name))[0] == 0
    assert [path.name for path in files.iterdir() if len(path.name) == 64] == ["0" * 64]


def test_a_file_is_forgotten_although_another_log_calls_itself_by_its_path(served, capsys, tmp_path):
    _, _, url = served
    files = tmp_path / "seen"
    assert call(capsys, "checkpoint", *by_key(url))[0] == 0
    [other] = [path for path in files.iterdir() if len(path.name) == 64]
    (files / ("0" * 64)).write_bytes(other.read_bytes().replace(ORIGIN.encode(), os.fsencode(other)))
    assert call(capsys, "forget", other)[1]["origin"] == ORIGIN
    assert [path.name for path in files.iterdir() if len(path.name) == 64] == ["0" * 64]


def test_of_two_logs_at_one_url_the_one_that_is_trusted_now_is_meant(capsys, tmp_path):
    core, before = RekorV1(), RekorV1()
    uuid, entry = core.add({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {}})
    core.entries = {uuid: entry}
    with serving(core) as url:
        listed = [{**log.trusted(), "baseUrl": url} for log in (core.log, before.log)]
        listed[0]["publicKey"]["validFor"] = {"start": "2020-01-01T00:00:00Z"}
        listed[1]["publicKey"]["validFor"] = {"start": "2021-01-01T00:00:00Z", "end": "2022-01-01T00:00:00Z"}
        path = tmp_path / "root.json"
        path.write_text(json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": listed}))
        assert call(capsys, "get", uuid, "--trusted-root", path, "--rekor-url", url)[0] == 0


def test_on_another_port_of_its_host_a_trusted_log_is_not_looked_for(served, trusted, capsys):
    _, _, url = served
    with serving(RekorV1()) as other:
        status, document = call(capsys, "get", "1", "--trusted-root", trusted, "--rekor-url", other)
    assert (status, document["error"]["problem"]) == (2, "the trusted root has no such log")
    assert call(capsys, "get", "1", "--trusted-root", trusted, "--rekor-url", url.replace("http", "HTTP"))[0] == 0


@pytest.mark.parametrize("year", ["2020", "2999"])
def test_a_log_that_is_not_trusted_yet_is_said_to_be_so(served, trusted, capsys, year):
    _, _, url = served
    trusted.write_text(trusted.read_text().replace("2020-", f"{year}-"))
    assert run(["log", "get", "1", "--trusted-root", str(trusted), "--rekor-url", url]) == 0
    assert ("not before 2999-01-01T00:00:00Z" in capsys.readouterr().err) == (year == "2999")


@pytest.mark.parametrize(("start", "end", "said"), [("2019", "2021", "2021-01-01T00:00:00Z"), ("2019", "2099", None)])
def test_a_log_that_was_retired_is_said_to_be(capsys, tmp_path, start, end, said):
    core = RekorV1()
    uuid, entry = core.add({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {}})
    core.entries = {uuid: entry}
    with serving(core) as url:
        listed = {**core.log.trusted(), "baseUrl": url}
        listed["publicKey"]["validFor"] = {"start": f"{start}-01-01T00:00:00Z", "end": f"{end}-01-01T00:00:00Z"}
        path = tmp_path / "root.json"
        path.write_text(json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [listed]}))
        options = ("--trusted-root", str(path), "--rekor-url", url)
        for command in ("get", "verify"):
            assert call(capsys, command, uuid, *options)[1]["retired"] == said
            assert run(["log", command, uuid, *options]) == 0
            assert (f"retired   {said}" in capsys.readouterr().out) == bool(said)
        assert run(["log", "checkpoint", *options]) == 0
        assert ("retired   " in capsys.readouterr().err) == bool(said)
        status, document = call(capsys, "get", uuid, "--trusted-root", path)
        assert status == (2 if said else 0)
        assert not said or "--rekor-url" in document["error"]["remedy"]


def test_a_uuid_may_be_written_in_upper_case(capsys, tmp_path):
    core = RekorV1()
    uuid, entry = core.add({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {}})
    core.entries = {uuid: entry}
    with serving(core) as url:
        path = tmp_path / "root.json"
        listed = [{**core.log.trusted(), "baseUrl": url}]
        path.write_text(json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": listed}))
        assert call(capsys, "get", uuid.upper(), "--trusted-root", path)[0] == 0
