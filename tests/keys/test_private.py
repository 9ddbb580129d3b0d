"""Private keys: what they sign, and how their files are opened."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from sigkit.errors import (
    FileUnreadable,
    MalformedKey,
    MalformedPem,
    Place,
    RefusedKeyEncryption,
    SigkitError,
    UnsupportedKey,
    WrongPassword,
    WrongShape,
)
from sigkit.keys import cosign_pem
from sigkit.keys.load import load_private, load_public, load_public_of
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import GENERATED_KINDS, generate, parse_pkcs8, parse_private_key

HERE = Place("test.key")
PKCS8 = serialization.PrivateFormat.PKCS8
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
PLAIN = serialization.NoEncryption()


def never() -> str:
    raise AssertionError("the password of an unencrypted key was asked for")


def sealed_content(pem):
    return json.loads(base64.b64decode(b"".join(pem.split(b"\n")[1:-2])))


def resealed(content: dict) -> bytes:
    return encode_pem(cosign_pem.WRITTEN_LABEL, json.dumps(content).encode())


@pytest.fixture(scope="module")
def sealed() -> bytes:
    """Encrypt a key with the password x once, for it costs a derivation."""
    return cosign_pem.encode_private(generate("ed25519"), "x")


@pytest.mark.parametrize("kind", GENERATED_KINDS)
def test_a_generated_key_is_of_the_kind_asked_for(kind):
    assert generate(kind).public.kind == kind


def test_another_kind_is_a_usage_error():
    with pytest.raises(UnsupportedKey) as caught:
        generate("dsa")
    assert caught.value.status() == 2


def test_what_is_printed_of_a_key_holds_its_public_half_only():
    key = generate("ecdsa-p256")
    assert "EllipticCurvePrivateKey" not in repr(key)


@pytest.mark.parametrize("kind", GENERATED_KINDS)
def test_an_encrypted_file_opens_with_its_password(kind):
    key = generate(kind)
    opened = cosign_pem.decode_private(cosign_pem.encode_private(key, "pässword"), "pässword", HERE)
    assert opened.public == key.public
    key.public.verify(opened.sign(b"m"), b"m")


def test_an_empty_password_is_a_password():
    key = generate("ed25519")
    assert cosign_pem.decode_private(cosign_pem.encode_private(key, ""), "", HERE).public == key.public


def test_a_wrong_password_is_refused_as_SIG():
    pem = cosign_pem.encode_private(generate("ed25519"), "right")
    with pytest.raises(WrongPassword) as caught:
        cosign_pem.decode_private(pem, "wrong", HERE)
    assert caught.value.place == HERE


def test_the_file_has_cosigns_form():
    pem = cosign_pem.encode_private(generate("ecdsa-p256"), "x")
    lines = pem.decode().splitlines()
    assert lines[0] == "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----"
    assert max(len(line) for line in lines[1:-1]) == 64
    content = sealed_content(pem)
    assert list(content) == ["kdf", "cipher", "ciphertext"]
    assert content["kdf"]["params"] == {"N": 65536, "r": 8, "p": 1}
    assert len(base64.b64decode(content["kdf"]["salt"])) == 32
    assert len(base64.b64decode(content["ciphertext"])) == 16 + 138


def test_the_older_label_is_read():
    key = generate("ecdsa-p256")
    pem = cosign_pem.encode_private(key, "x").replace(b"SIGSTORE", b"COSIGN")
    assert cosign_pem.decode_private(pem, "x", HERE).public == key.public


@pytest.mark.parametrize("n", [32_768, 131_072])
def test_the_other_accepted_costs_derive(n, sealed):
    content = sealed_content(sealed)
    content["kdf"]["params"]["N"] = n
    with pytest.raises(WrongPassword):  # another key is derived, so the box does not open
        cosign_pem.decode_private(resealed(content), "x", HERE)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: c["kdf"]["params"].update(N=2**30), id="a terabyte of memory"),
        pytest.param(lambda c: c["kdf"]["params"].update(N=1024), id="too cheap"),
        pytest.param(lambda c: c["kdf"]["params"].update(r=4), id="r"),
        pytest.param(lambda c: c["kdf"]["params"].update(p=2**20), id="p"),
        pytest.param(lambda c: c["kdf"].update(name="argon2id"), id="kdf"),
        pytest.param(lambda c: c["cipher"].update(name="aes"), id="cipher"),
    ],
)
def test_other_parameters_are_refused_before_anything_is_derived(change, sealed):
    content = sealed_content(sealed)
    change(content)
    with pytest.raises(RefusedKeyEncryption):
        cosign_pem.decode_private(resealed(content), "x", HERE)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: c["cipher"].update(nonce="AAAA"), id="nonce of 3 bytes"),
        pytest.param(lambda c: c["kdf"].update(salt="AAAA"), id="salt of 3 bytes"),
        pytest.param(lambda c: c.pop("ciphertext"), id="no ciphertext"),
        pytest.param(lambda c: c.update(kdf=[]), id="wrong type"),
    ],
)
def test_a_malformed_file_is_refused_as_PARSE(change, sealed):
    content = sealed_content(sealed)
    change(content)
    with pytest.raises(WrongShape):
        cosign_pem.decode_private(resealed(content), "x", HERE)


def test_a_ciphertext_shorter_than_its_tag_does_not_open(sealed):
    content = sealed_content(sealed)
    content["ciphertext"] = "AAAA"
    with pytest.raises(WrongPassword):
        cosign_pem.decode_private(resealed(content), "x", HERE)


def test_only_pkcs8_is_read_where_cosign_demands_it():
    private = ec.generate_private_key(ec.SECP256R1())
    parse_pkcs8(private.private_bytes(serialization.Encoding.DER, PKCS8, PLAIN), HERE)
    for other in (private, rsa.generate_private_key(65537, 2048)):
        with pytest.raises(MalformedKey):
            parse_pkcs8(other.private_bytes(serialization.Encoding.DER, TRADITIONAL, PLAIN), HERE)
    for junk in (b"", b"0", b"\x30\x80", b"\x30\x03\x02\x01\x00"):
        with pytest.raises(MalformedKey):
            parse_pkcs8(junk, HERE)


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
@pytest.mark.parametrize("form", [PKCS8, TRADITIONAL])
@pytest.mark.parametrize("make", [lambda: ec.generate_private_key(ec.SECP384R1()), lambda: rsa.generate_private_key(65537, 2048)])
def test_unencrypted_files_of_openssl_are_read_and_no_password_is_asked_for(encoding, form, make, tmp_path):
    path = tmp_path / "plain.key"
    path.write_bytes(make().private_bytes(encoding, form, PLAIN))
    key = load_private(str(path), never)
    key.public.verify(key.sign(b"m"), b"m")
    assert load_public_of(str(path), never) == key.public


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, PKCS8, serialization.BestAvailableEncryption(b"x")
            ),
            id="encrypted PKCS #8",
        ),
        pytest.param(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, PLAIN),
            id="OpenSSH",
        ),
        pytest.param(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, TRADITIONAL, serialization.BestAvailableEncryption(b"x")
            ),
            id="old encryption",
        ),
    ],
)
def test_a_form_that_is_not_read_is_refused_by_its_name(raw, tmp_path):
    path = tmp_path / "x.key"
    path.write_bytes(raw)
    with pytest.raises(RefusedKeyEncryption) as caught:
        load_private(str(path), never)
    assert caught.value.status() == 2


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
        pytest.param(lambda: rsa.generate_private_key(65537, 1024), id="RSA-1024"),  # noqa: S505 - weak on purpose
        pytest.param(ed448.Ed448PrivateKey.generate, id="Ed448"),
    ],
)
def test_a_private_key_of_another_kind_is_refused_as_SIG(make):
    with pytest.raises(UnsupportedKey):
        parse_private_key(make().private_bytes(serialization.Encoding.DER, PKCS8, PLAIN), HERE)


def test_each_half_given_for_the_other_is_a_usage_error(tmp_path):
    key = generate("ecdsa-p256")
    public, private = tmp_path / "k.pub", tmp_path / "k.key"
    public.write_bytes(key.public.encode_pem())
    private.write_bytes(cosign_pem.encode_private(key, ""))
    with pytest.raises(MalformedPem) as caught:
        load_private(str(public), never)
    assert caught.value.status() == 2
    with pytest.raises(MalformedPem) as caught:
        load_public(str(private))
    assert caught.value.status() == 2
    assert caught.value.remedy == f"sigkit key public --key {private}"


def test_the_public_key_of_either_file_is_the_same(tmp_path):
    key = generate("ed25519")
    files = {"k.pub": key.public.encode_pem(), "k.der": key.public.spki, "k.key": cosign_pem.encode_private(key, "pw")}
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
        assert load_public_of(str(tmp_path / name), lambda: "pw") == key.public


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(FileUnreadable) as caught:
        load_private(str(tmp_path / "none.key"), never)
    assert caught.value.status() == 2
    with pytest.raises(SigkitError):
        load_public(str(tmp_path))
