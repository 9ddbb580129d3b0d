"""`sigkit log`: what transparency logs hold, proved, and watched for forks from one call to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from sigkit.cli.log_forget import forget
from sigkit.cli.log_opening import LogFlags, Opened, log_options, opened, retired
from sigkit.cli.log_signer import signers_of
from sigkit.cli.options import FILE, filled, grouped
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import counted, escape, escape_own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sigkit.errors import Place
    from sigkit.strict import Json
    from sigkit.tlog.checkpoint import Checkpoint
    from sigkit.tlog.client import Search
    from sigkit.tlog.cosignature import Cosignature, NoteKey
    from sigkit.tlog.entry import LogEntry
    from sigkit.tlog.monitor import Observed

BODY_CHARACTERS = 100_000
_WORDS = {
    "first": "the first checkpoint of this log on this machine",
    "same": "the one seen before",
    "grown": "continues the one seen before, of {before}",
}


class WitnessFlags(NamedTuple):
    """Who else must have signed a checkpoint."""

    witness: tuple[str, ...]
    witnesses: int | None


class _Wanted(NamedTuple):
    """Witnesses, and how many of them must have signed."""

    keys: Sequence[NoteKey]
    number: int


witness_options = grouped(
    "seen_by",
    WitnessFlags,
    click.option(
        "--witness", multiple=True, metavar="KEY", help="A witness whose signature counts, name+id+base64. Can be given several times."
    ),
    click.option(
        "--witnesses", type=click.IntRange(1), metavar="K", help="How many of them must have signed. Default: all that are given."
    ),
)


@click.group(name="log")
def command() -> None:
    """Read transparency logs, prove what they hold, and notice when one forks."""


command.add_command(forget)


@command.command(
    cls=Command,
    name="get",
    epilog=EXITS,
    examples="""
    sigkit log get 25579
    sigkit log get --rekor-url https://log.example --trusted-root acme 4711
    sigkit log get --output json 24296fb24b8ad77a… | jq .body
    """,
)
@click.argument("entry", metavar="INDEX|UUID")
@log_options
@click.pass_obj
def get(output: Output, entry: str, at: LogFlags) -> None:
    """Print an entry that the log proves to hold."""
    name = _parse_name(entry)
    with opened(output, at) as log:
        found = log.reader.fetch_entry(name)
        lines, document = _prove(found, log)
    body, text = _body(found.body)
    signers = signers_of(body, log.place)
    lines += [f"signer    {escape(signer)}, as the entry says" for signer in signers]
    output.answer([*lines, "", *text], {"schema": "sigkit.log.entry/1", **document, "signers": list(signers), "body": body})


@command.command(
    cls=Command,
    name="verify",
    epilog=EXITS,
    examples="""
    sigkit log verify 25579
    sigkit log verify --rekor-url https://log.example --trusted-root acme 4711
    """,
)
@click.argument("entry", metavar="INDEX|UUID")
@log_options
@witness_options
@click.pass_obj
def verify(output: Output, entry: str, at: LogFlags, seen_by: WitnessFlags) -> None:
    """Prove that the log holds an entry, in a tree that continues the last one seen on this machine.

    A fork or a rollback is refused, and the checkpoints that prove it are kept.
    """
    name = _parse_name(entry)
    wanted = _parse_witnesses(seen_by)
    with opened(output, at) as log:
        found = log.reader.fetch_entry(name)
        lines, document = _prove(found, log)
        note = found.proof.checkpoint if found.proof else ""
        signed = _check_witnesses(note, wanted, log.place)
        observed = _observe(note, log)
    output.answer(
        [*lines, _say(observed), *_say_witnesses(signed)],
        {"schema": "sigkit.log.verify/1", **document, **_tell(observed), "witnesses": _list(signed)},
    )


@command.command(
    cls=Command,
    name="checkpoint",
    epilog=EXITS,
    examples="""
    sigkit log checkpoint
    sigkit log checkpoint --rekor-url https://log.example --log-key log.example+530d903a+AekyeRrm…
    sigkit log checkpoint --trusted-root acme --witness w1.example+e7…+BL… --witness w2.example+5c…+BM… --witnesses 1
    """,
)
@log_options
@witness_options
@click.pass_obj
def checkpoint(output: Output, at: LogFlags, seen_by: WitnessFlags) -> None:
    """Print the log's newest checkpoint, if it continues the last one seen on this machine.

    A fork or a rollback is refused, and the checkpoints that prove it are kept.
    """
    from sigkit.limits import NOTE_BYTES
    from sigkit.tlog.known import verify_head

    wanted = _parse_witnesses(seen_by)
    with opened(output, at) as log:
        note = log.reader.fetch_checkpoint()
        head = verify_head(note, log.known, log.place)
        signed = _check_witnesses(note, wanted, log.place)
        observed = _observe(note, log)
    for line in (_say(observed), *_say_witnesses(signed), *_say_retired(log)):
        output.note(line)
    output.answer(
        # Whole, and a backslash stays one: who reads a note from a pipe checks its signatures.
        [escape_own(line, NOTE_BYTES) for line in note.removesuffix("\n").split("\n")],
        {"schema": "sigkit.log.checkpoint/1", **_describe(head, log), "note": note, **_tell(observed), "witnesses": _list(signed)},
    )


@command.command(
    cls=Command,
    name="search",
    epilog=EXITS,
    examples="""
    sigkit log search --sha256 b14da4d7…
    sigkit log search --identity jane@example.com
    sigkit log search --key release.pub --rekor-url https://log.example --trusted-root acme
    """,
)
@click.option("--sha256", "hexadecimal", metavar="HEX", help="Entries about bytes with this digest, as they were signed.")
@click.option("--identity", callback=filled, metavar="TEXT", help="Entries of this e-mail address or URI.")
@click.option("--key", "key_path", type=FILE, metavar="FILE", help="Entries of this public key.")
@log_options
@click.pass_obj
def search(output: Output, hexadecimal: str | None, identity: str | None, key_path: str | None, at: LogFlags) -> None:
    """Print which entries the log's index knows, one a line.

    An index proves nothing: it may leave entries out. `sigkit log get` proves one that it names. A log without an index is a usage error.
    """
    if sum(value is not None for value in (hexadecimal, identity, key_path)) != 1:
        raise click.UsageError("Search for one thing: --sha256, --identity or --key.", click.get_current_context())
    what = _parse_search(hexadecimal, identity, key_path)
    with opened(output, at) as log:
        found = log.reader.search(what)
    output.answer(
        [escape(name) for name in found.names],
        {"schema": "sigkit.log.search/1", "log": log.url, "entries": list(found.names), "truncated": found.truncated},
    )
    if found.truncated:
        output.note(f"the index knows more than these {len(found.names)}")
    if not found.names:
        output.note("the index knows no such entry")


def _parse_search(hexadecimal: str | None, identity: str | None, key_path: str | None) -> Search:
    from sigkit.digest import parse_digest
    from sigkit.errors import Place
    from sigkit.keys.load import load_public
    from sigkit.tlog.client import Search

    if hexadecimal is not None:
        return Search(digest=str(parse_digest(f"sha256:{hexadecimal.removeprefix('sha256:')}", Place.operator("--sha256"))))
    if identity is not None:
        return Search(identity=identity)
    return Search(spki=load_public(key_path or "").spki)


# --- what is proved


def _prove(entry: LogEntry, log: Opened) -> tuple[list[str], dict[str, Json]]:
    from sigkit.text import format_time
    from sigkit.tlog.known import prove_entry

    proved = prove_entry(entry, log.known, log.place)
    promised = format_time(proved.promised) if proved.promised else None
    lines = [
        f"log       {escape(log.url)}",
        f"entry     {entry.index}",
        f"included  in the tree of {counted(proved.checkpoint.size, 'entry', 'entries')}, root hash {proved.checkpoint.root.hex()}",
        *([f"time      {promised}, by the log's promise"] if promised else []),
        *_say_retired(log),
    ]
    return lines, {**_describe(proved.checkpoint, log), "index": entry.index, "promised": promised, "note": proved.note}


def _parse_name(entry: str) -> str:
    """Refuse what no log calls an entry by, before any is asked."""
    from sigkit.tlog.client import is_index, is_uuid

    name = entry.lower()
    if not (is_index(name) or is_uuid(name)):
        raise click.UsageError(f"An entry is called by its index, a number, or by its UUID: {entry[:100]!r}.", click.get_current_context())
    return name


def _describe(head: Checkpoint, log: Opened) -> dict[str, Json]:
    from sigkit.text import format_time

    since = retired(log)
    return {
        "log": log.url,
        "origin": head.origin,
        "size": head.size,
        "rootHash": head.root.hex(),
        "retired": format_time(since) if since else None,
    }


def _say_retired(log: Opened) -> list[str]:
    from sigkit.text import format_time

    since = retired(log)
    return [f"retired   {format_time(since)}, says the trusted root: what the log signed after that is no evidence"] if since else []


def _observe(note: str, log: Opened) -> Observed:
    from sigkit.errors import FileUnwritable, Place
    from sigkit.tlog.monitor import VARIABLE, Monitor, default_directory

    directory = default_directory()
    if directory is None:
        raise FileUnwritable("there is no directory to remember checkpoints in", place=Place(VARIABLE), remedy=f"set {VARIABLE}")
    return Monitor(directory).observe(note, log.known, log.reader, log.place)


def _say(observed: Observed) -> str:
    others = f"; of its other trees {observed.other_trees} were seen before" if observed.other_trees else ""
    return "seen      " + _WORDS[observed.seen.value].format(before=counted(observed.before, "entry", "entries")) + others


def _tell(observed: Observed) -> dict[str, Json]:
    return {"seen": observed.seen.value, "sizeBefore": observed.before, "otherTrees": observed.other_trees}


def _parse_witnesses(flags: WitnessFlags) -> _Wanted:
    """Refuse what cannot be meant before any log is asked.

    Raises:
        UsageError: more witnesses are asked for than are named.
        SigkitError: as `parse_witnesses`.
    """
    from sigkit.errors import Place
    from sigkit.tlog.cosignature import parse_witnesses

    keys = parse_witnesses((text, Place.operator("--witness")) for text in flags.witness)
    number = flags.witnesses or len(keys)
    if number > len(keys):
        raise click.UsageError(
            f"{counted(number, 'witness is', 'witnesses are')} asked for, and {len(keys)} named.", click.get_current_context()
        )
    return _Wanted(keys, number)


def _check_witnesses(note: str, wanted: _Wanted, place: Place) -> Sequence[Cosignature]:
    from sigkit.errors import WitnessesMissing
    from sigkit.tlog.cosignature import verify_cosignatures
    from sigkit.tlog.note import parse_note

    found = verify_cosignatures(parse_note(note, place), wanted.keys, place)
    if len(found) < wanted.number:
        got = ", ".join(item.witness for item in found) or "none"
        expected = f"{wanted.number} of {len(wanted.keys)}"
        raise WitnessesMissing("too few witnesses signed the checkpoint", place=place, expected=expected, got=got)
    return found


def _say_witnesses(signed: Sequence[Cosignature]) -> list[str]:
    from sigkit.text import format_time

    return [f"witness   {escape(item.witness)}" + (f", {format_time(item.time)}" if item.time else "") for item in signed]


def _list(signed: Sequence[Cosignature]) -> list[Json]:
    from sigkit.text import format_time

    return [{"name": item.witness, "time": format_time(item.time) if item.time else None} for item in signed]


def _body(raw: bytes) -> tuple[Json, list[str]]:
    """Return an entry's body for a program and for a person."""
    import json

    from sigkit.errors import SigkitError
    from sigkit.strict import encode_base64, parse_json

    try:
        value = parse_json(raw, most_bytes=len(raw)).value
    except SigkitError:  # a log of tiles may hold anything
        return {"base64": encode_base64(raw)}, [f"{len(raw)} bytes that are no JSON: --output json has them in base64"]
    return value, [escape(line, BODY_CHARACTERS) for line in json.dumps(value, indent=2, ensure_ascii=True).splitlines()]
