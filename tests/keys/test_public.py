"""Public keys: what is accepted, what one key's name is, and what a signature proves."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from nacl import bindings

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import BadSignature, Kind, MalformedKey, MalformedPem, Place, SigkitError, TooLarge, UnsupportedKey
from sigkit.keys.private import GENERATED_KINDS, generate
from sigkit.keys.public import parse_public_key

HERE = Place("test.pub")


def der_of(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem_of(key):
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def rsa_2048() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        pytest.param(lambda: ec.generate_private_key(ec.SECP256R1()), "ecdsa-p256", id="P-256"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP384R1()), "ecdsa-p384", id="P-384"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), "ecdsa-p521", id="P-521"),
        pytest.param(ed25519.Ed25519PrivateKey.generate, "ed25519", id="Ed25519"),
    ],
)
def test_a_key_is_the_same_from_pem_and_der_and_named_by_its_spki(make, kind):
    public = make().public_key()
    from_pem, from_der = parse_public_key(pem_of(public), HERE), parse_public_key(der_of(public), HERE)
    assert from_pem == from_der
    assert from_pem.kind == kind
    assert from_pem.fingerprint.value == hashlib.sha256(der_of(public)).digest()
    assert from_pem.encode_pem() == pem_of(public)


def test_an_rsa_key_is_read_from_spki_and_from_pkcs1(rsa_2048):
    pkcs1 = rsa_2048.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    assert parse_public_key(pkcs1, HERE) == parse_public_key(pem_of(rsa_2048.public_key()), HERE)


def test_a_compressed_point_is_the_same_key():
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    assert parse_public_key(compressed, HERE).fingerprint == parse_public_key(der_of(public), HERE).fingerprint


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: ec.generate_private_key(ec.SECP256K1()).public_key(), id="secp256k1"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP224R1()).public_key(), id="P-224"),
        pytest.param(lambda: ec.generate_private_key(ec.BrainpoolP256R1()).public_key(), id="brainpool"),
        pytest.param(lambda: rsa.generate_private_key(65537, 1024).public_key(), id="RSA-1024"),  # noqa: S505 - weak on purpose
        pytest.param(lambda: ed448.Ed448PrivateKey.generate().public_key(), id="Ed448"),
        pytest.param(lambda: rsa.RSAPublicNumbers(65537, 2**8200 - 1).public_key(), id="RSA-8200"),
        pytest.param(
            lambda: rsa.RSAPublicNumbers(2**31 + 1, 2**3072 - 1).public_key(),
            id="a slow exponent",
            marks=pytest.mark.attack("slow RSA exponent"),
        ),
    ],
)
def test_a_key_of_another_kind_curve_or_size_is_refused_as_SIG(make):
    with pytest.raises(UnsupportedKey) as caught:
        parse_public_key(pem_of(make()), HERE)
    assert caught.value.place == HERE


def test_a_point_off_the_curve_is_refused_as_SIG():
    raw = bytearray(der_of(ec.generate_private_key(ec.SECP256R1()).public_key()))
    raw[-1] ^= 1
    with pytest.raises(MalformedKey):
        parse_public_key(bytes(raw), HERE)


@pytest.mark.parametrize("curve", [ec.SECP384R1, ec.SECP521R1])
def test_a_point_off_a_larger_curve_is_refused_as_SIG(curve):
    raw = bytearray(der_of(ec.generate_private_key(curve()).public_key()))
    raw[-1] ^= 1
    with pytest.raises(MalformedKey):
        parse_public_key(bytes(raw), HERE)


def test_a_file_with_two_keys_is_refused_as_PARSE():
    both = b"".join(pem_of(ec.generate_private_key(ec.SECP256R1()).public_key()) for _ in range(2))
    with pytest.raises(MalformedPem) as caught:
        parse_public_key(both, HERE)
    assert caught.value.got == "2 blocks"


PEM = pem_of(ec.derive_private_key(7, ec.SECP256R1()).public_key())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"# the release key\n\n" + PEM, id="text before"),
        pytest.param(PEM.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(PEM.rstrip(b"\n"), id="no line end"),
    ],
)
def test_what_cosign_reads_around_a_block_is_read(raw):
    assert parse_public_key(raw, HERE) == parse_public_key(PEM, HERE)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="text"),
        pytest.param(PEM[:-30], id="no end"),
        pytest.param(PEM.replace(b"PUBLIC KEY", b"CERTIFICATE"), id="certificate"),
        pytest.param(PEM.replace(b"PUBLIC KEY", b"PRIVATE KEY"), id="private label"),
        pytest.param(PEM.replace(b"MFkw", b"MF*w"), id="not base64"),
        pytest.param(b"\xff\xfe" + PEM, id="not UTF-8"),
        pytest.param(PEM + b"-----END PUBLIC KEY-----\n", id="two ends"),
        pytest.param(PEM.replace(b"-----BEGIN PUBLIC KEY-----\n", b"-----BEGIN PUBLIC KEY-----x\n"), id="junk on the line"),
    ],
)
def test_anything_else_is_refused_with_the_place(raw):
    with pytest.raises(SigkitError) as caught:
        parse_public_key(raw, HERE)
    assert caught.value.kind in {Kind.PARSE, Kind.SIG}
    assert caught.value.place.source == HERE.source


def test_der_with_trailing_bytes_is_refused():
    with pytest.raises(MalformedKey):
        parse_public_key(parse_public_key(PEM, HERE).spki + b"\0", HERE)


def test_a_file_beyond_the_limit_is_refused_as_LIMIT():
    with pytest.raises(TooLarge):
        parse_public_key(b" " * limits.KEY_FILE_BYTES + PEM, HERE)


@pytest.mark.parametrize("kind", GENERATED_KINDS)
def test_a_signature_proves_the_message_and_no_other(kind):
    key = generate(kind)
    signature = key.sign(b"message")
    key.public.verify(signature, b"message")
    with pytest.raises(BadSignature):
        key.public.verify(signature, b"massage")
    with pytest.raises(BadSignature):
        generate(kind).public.verify(signature, b"message")
    with pytest.raises(BadSignature):
        key.public.verify(b"", b"message")


def test_the_prehashed_form_of_ed25519_is_read_and_the_pure_one_written():
    seed = bytes(range(32))
    public, private = bindings.crypto_sign_seed_keypair(seed)
    state = bindings.crypto_sign_ed25519ph_state()
    bindings.crypto_sign_ed25519ph_update(state, b"message")
    signature = bindings.crypto_sign_ed25519ph_final_create(state, private)
    key = parse_public_key(der_of(ed25519.Ed25519PublicKey.from_public_bytes(public)), HERE)
    key.verify(signature, b"message")
    for wrong in (b"massage", hashlib.sha512(b"message").digest()):
        with pytest.raises(BadSignature):
            key.verify(signature, wrong)
    with pytest.raises(BadSignature):
        key.verify(signature[:-1], b"message")
    own = generate("ed25519")
    ed25519.Ed25519PublicKey.from_public_bytes(own.public.spki[-32:]).verify(own.sign(b"message"), b"message")


@pytest.mark.parametrize("curve", [ec.SECP384R1, ec.SECP521R1])
def test_older_cosigns_sha256_on_a_larger_curve_is_read_and_the_curves_own_hash_is_written(curve):
    private = ec.generate_private_key(curve())
    public = parse_public_key(der_of(private.public_key()), HERE)
    public.verify(private.sign(b"message", ec.ECDSA(hashes.SHA256())), b"message")
    with pytest.raises(BadSignature):
        public.verify(private.sign(b"message", ec.ECDSA(hashes.SHA3_256())), b"message")
    own = generate(public.kind)
    written = serialization.load_der_public_key(own.public.spki)
    assert isinstance(written, ec.EllipticCurvePublicKey)
    written.verify(own.sign(b"m"), b"m", ec.ECDSA({384: hashes.SHA384(), 521: hashes.SHA512()}[curve.key_size]))


def test_p256_takes_sha256_only():
    private = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(BadSignature):
        parse_public_key(der_of(private.public_key()), HERE).verify(private.sign(b"m", ec.ECDSA(hashes.SHA384())), b"m")


def test_rsa_is_pkcs1_with_sha256_and_not_pss(rsa_2048):
    public = parse_public_key(der_of(rsa_2048.public_key()), HERE)
    public.verify(rsa_2048.sign(b"m", padding.PKCS1v15(), hashes.SHA256()), b"m")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    with pytest.raises(BadSignature):
        public.verify(rsa_2048.sign(b"m", pss, hashes.SHA256()), b"m")


@pytest.mark.parametrize(
    ("kind", "module"), [pytest.param("ecdsa-p256", "ec", id="P-256"), pytest.param("ed25519", "ed25519", id="Ed25519")]
)
def test_the_usual_keys_load_neither_serialization_nor_x509(kind, module, tmp_path):
    key = generate(kind)
    (tmp_path / "key.pub").write_bytes(key.public.encode_pem())
    (tmp_path / "sig").write_bytes(key.sign(b"message"))
    script = f"""
import sys
from sigkit.keys.load import load_public
load_public({str(tmp_path / "key.pub")!r}).verify(open({str(tmp_path / "sig")!r}, "rb").read(), b"message")
print(*sorted(name for name in sys.modules))
"""
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert f"cryptography.hazmat.primitives.asymmetric.{module}" in loaded
    assert not {"cryptography.x509", "cryptography.hazmat.primitives.serialization", "nacl", "sigkit.keys.private"} & set(loaded)


VECTORS = [
    pytest.param("ecdsa_secp256r1_sha256_test.json", id="P-256"),
    pytest.param("ecdsa_secp384r1_sha384_test.json", id="P-384"),
    pytest.param("ecdsa_secp521r1_sha512_test.json", id="P-521"),
    pytest.param("ed25519_test.json", id="Ed25519"),
    pytest.param("rsa_signature_2048_sha256_test.json", id="RSA-2048"),
    pytest.param("rsa_signature_3072_sha256_test.json", id="RSA-3072"),
    pytest.param("rsa_signature_4096_sha256_test.json", id="RSA-4096"),
]


@pytest.mark.parametrize("name", VECTORS)
def test_every_wycheproof_vector_gets_its_verdict(name, vectors):
    wrong = []
    for group in json.loads((vectors / "wycheproof" / name).read_text())["testGroups"]:
        der = group.get("publicKeyDer") or group.get("publicKeyAsn") or group["keyDer"]
        public = parse_public_key(bytes.fromhex(der), HERE)
        for case in group["tests"]:
            try:
                public.verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
                verdict = "valid"
            except BadSignature:
                verdict = "invalid"
            if case["result"] not in {verdict, "acceptable"}:
                wrong.append((case["tcId"], case["comment"], verdict))
    assert wrong == []


def digest_of(message: bytes, algorithm: str) -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, message).digest())


@pytest.mark.parametrize("name", [param for param in VECTORS if param.id != "Ed25519"])
def test_every_wycheproof_vector_gets_its_verdict_by_the_digest_alone(name, vectors):
    wrong = []
    for group in json.loads((vectors / "wycheproof" / name).read_text())["testGroups"]:
        public = parse_public_key(bytes.fromhex(group.get("publicKeyDer") or group.get("publicKeyAsn") or group["keyDer"]), HERE)
        for case in group["tests"]:
            digest = digest_of(bytes.fromhex(case["msg"]), group["sha"].replace("-", "").lower())
            try:
                public.verify_digest(bytes.fromhex(case["sig"]), digest)
                verdict = "valid"
            except BadSignature:
                verdict = "invalid"
            if case["result"] not in {verdict, "acceptable"}:
                wrong.append((case["tcId"], case["comment"], verdict))
    assert wrong == []


@pytest.mark.parametrize(
    ("curve", "accepted"),
    [
        pytest.param(ec.SECP256R1, ("sha256",), id="P-256"),
        pytest.param(ec.SECP384R1, ("sha384", "sha256"), id="P-384"),
        pytest.param(ec.SECP521R1, ("sha512", "sha256"), id="P-521"),
    ],
)
def test_a_digest_is_taken_if_a_key_of_the_kind_signs_it(curve, accepted):
    private = ec.generate_private_key(curve())
    public = parse_public_key(der_of(private.public_key()), HERE)
    assert public.digest_algorithms == accepted
    for algorithm in ("sha256", "sha384", "sha512"):
        signature = private.sign(b"message", ec.ECDSA(getattr(hashes, algorithm.upper())()))
        if algorithm in accepted:
            public.verify_digest(signature, digest_of(b"message", algorithm))
            with pytest.raises(BadSignature):
                public.verify_digest(signature, digest_of(b"massage", algorithm))
        else:
            with pytest.raises(BadSignature) as caught:
                public.verify_digest(signature, digest_of(b"message", algorithm))
            assert caught.value.expected == " or ".join(accepted)


def test_a_digest_is_no_message_and_a_message_no_digest():
    private = ec.generate_private_key(ec.SECP256R1())
    public = parse_public_key(der_of(private.public_key()), HERE)
    digest = digest_of(b"message", "sha256")
    signed = private.sign(b"message", ec.ECDSA(hashes.SHA256()))
    signed_digest = private.sign(digest.value, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(BadSignature):
        public.verify(signed, digest.value)
    with pytest.raises(BadSignature):
        public.verify_digest(signed_digest, digest)


def test_an_rsa_key_takes_a_digest_by_sha256(rsa_2048):
    public = parse_public_key(der_of(rsa_2048.public_key()), HERE)
    public.verify_digest(rsa_2048.sign(b"m", padding.PKCS1v15(), hashes.SHA256()), digest_of(b"m", "sha256"))
    with pytest.raises(BadSignature):
        public.verify_digest(rsa_2048.sign(b"m", padding.PKCS1v15(), hashes.SHA512()), digest_of(b"m", "sha512"))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_ed25519_says_that_it_needs_the_bytes(algorithm):
    key = generate("ed25519")
    digest = digest_of(b"message", algorithm)
    for signature in (key.sign(b"message"), key.sign(digest.value)):
        with pytest.raises(BadSignature) as caught:
            key.public.verify_digest(signature, digest)
        assert caught.value.expected.startswith("the bytes themselves")


def test_of_wycheproofs_vectors_for_pss_only_those_that_are_no_pss_are_valid(vectors):
    # Nothing here signs with PSS, and a second padding would give one key two schemes: so it is not read.
    verdicts = {"valid": 0, "invalid": 0}
    for group in json.loads((vectors / "wycheproof/rsa_pss_2048_sha256_mgf1_32_test.json").read_text())["testGroups"]:
        public = parse_public_key(bytes.fromhex(group["publicKeyDer"]), HERE)
        for case in group["tests"]:
            try:
                public.verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
                verdict = "valid"
            except BadSignature:
                verdict = "invalid"
            assert (verdict == "valid") <= ("WrongPrimitive" in case["flags"]), case
            verdicts[verdict] += 1
    assert verdicts == {"valid": 1, "invalid": 107}


def test_every_CCTV_vector_of_ed25519_gets_its_verdict(vectors):
    """A key of low order is refused; a signature counts if R is canonical and the equation holds without the cofactor (RFC 8032)."""
    wrong = []
    for case in json.loads((vectors / "cctv/ed25519/ed25519vectors.json").read_text()):
        flags = set(case["flags"] or ())
        expected = "refused" if "low_order_A" in flags else "invalid" if flags & {"low_order_residue", "non_canonical_R"} else "valid"
        try:
            key = parse_public_key(bytes.fromhex(f"302a300506032b6570032100{case['key']}"), HERE)
            key.verify(bytes.fromhex(case["sig"]), case["msg"].encode())
            verdict = "valid"
        except UnsupportedKey:
            verdict = "refused"
        except BadSignature:
            verdict = "invalid"
        if verdict != expected:
            wrong.append((case["number"], verdict, expected))
    assert wrong == []
