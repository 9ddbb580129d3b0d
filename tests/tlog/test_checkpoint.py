"""Signed notes and the checkpoints in them: what is read, whose word they are, and everything that is refused."""

from __future__ import annotations

import base64
import contextlib
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import CheckpointNotSigned, MalformedCheckpoint, Place, SigkitError
from sigkit.keys.public import of_library
from sigkit.strict import INT64_MAX
from sigkit.tlog.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from sigkit.tlog.note import key_id_of, parse_note

PLACE = Place("checkpoint")
HOST = "log.example"
ROOT = hashlib.sha256(b"root").digest()
TEXT = f"{HOST}\n42\n{base64.b64encode(ROOT).decode()}\n"
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = of_library(KEY.public_key())
LOG_ID = key_id_of(HOST, 1, KEY.public_key().public_bytes_raw())
OLD_KEY = ec.derive_private_key(7, ec.SECP256R1())
OLD_PUBLIC = of_library(OLD_KEY.public_key())
OLD_TEXT = TEXT.replace(HOST, f"{HOST} - 2605736670972794746", 1)


def line(name: str, key_id: bytes, signature: bytes) -> str:
    return f"\u2014 {name} {base64.b64encode(key_id[:4] + signature).decode()}\n"


def note(text: str = TEXT, *extra: str) -> str:
    return f"{text}\n{line(HOST, LOG_ID, KEY.sign(text.encode()))}{''.join(extra)}"


def old_note(text: str = OLD_TEXT, key_id: bytes = OLD_PUBLIC.fingerprint.value) -> str:
    return f"{text}\n{line(HOST, key_id, OLD_KEY.sign(text.encode(), ec.ECDSA(hashes.SHA256())))}"


def test_the_published_key_id_is_computed():
    """C2SP signed-note.md: example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k."""
    key = base64.b64decode("AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    assert key_id_of("example.com/foo", key[0], key[1:])[:4].hex() == "530d903a"


def test_a_checkpoint_of_a_log_of_the_second_generation_is_proved():
    signed = verify_checkpoint(note(), PUBLIC, LOG_ID, HOST, PLACE)
    assert signed.checkpoint == Checkpoint(HOST, 42, ROOT)
    assert signed.others == ()


def test_a_checkpoint_of_a_log_of_the_first_generation_is_proved():
    signed = verify_checkpoint(old_note(), OLD_PUBLIC, OLD_PUBLIC.fingerprint.value, None, PLACE)
    assert (signed.checkpoint.size, signed.checkpoint.root) == (42, ROOT)


@pytest.mark.attack("fork by another name")
@pytest.mark.parametrize("number", ["07", "00", "+7", "7 ", "\u0667", "1/../../x - 9", "1 - 9", "9" * 20, ""])
def test_a_trees_number_has_one_spelling(number):
    text = OLD_TEXT.replace("2605736670972794746", number)
    with pytest.raises(CheckpointNotSigned):
        verify_checkpoint(old_note(text), OLD_PUBLIC, OLD_PUBLIC.fingerprint.value, None, PLACE)


@pytest.mark.parametrize("number", ["0", "7", "1193050959916656506"])
def test_a_log_of_the_first_generation_may_have_any_number_for_a_tree(number):
    text = OLD_TEXT.replace("2605736670972794746", number)
    signed = verify_checkpoint(old_note(text), OLD_PUBLIC, OLD_PUBLIC.fingerprint.value, None, PLACE)
    assert signed.checkpoint.origin == f"{HOST} - {number}"


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        pytest.param(LOG_ID, LOG_ID, id="both are computed"),
        pytest.param(b"stated by the root", b"stat", id="the line has what the root states"),
        pytest.param(b"stated by the root", LOG_ID, id="the line has what is computed"),
    ],
)
def test_a_line_is_the_logs_by_the_id_that_is_stated_or_computed(stated, written):
    raw = f"{TEXT}\n{line(HOST, written, KEY.sign(TEXT.encode()))}"
    assert verify_checkpoint(raw, PUBLIC, stated, HOST, PLACE).others == ()


def test_a_checkpoint_of_another_log_is_refused_even_if_the_same_key_signed_it():
    text = TEXT.replace(HOST, "other.example")
    raw = f"{text}\n{line('other.example', LOG_ID, KEY.sign(text.encode()))}"
    assert verify_checkpoint(raw, PUBLIC, LOG_ID, "other.example", PLACE).checkpoint.size == 42
    with pytest.raises(CheckpointNotSigned):
        verify_checkpoint(raw, PUBLIC, LOG_ID, HOST, PLACE)


def test_a_text_with_a_blank_line_in_it_is_a_note_and_no_checkpoint():
    text = f"{HOST}\n\nmore\n"
    assert parse_note(note(text), PLACE).text == text
    with pytest.raises(MalformedCheckpoint):
        verify_checkpoint(note(text), PUBLIC, LOG_ID, HOST, PLACE)


def test_lines_of_others_are_named_and_their_order_means_nothing():
    witness = line("witness.example", b"abcd", bytes(72))
    own = line(HOST, LOG_ID, KEY.sign(TEXT.encode()))
    for lines in (own + witness, witness + own):
        signed = verify_checkpoint(f"{TEXT}\n{lines}", PUBLIC, LOG_ID, HOST, PLACE)
        assert [other.name for other in signed.others] == ["witness.example"]


def test_lines_after_the_root_hash_are_signed_and_mean_nothing():
    raw = note(f"{TEXT}Timestamp: 1689177396000000000\n")
    assert verify_checkpoint(raw, PUBLIC, LOG_ID, HOST, PLACE).checkpoint == Checkpoint(HOST, 42, ROOT)
    with pytest.raises(CheckpointNotSigned):
        verify_checkpoint(raw.replace("1689177396", "1689177397"), PUBLIC, LOG_ID, HOST, PLACE)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(note().replace(HOST, "other.example"), id="another origin and name"),
        pytest.param(note().replace(f"\u2014 {HOST}", "\u2014 other.example"), id="another name on the line"),
        pytest.param(f"{TEXT}\n{line(HOST, b'abcd', KEY.sign(TEXT.encode()))}", id="another key id"),
        pytest.param(f"{TEXT}\n{line(HOST, LOG_ID, KEY.sign(b'other'))}", id="a signature of something else"),
        pytest.param(note(TEXT, line(HOST, LOG_ID, bytes(64))), id="a second line of the key that is not valid"),
        pytest.param(note(TEXT.replace("42", "43")).replace("43", "42", 1), id="another size than was signed"),
    ],
)
def test_a_checkpoint_that_the_log_did_not_sign_is_refused(raw):
    with pytest.raises(CheckpointNotSigned):
        verify_checkpoint(raw, PUBLIC, LOG_ID, HOST, PLACE)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.replace("42", "042"), id="a leading zero"),
        pytest.param(TEXT.replace("42", "-1"), id="a sign"),
        pytest.param(TEXT.replace("42", "4_2"), id="an underscore"),
        pytest.param(TEXT.replace("42", "\u0664\u0662"), id="digits of another script"),
        pytest.param(TEXT.replace("42", str(INT64_MAX + 1)), id="a size beyond 63 bits"),
        pytest.param(TEXT.replace("42", str(2**64 - 1)), id="a size of 2**64 - 1"),
        pytest.param(TEXT.replace("42", "+42"), id="a plus sign"),
        pytest.param(TEXT.replace("42", " 42"), id="a space"),
        pytest.param(TEXT.replace("42", ""), id="an empty size"),
        pytest.param(TEXT.replace("42", "9" * 5000), id="a number of 5000 digits"),
        pytest.param(TEXT.replace("42\n", ""), id="no size"),
        pytest.param(TEXT.replace(f"{HOST}\n", ""), id="no origin"),
        pytest.param(f"{HOST}\n42\n", id="no root hash"),
        pytest.param(f"{HOST}\n42\n{base64.b64encode(bytes(31)).decode()}\n", id="a root hash of 31 bytes"),
        pytest.param(f"{TEXT}\nmore\n", id="an empty line"),
        pytest.param(TEXT.replace("=", ""), id="base64 without padding"),
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused(text):
    with pytest.raises(MalformedCheckpoint):
        parse_checkpoint(text, PLACE)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(TEXT, id="no signatures"),
        pytest.param(f"{TEXT}\n", id="no line after the blank one"),
        pytest.param(note()[:-1], id="no newline at the end"),
        pytest.param(note(TEXT, "junk\n"), id="a line that is no signature"),
        pytest.param(note(TEXT, "- x YWJjZGU=\n"), id="a hyphen instead of the dash"),
        pytest.param(note(TEXT, "\u2014 YWJjZGU=\n"), id="no name"),
        pytest.param(note(TEXT, "\u2014  YWJjZGU=\n"), id="an empty name"),
        pytest.param(note(TEXT, "\u2014 a+b YWJjZGU=\n"), id="a plus in the name"),
        pytest.param(note(TEXT, "\u2014 a\u00a0b YWJjZGU=\n"), id="a no-break space in the name"),
        pytest.param(note(TEXT, "\u2014 x YWJj\n"), id="too short"),
        pytest.param(note(TEXT, "\u2014 x YWJjZA==\n"), id="an id and no signature"),
        pytest.param(f"\n\n{line(HOST, LOG_ID, KEY.sign(TEXT.encode()))}", id="no text"),
        pytest.param(note(TEXT, "\u2014 x !\n"), id="not base64"),
        pytest.param(note().replace("\n", "\r\n"), id="other line ends"),
        pytest.param(note().replace(HOST, f"{HOST}\x1b[2J", 1), id="a control character"),
        pytest.param(note(TEXT, *(line(f"w{n}.example", b"abcd", b"x") for n in range(100))), id="a hundred signatures"),
    ],
)
def test_what_is_no_note_is_refused(raw):
    with pytest.raises(MalformedCheckpoint):
        parse_note(raw, PLACE)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{TEXT}\n", id="two blank lines"),
        pytest.param(f"\n{TEXT}", id="a blank line first"),
        pytest.param(TEXT.replace("\n42", "\n\n42"), id="a blank line between"),
        pytest.param(TEXT.replace("\n", "\v"), id="vertical tabs"),
        pytest.param(TEXT.replace("\n", "\x1e"), id="record separators"),
        pytest.param(TEXT.replace("\n", "\x85"), id="next lines"),
        pytest.param(TEXT.replace("\n", "\u2028"), id="line separators"),
    ],
)
def test_nothing_but_a_single_newline_parts_the_lines_though_the_log_signed_it(text):
    with pytest.raises(MalformedCheckpoint):
        verify_checkpoint(note(text), PUBLIC, LOG_ID, HOST, PLACE)


@given(st.integers(0, len(note().encode()) * 8 - 1))
def test_a_flipped_bit_anywhere_is_refused(bit):
    raw = bytearray(note(TEXT).encode())
    raw[bit // 8] ^= 1 << (bit % 8)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(SigkitError):
        verify_checkpoint(text, PUBLIC, LOG_ID, HOST, PLACE)


@given(st.text(max_size=300))
def test_nothing_but_a_refusal_leaves_the_parsers(text):
    for parse in (parse_note, parse_checkpoint):
        with contextlib.suppress(MalformedCheckpoint):
            parse(text, PLACE)
