"""The log's API: what clients of Rekor's second generation send and get."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from sigkit import durable
from sigkit.digest import Digest
from sigkit.errors import Place
from sigkit.keys.private import generate
from sigkit.keys.public import parse_public_key
from sigkit.limits import BodyLimits
from sigkit.services.app import App, Mount
from sigkit.services.exchange import Request, Slice
from sigkit.services.log.ed25519ph import verifies_digest
from sigkit.services.log.hashedrekord import terms_of
from sigkit.services.log.rekor import RekorV2
from sigkit.services.log.store import TileLog
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.tlog.entry_v2 import CertificateVerifier, KeyVerifier, encode_hashedrekord
from sigkit.tlog.merkle import leaf_hash, verify_inclusion
from sigkit.tlog.tile import encode_entries, parse_entries
from sigkit.verify.extensions import USERNAME_OID, encode_utf8_string
from tests.simulators.asgi import Caller
from tests.simulators.odd_certificates import ODD, odd_certificate, plain_certificate
from tests.simulators.sigstore_logs import Clock, spki

ORIGIN = "log.example"
KEY = generate("ed25519")
PLACE = Place("answer")
SIGNER = ec.generate_private_key(ec.SECP256R1())


class Now:
    def now(self):
        return Clock().now


def b64(raw):
    return base64.b64encode(raw).decode()


def requested(message=b"hello", key=SIGNER):
    """Return a request as clients write it, and the leaf that it must become."""
    digest = Digest.of(message)
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    details = "PKIX_ECDSA_P256_SHA_256"
    body = {
        "hashedRekordRequestV002": {
            "digest": b64(digest.value),
            "signature": {
                "content": b64(signature),
                "verifier": {"publicKey": {"rawBytes": b64(spki(key))}, "keyDetails": details},
            },
        }
    }
    return body, encode_hashedrekord(digest, signature, KeyVerifier(spki(key)), details)


@pytest.fixture
def root(tmp_path):
    TileLog.create(tmp_path / "log", ORIGIN, KEY, Now())
    return tmp_path / "log"


class Client:
    def __init__(self, service):
        self.service = service

    async def send(self, method, path, body=b""):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def chunks():
            yield raw

        return await self.service.answer(Request(method, path, {}, {"content-length": str(len(raw))}, chunks()))

    async def add(self, body):
        answer = await self.send("POST", "/api/v2/log/entries", body)
        return answer.status, json.loads(answer.body)

    async def get(self, path):
        return await self.send("GET", path)


@contextlib.contextmanager
def served(root):
    with TileLog.open(root, KEY, terms=terms_of) as log:
        yield Client(RekorV2(log))


def run(root, act):
    with served(root) as client:
        return asyncio.run(act(client))


def test_health_is_that_of_the_log_once_its_disk_failed(root, monkeypatch):
    monkeypatch.setattr(durable, "_passages", {})
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "log.journal.sync=eio")

    async def act(client):
        before = await client.get("/healthz")
        added = await client.add(requested()[0])
        return before, added, await client.get("/healthz")

    before, (status, answer), after = run(root, act)
    assert (before.status, json.loads(before.body)) == (200, {"status": "SERVING"})
    assert (status, answer["code"]) == (503, 14)
    assert (after.status, json.loads(after.body)) == (503, {"status": "NOT_SERVING"})


def test_a_file_that_cannot_be_opened_now_is_not_said_to_be_gone(root):
    with TileLog.open(root, KEY, filed_at=256) as log:
        log.append_many([f"entry {number}".encode() for number in range(600)])
        client, before = Client(RekorV2(log)), resource.getrlimit(resource.RLIMIT_NOFILE)
        paths = ("/api/v2/tile/entries/000", "/api/v2/tile/0/000")

        async def act():
            os.close(lowest := os.dup(0))  # that is free
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
            try:
                return [await client.get(path) for path in paths]
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)

        answers = asyncio.run(act())
        assert [answer.status for answer in answers] == [503, 503]
        for path in paths:
            answer = asyncio.run(client.get(path))
            assert answer.status == 200
            if isinstance(answer.body, Slice):
                answer.body.file.close()


def test_an_entry_is_answered_with_its_proof_and_the_checkpoint(root):
    body, leaf = requested()
    status, answer = run(root, lambda client: client.add(body))
    assert status == 201
    assert list(answer) == [
        "logIndex",
        "logId",
        "kindVersion",
        "integratedTime",
        "inclusionPromise",
        "inclusionProof",
        "canonicalizedBody",
    ]
    assert base64.b64decode(answer["canonicalizedBody"]) == leaf
    proof = answer["inclusionProof"]
    assert (answer["logIndex"], proof["logIndex"], proof["treeSize"], len(proof["hashes"])) == ("1", "1", "2", 1)
    found = base64.b64decode(proof["rootHash"])
    verify_inclusion(leaf_hash(leaf), 1, 2, [base64.b64decode(item) for item in proof["hashes"]], found, PLACE)
    log_id = base64.b64decode(answer["logId"]["keyId"])
    signed = verify_checkpoint(proof["checkpoint"]["envelope"], KEY.public, log_id, ORIGIN, PLACE)
    assert (signed.checkpoint.size, signed.checkpoint.root) == (2, found)


def test_names_are_read_in_both_spellings_of_protobuf(root):
    body, leaf = requested()
    record = body["hashedRekordRequestV002"]
    who = record["signature"]["verifier"]
    record["signature"]["verifier"] = {"public_key": {"raw_bytes": who["publicKey"]["rawBytes"]}, "key_details": who["keyDetails"]}
    status, answer = run(root, lambda client: client.add({"hashed_rekord_request_v002": record}))
    assert (status, base64.b64decode(answer["canonicalizedBody"])) == (201, leaf)


def test_a_retry_is_answered_with_the_first_entry(root):
    body, _ = requested()

    async def act(client):
        return [await client.add(item) for item in (body, requested(b"other")[0], body)]

    answers = run(root, act)
    assert [status for status, _ in answers] == [201, 201, 201]
    assert [answer["logIndex"] for _, answer in answers] == ["1", "2", "1"]
    assert answers[2][1]["inclusionProof"]["treeSize"] == "3"


def test_entries_that_come_together_share_a_checkpoint_and_each_has_its_own_index(root):
    bodies = [requested(b"%d" % number)[0] for number in range(40)]

    async def act(client):
        return await asyncio.gather(*map(client.add, bodies))

    answers = [answer for _, answer in run(root, act)]
    assert sorted(int(answer["logIndex"]) for answer in answers) == list(range(1, 41))
    assert len({answer["inclusionProof"]["checkpoint"]["envelope"] for answer in answers}) < 10


def test_entries_are_found_by_digest_key_and_identity(root):
    async def act(client):
        for number in range(3):
            await client.add(requested(b"%d" % number)[0])
        found = []
        for search in (
            {"hash": str(Digest.of(b"1"))},
            {"publicKey": {"format": "x509", "content": b64(spki(SIGNER))}},
            {"email": "nobody@example.com"},
            {"publicKey": {"format": "x509", "content": b64(spki(SIGNER))}, "from": 2},
        ):
            answer = await client.send("POST", "/api/v2/index/retrieve", search)
            found.append(json.loads(answer.body))
        return found

    assert run(root, act) == [
        {"logIndexes": ["2"], "truncated": False},
        {"logIndexes": ["1", "2", "3"], "truncated": False},
        {"logIndexes": [], "truncated": False},
        {"logIndexes": ["2", "3"], "truncated": False},
    ]


def test_the_static_files_are_served_for_every_published_size(root):
    async def act(client):
        leaves = []
        for number in range(3):
            body, leaf = requested(b"%d" % number)
            leaves.append(leaf)
            await client.add(body)
        entries = await client.get("/api/v2/tile/entries/000.p/4")
        hashed = await client.get("/api/v2/tile/0/000.p/2")
        absent = [
            (await client.get(f"/api/v2/{path}")).status for path in ("tile/0/000", "tile/0/000.p/5", "tile/0/../checkpoint", "tile/")
        ]
        checkpoint = await client.get("/api/v2/checkpoint")
        return leaves, entries, hashed, absent, checkpoint

    leaves, entries, hashed, absent, checkpoint = run(root, act)
    kept = parse_entries(b"".join(entries.body.parts), 4, PLACE)
    assert list(kept[1:]) == leaves
    assert hashed.body == leaf_hash(kept[0]) + leaf_hash(leaves[0])
    assert dict(hashed.headers)["Content-Type"] == "application/octet-stream"
    assert absent == [404, 404, 404, 404]
    assert checkpoint.body.decode().startswith(f"{ORIGIN}\n4\n")
    assert dict(checkpoint.headers)["Content-Type"] == "text/plain; charset=utf-8"


@pytest.fixture
def large(root):
    """Serve a log of 700 entries of up to 5 KiB, of which 512 are filed."""
    leaves = [b"%d" % number * (1_000 + number) for number in range(699)]
    with TileLog.open(root, KEY, filed_at=256) as log:
        for at in range(0, len(leaves), 100):
            log.append_many(leaves[at : at + 100])
        found = [log.find(index) for index in range(700)]
        service = RekorV2(log)
        yield service, Caller(App([Mount("", service, BodyLimits(0))])), found


@pytest.mark.attack("large answers that nobody reads")
@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("000", 0, 256), ("001", 256, 512), ("000.p/1", 0, 1), ("001.p/255", 256, 511), ("002.p/188", 512, 700), ("002.p/7", 512, 519)],
)
def test_a_bundle_is_served_from_its_file_or_from_the_entries_in_memory_and_never_built(large, name, first, last):
    service, call, found = large
    path = f"/api/v2/tile/entries/{name}"
    answered, head = call("GET", path), call("HEAD", path)
    assert answered.body == encode_entries(found[first:last])
    assert head.headers["content-length"] == answered.headers["content-length"] == str(len(answered.body))
    answer = asyncio.run(Client(service).get(path))
    assert not isinstance(answer.body, bytes)
    if isinstance(answer.body, Slice):
        answer.body.file.close()


@pytest.mark.parametrize("name", ["000", "000.p/1"])
@pytest.mark.parametrize("damage", ["cut", "long", "absent"])
def test_a_damaged_bundle_is_not_served(large, root, name, damage):
    _, call, _ = large
    path = root / "tile" / "entries" / "000"
    size = path.stat().st_size
    changes = {"cut": lambda: os.truncate(path, size - 1), "long": lambda: os.truncate(path, size + 1), "absent": path.unlink}
    changes[damage]()
    answered = call("GET", f"/api/v2/tile/entries/{name}")
    assert answered.status == 500
    assert str(root).encode() not in answered.body


def changed(**changes):
    body, _ = requested()
    record = body["hashedRekordRequestV002"]
    for path, value in changes.items():
        *above, name = path.split("__")
        at = record
        for step in above:
            at = at[step]
        at[name] = value
    return body


PEM = parse_public_key(spki(SIGNER), PLACE).encode_pem()
OTHER = ec.generate_private_key(ec.SECP256R1())
REFUSED = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"{", id="no JSON"),
    pytest.param({}, id="no entry"),
    pytest.param({"hashedRekordRequestV002": {}}, id="an empty entry"),
    pytest.param({"dsseRequestV002": {"envelope": {}}}, id="an envelope"),
    pytest.param({**requested()[0], "x": 1}, id="an unknown member"),
    pytest.param(changed(x=1), id="an unknown member inside"),
    pytest.param(changed(digest=b64(bytes(31))), id="a short digest"),
    pytest.param(changed(digest=b64(bytes(32))), id="another digest"),
    pytest.param(changed(digest="!"), id="a digest that is not base64"),
    pytest.param(changed(signature__content=""), id="no signature"),
    pytest.param(changed(signature__verifier__keyDetails="PKIX_ECDSA_P384_SHA_384"), id="details of another key"),
    pytest.param(changed(signature__verifier__keyDetails="PKIX_ED25519"), id="pure Ed25519"),
    pytest.param(changed(signature__verifier__publicKey={"rawBytes": b64(spki(OTHER))}), id="another key"),
    pytest.param(changed(signature__verifier__publicKey={"rawBytes": b64(b"key")}), id="no key"),
    pytest.param(changed(signature__verifier__publicKey={"rawBytes": b64(PEM)}), id="a key in PEM"),
    pytest.param(changed(signature__verifier__publicKey={"rawBytes": b64(spki(SIGNER)), "raw_bytes": b64(spki(SIGNER))}), id="bytes twice"),
    pytest.param(changed(signature__verifier__x509Certificate={"rawBytes": b64(b"0")}), id="key and certificate"),
    pytest.param(
        changed(signature__verifier={"x509Certificate": {"rawBytes": b64(b"0")}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}),
        id="no certificate",
    ),
    pytest.param(changed(signature__verifier={"publicKey": {"rawBytes": b64(spki(SIGNER))}}), id="no details"),
]


@pytest.mark.parametrize("body", REFUSED)
def test_what_is_wrong_is_answered_400_in_the_gateways_form_and_not_logged(root, body):
    async def act(client):
        return await client.add(body), await client.get("/api/v2/checkpoint")

    (status, answer), checkpoint = run(root, act)
    assert status == 400
    assert (answer["code"], answer["details"], bool(answer["message"])) == (3, [], True)
    assert checkpoint.body.decode().startswith(f"{ORIGIN}\n1\n")


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(root):
    status, answer = run(root, lambda client: client.add(b" " * (256 * 1024 + 1)))
    assert (status, answer["code"]) == (413, 8)


def certified(octets, names=("jane@example.com",)):
    """Return a request with a certificate of these names that has an extension of so many bytes."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = Clock().now
    certificate = (
        x509.CertificateBuilder(name, name, SIGNER.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(octets)), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(name) for name in names]), critical=False)
        .sign(SIGNER, hashes.SHA256())
    )
    body, _ = requested(b"%d" % octets)
    raw = certificate.public_bytes(serialization.Encoding.DER)
    who = {"x509Certificate": {"rawBytes": b64(raw)}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    body["hashedRekordRequestV002"]["signature"]["verifier"] = who
    return body


def test_an_entry_too_large_for_a_bundle_is_refused_and_no_other_of_its_batch(root):
    async def act(client):
        return await asyncio.gather(*map(client.add, [requested()[0], certified(60_000), requested(b"other")[0], certified(30_000)]))

    assert [status for status, _ in run(root, act)] == [201, 400, 201, 201]


def test_an_entry_by_certificate_is_found_by_its_identity_also_when_the_index_is_made_again(root):
    async def search(client):
        answer = await client.send("POST", "/api/v2/index/retrieve", {"email": "jane@example.com"})
        return json.loads(answer.body)["logIndexes"]

    async def act(client):
        assert (await client.add(certified(10)))[0] == 201
        return await search(client)

    assert run(root, act) == ["1"]
    assert run(root, search) == ["1"]


@pytest.mark.attack("thousands of names")
def test_a_certificate_of_thousands_of_names_costs_the_index_a_few(root):
    names = [f"n{number}@x.example" for number in range(1_500)]

    async def act(client):
        assert (await client.add(certified(10, names)))[0] == 201
        found = []
        for name in (names[0], names[15], names[16], names[-1]):
            answer = await client.send("POST", "/api/v2/index/retrieve", {"email": name})
            found.append(json.loads(answer.body)["logIndexes"])
        return found

    assert run(root, act) == [["1"], ["1"], [], []]


def by_certificate(raw):
    who = {"x509Certificate": {"rawBytes": b64(raw)}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    return changed(signature__verifier=who)


@pytest.mark.parametrize("oddity", ODD)
def test_a_certificate_that_cannot_be_read_to_its_end_is_refused_and_not_logged(root, oddity):
    async def act(client):
        status, answer = await client.add(by_certificate(odd_certificate(SIGNER, oddity)))
        return status, answer["code"], (await client.get("/api/v2/checkpoint")).body.decode().split("\n")[1]

    assert run(root, act) == (400, 3, "1")


def user_name(value):
    return x509.OtherName(x509.ObjectIdentifier(USERNAME_OID), value)


def test_an_entry_is_found_by_the_user_name_of_its_certificate(root):
    other = x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x01x")
    raw = plain_certificate(SIGNER, x509.RFC822Name("a@b.example"), other, user_name(encode_utf8_string(b"mia!acme.example")))

    async def search(client):
        found = []
        for name in ("mia!acme.example", "a@b.example", "x"):
            answer = await client.send("POST", "/api/v2/index/retrieve", {"email": name})
            found.append(json.loads(answer.body)["logIndexes"])
        return found

    async def act(client):
        assert (await client.add(by_certificate(raw)))[0] == 201
        return await search(client)

    assert run(root, act) == [["1"], ["1"], []]
    assert run(root, search) == [["1"], ["1"], []]


def test_a_user_name_that_is_no_text_is_refused(root):
    assert run(root, lambda client: client.add(by_certificate(plain_certificate(SIGNER, user_name(b"\x04\x01x")))))[0] == 400


def test_a_log_is_opened_also_when_a_certificate_in_it_cannot_be_read_any_more(root):
    digest = Digest.of(b"hello")
    odd = CertificateVerifier(odd_certificate(SIGNER, ODD[0]))
    with TileLog.open(root, KEY) as log:
        log.append_many([encode_hashedrekord(digest, b"signature", odd, "PKIX_ECDSA_P256_SHA_256")])

    async def search(client):
        return json.loads((await client.send("POST", "/api/v2/index/retrieve", {"hash": str(digest)})).body)["logIndexes"]

    assert run(root, search) == ["1"]


def test_a_method_or_path_that_is_not_there_is_refused(root):
    async def act(client):
        return [(await client.send(method, path)).status for method, path in (("GET", "/api/v2/log/entries"), ("GET", "/api/v2/x"))]

    assert run(root, act) == [405, 404]


def test_an_ed25519_key_signs_the_pre_hashed_form(root):
    key = generate("ed25519")
    digest = Digest.of(b"hello", "sha512")
    record = {
        "digest": b64(digest.value),
        "signature": {
            "content": b64(key.sign(b"hello")),
            "verifier": {"publicKey": {"rawBytes": b64(key.public.spki)}, "keyDetails": "PKIX_ED25519_PH"},
        },
    }
    # The pure form signs the message and not its digest, so this is another's signature.
    assert run(root, lambda client: client.add({"hashedRekordRequestV002": record}))[0] == 400
    record["signature"]["content"] = b64(prehashed(key, b"hello"))
    assert run(root, lambda client: client.add({"hashedRekordRequestV002": record}))[0] == 201


def prehashed(key, message):
    from nacl import bindings

    state = bindings.crypto_sign_ed25519ph_state()
    bindings.crypto_sign_ed25519ph_update(state, message)
    seed = key.pkcs8()[-32:]
    return bindings.crypto_sign_ed25519ph_final_create(state, bindings.crypto_sign_seed_keypair(seed)[1])


# RFC 8032 section 7.3.
POINT = bytes.fromhex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf")
SIGNATURE = bytes.fromhex(
    "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
)


def test_the_specifications_pre_hashed_signature_is_valid_and_no_other_is():
    digest = Digest.of(b"abc", "sha512").value
    assert verifies_digest(POINT, SIGNATURE, digest)
    for at in range(0, 512, 7):
        flipped = bytearray(SIGNATURE)
        flipped[at // 8] ^= 1 << at % 8
        assert not verifies_digest(POINT, bytes(flipped), digest)
    assert not verifies_digest(POINT, SIGNATURE, Digest.of(b"abd", "sha512").value)
    assert not verifies_digest(POINT, SIGNATURE[:-1], digest)
    # The same scalar and the group's order: valid mathematically, and a second signature for the same message.
    order = 2**252 + 27742317777372353535851937790883648493
    second = SIGNATURE[:32] + (int.from_bytes(SIGNATURE[32:], "little") + order).to_bytes(32, "little")
    assert not verifies_digest(POINT, second, digest)


def test_the_pre_hashed_check_agrees_with_libsodiums():
    for number in range(50):
        key = generate("ed25519")
        message = b"%d" % number
        signature = prehashed(key, message)
        assert verifies_digest(key.public.spki[-32:], signature, Digest.of(message, "sha512").value)
        assert not verifies_digest(
            ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw(), signature, Digest.of(message, "sha512").value
        )


def test_entries_are_filed_while_others_are_appended(root):
    bodies = [requested(b"%d" % number)[0] for number in range(700)]

    async def act(client):
        for at in range(0, len(bodies), 20):
            answers = await asyncio.gather(*map(client.add, bodies[at : at + 20]))
            assert {status for status, _ in answers} == {201}
        return await client.add(bodies[5])

    with TileLog.open(root, KEY, terms=terms_of, filed_at=256) as log:
        status, answer = asyncio.run(act(Client(RekorV2(log))))
        before = log.head()
    assert (status, answer["logIndex"]) == (201, "6")
    assert (root / "tile/entries/000").is_file()
    with TileLog.open(root, KEY, terms=terms_of) as log:
        assert log.head() == before
        assert before.size == 701
        log.check()


def test_an_entry_is_durable_also_while_others_keep_every_thread_of_the_loop_busy(root):
    released = threading.Event()

    async def act(client):
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, released.wait)
        try:
            async with asyncio.timeout(20):
                status, _ = await client.add(requested()[0])
        finally:
            released.set()
            await busy
        return status

    assert run(root, act) == 201


def test_the_threads_of_a_log_end_with_it(root):
    run(root, lambda client: client.add(requested()[0]))
    assert not any(thread.name.startswith("sigkit-log") for thread in threading.enumerate())
