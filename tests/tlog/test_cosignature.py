"""Keys of notes and cosignatures of witnesses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sigkit.errors import CheckpointNotSigned, MalformedKey, Place, UnsupportedKey
from sigkit.keys.private import generate
from sigkit.strict import encode_base64
from sigkit.tlog.cosignature import COSIGNATURE_TYPE, parse_note_key, verify_cosignatures
from sigkit.tlog.note import ED25519_TYPE, encode_line, key_id_of, parse_note
from tests.simulators.note_keys import encode_note_key

PLACE = Place("note")
# C2SP signed-note.md "Example".
FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = (
    "This is an example message.\n\n"
    "\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# C2SP tlog-cosignature.md: the form of a checkpoint with a cosignature; whose keys these are is not published.
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+q"
    "nA==\n"
)
WITNESS = generate("ed25519")
NAME = "witness.example/w"
TEXT = "log.example\n3\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_the_specifications_key_verifies_its_note():
    key = parse_note_key(FOO, PLACE)
    (line,) = parse_note(FOO_NOTE, PLACE).signatures
    assert (key.name, key.kind, key.log_id[:4]) == ("example.com/foo", ED25519_TYPE, line.key_id)
    key.key.verify(line.signature, parse_note(FOO_NOTE, PLACE).text.encode())
    assert encode_note_key(key.name, key.kind, key.key) == FOO


def test_the_specifications_checkpoint_carries_a_cosignature_of_its_time():
    note = parse_note(SOFA, PLACE)
    assert [line.name for line in note.signatures] == ["example.com/behind-the-sofa", "witness.example.com/w1"]
    assert int.from_bytes(note.signatures[1].signature[:8], "big") == 1_679_315_147


@pytest.mark.parametrize(
    "text",
    [
        "",
        FOO.replace("530d903a", "530d903b"),
        FOO.replace("530d903a", "530D903A"),
        FOO.replace("foo", "bar"),
        FOO.replace("example.com/foo", "example.com/ foo"),
        FOO.replace("example.com/foo", ""),
        FOO[:-4],
        FOO + "\n",
        f"x+{'0' * 8}+{encode_base64(bytes([6]) + bytes(1312))}",
        f"x+{'0' * 8}+{encode_base64(bytes([2]) + bytes(32))}",
    ],
)
def test_what_is_no_key_of_a_note_is_refused(text):
    with pytest.raises(MalformedKey):
        parse_note_key(text, PLACE)


def test_a_witness_key_of_low_order_is_refused():
    raw = bytes([1]) + bytes(31)
    with pytest.raises(UnsupportedKey):
        parse_note_key(f"x+{key_id_of('x', 4, raw)[:4].hex()}+{encode_base64(bytes([4]) + raw)}", PLACE)


def cosigned(seconds=1_700_000_000, text=TEXT, key=WITNESS, name=NAME, signed=None):
    said = f"cosignature/v1\ntime {seconds if signed is None else signed}\n{text}".encode()
    key_id = key_id_of(name, COSIGNATURE_TYPE, key.public.spki[-32:])
    return encode_line(name, key_id, seconds.to_bytes(8, "big") + key.sign(said))


def known():
    return parse_note_key(encode_note_key(NAME, COSIGNATURE_TYPE, WITNESS.public), PLACE)


def test_a_witness_is_proved_once_with_the_time_it_signed():
    note = parse_note(f"{TEXT}\n{cosigned()}{cosigned(1_600_000_000)}{cosigned(name='another')}", PLACE)
    (found,) = verify_cosignatures(note, [known()], PLACE)
    assert (found.witness, found.time) == (NAME, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC))
    assert verify_cosignatures(note, [], PLACE) == ()


def test_a_time_of_zero_claims_none():
    assert verify_cosignatures(parse_note(f"{TEXT}\n{cosigned(0)}", PLACE), [known()], PLACE)[0].time is None


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(cosigned(signed=1), id="another time"),
        pytest.param(cosigned(text=TEXT.replace("\n3\n", "\n4\n")), id="another tree"),
        pytest.param(cosigned(2**63), id="a time beyond the last"),
        pytest.param(encode_line(NAME, key_id_of(NAME, 4, WITNESS.public.spki[-32:]), b"\x00"), id="cut"),
        pytest.param(
            encode_line(NAME, key_id_of(NAME, 4, WITNESS.public.spki[-32:]), bytes(8) + WITNESS.sign(TEXT.encode())),
            id="a signature of the note alone",
        ),
    ],
)
def test_a_known_witness_whose_line_is_not_valid_refuses_the_note(line):
    with pytest.raises(CheckpointNotSigned):
        verify_cosignatures(parse_note(f"{TEXT}\n{line}", PLACE), [known()], PLACE)
