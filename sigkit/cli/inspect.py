"""`sigkit inspect`: what evidence says of itself, in words, without judging it."""

from __future__ import annotations

import os
from shlex import quote
from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import find_in_layout, open_source, parse_image
from sigkit.cli.inputs import STDIN, place_of, read_input
from sigkit.cli.options import FILE, SourceFlags, layout_option, registry_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sigkit.cli.claims import Claims, Section
    from sigkit.cli.options import ConnectionFlags
    from sigkit.errors import SigkitError
    from sigkit.evidence.form import Evidence
    from sigkit.strict import Json

BANNER = "Nothing here was verified: this is what the evidence says of itself. `sigkit verify` says what is proved."
_FILE_ENDINGS = (".json", ".sigstore", ".bundle", ".jsonl")
_WIDTH = 40  # of the longest label


@click.command(
    cls=Command,
    name="inspect",
    epilog=EXITS,
    examples="""
    sigkit inspect app.tar.gz.sigstore.json
    sigkit inspect registry.example/acme/app:1.0
    sigkit inspect --layout ./image registry.example/acme/app:1.0
    sigkit inspect --save-bundles ./evidence registry.example/acme/app:1.0
    sigkit inspect --output json - < bundle.json
    """,
)
@click.argument("what", metavar="BUNDLE|IMAGE", type=FILE)
@layout_option
@click.option(
    "--save-bundles", "directory", type=FILE, metavar="DIR", help="Write each bundle about IMAGE into DIR, for `sigkit verify --bundle`."
)
@registry_options
@click.pass_obj
def command(output: Output, what: str, layout: str | None, directory: str | None, connection: ConnectionFlags) -> None:
    """Show what a bundle, or all evidence about an image, says: who, when, which log, about what.

    A file of that name is read as a bundle, `-` is standard input; anything else is an image.

    It goes as far as the evidence can be read, and says where it stops. Nothing is verified.
    """
    if layout is None and _names_file(what):
        if directory is not None:
            raise click.UsageError("--save-bundles is for an IMAGE; a BUNDLE is a file already.")
        document, lines = _inspect_file(what)
    else:
        document, lines = _inspect_image(what, connection, SourceFlags(layout=layout), directory)
    output.answer([BANNER, "", *lines], {"schema": "sigkit.inspect/1", "verified": False, "note": BANNER, **document})


def _names_file(what: str) -> bool:
    # A bundle that is not there must not be looked for as an image on Docker Hub.
    looks = what.endswith(_FILE_ENDINGS) or what.startswith(("/", "./", "../"))
    return what == STDIN or os.path.exists(what) or looks


def _inspect_file(path: str) -> tuple[dict[str, Json], list[str]]:
    from sigkit.errors import SigkitError
    from sigkit.evidence.form import Found, evidence_of_bundle
    from sigkit.evidence.local import evidence_of_file
    from sigkit.limits import DEFAULT

    name = place_of(path).source
    raw = read_input(path, DEFAULT.bundle_bytes)
    try:
        evidence = evidence_of_file(raw, name, DEFAULT)
    except SigkitError as err:
        if not raw.lstrip().startswith(b"{"):  # there is nothing in it to show
            _refuse_token(raw, path)
            raise err.within(place_of(path)) from err
        # It is told below, with whatever else can be read.
        evidence = evidence_of_bundle(raw, Found(name, None, "file"))
    shown, lines = _show(evidence, escape(name))
    return {"file": name, "evidence": [shown]}, lines


def _refuse_token(raw: bytes, path: str) -> None:
    """Raise if it is an identity token, without a word of it: until it expires it is a secret."""
    from sigkit.errors import MalformedToken
    from sigkit.signing.token import looks_like_token

    if raw.isascii() and looks_like_token(raw.decode("ascii")):
        raise MalformedToken(
            "this is an identity token, which `inspect` does not read",
            place=place_of(path),
            expected="a bundle, or the name of an image",
            remedy=f"it is for signing: sigkit sign --identity-token {'FILE' if path == STDIN else quote(path)} IMAGE",
        )


def _inspect_image(
    image: str, connection: ConnectionFlags, source: SourceFlags, directory: str | None
) -> tuple[dict[str, Json], list[str]]:
    from sigkit.evidence.collect import collect
    from sigkit.limits import DEFAULT
    from sigkit.oci.resolve import resolve

    reference = parse_image(image)
    with open_source(connection, source, reference) as registry:
        resolved = resolve(registry, find_in_layout(registry, reference))
        collected = collect(registry, resolved.repository, resolved.digest, DEFAULT)
    saved = _save(collected.evidence, directory) if directory is not None else []
    shown: list[Json] = []
    lines = [f"{escape(image)}  {resolved.digest}"]
    for number, evidence in enumerate(collected.evidence, 1):
        document, own = _show(evidence, f"{number} of {len(collected.evidence)}: {escape(str(evidence.place))} (via {evidence.found.via})")
        shown.append(document)
        lines += ["", *own]
    if not collected.evidence:
        lines.append("nothing that sigkit reads is attached")
    lines += [f"note: {escape(note)}" for note in collected.notes]
    lines += [f"unread: {escape(str(item.error))}" for item in collected.unread]
    lines += [f"written: {escape(path)}" for path in saved]
    return {
        "reference": image,
        "digest": str(resolved.digest),
        "evidence": shown,
        "notes": list(collected.notes),
        "unread": [str(item.error) for item in collected.unread],
        "written": list(saved),
    }, lines


def _save(found: Sequence[Evidence], directory: str) -> list[str]:
    """Write bundles as they were found, each named by the manifest that holds it, and return where. The older forms are no one file.

    What has such a name is replaced: a link there, which anybody could have foreseen, leads nobody elsewhere.

    Raises:
        FileUnwritable: (UNAVAIL) the directory cannot be made or written to, or is behind another user's link; the place is the operator's.
    """
    from sigkit import durable
    from sigkit.cli.outputs import resolve
    from sigkit.errors import FileUnwritable, Place
    from sigkit.evidence.form import BUNDLE_PART, Form

    try:
        os.makedirs(resolve(directory), exist_ok=True)
        real = resolve(directory)  # again: until it was there, others could lay a link in its place
        written: dict[str, bytes] = {}
        for evidence in found:
            if evidence.form is Form.BUNDLE and evidence.found.digest is not None:
                name = str(evidence.found.digest).replace(":", "-")
                written[os.path.join(directory, f"{name}.sigstore.json")] = evidence.parts[BUNDLE_PART]
        for path, raw in written.items():
            durable.write(os.path.join(real, os.path.basename(path)), raw, point="cli.output")
    except OSError as err:
        raise FileUnwritable(f"the directory cannot be made: {err.strerror}", place=Place.operator(directory)) from err
    except FileUnwritable as err:
        raise err.within(Place.operator(directory)) from err.__cause__
    return list(written)


def _show(evidence: Evidence, title: str) -> tuple[dict[str, Json], list[str]]:
    from sigkit.cli.claims import claims_of
    from sigkit.limits import DEFAULT

    claims = claims_of(evidence, DEFAULT)
    return _document(evidence, claims), [title, *_lines(evidence, claims)]


def _document(evidence: Evidence, claims: Claims) -> dict[str, Json]:
    found = evidence.found
    return {
        "form": evidence.form.value,
        "found": {
            "source": found.repository,
            "manifest": str(found.digest) if found.digest else None,
            "via": found.via,
            "inside": found.inside,
        },
        "malformed": _refusal(claims.refused) if claims.refused else None,
        "summary": dict(claims.summary()),
        "sections": [
            {
                "title": section.title,
                "claims": [{"label": label, "value": value} for label, value in section.rows],
                "stops": [_refusal(stop) for stop in section.stops],
            }
            for section in claims.sections
        ],
    }


def _refusal(err: SigkitError) -> Json:
    return {"code": err.code, "problem": err.problem, "inside": err.place.inside, "expected": err.expected, "got": err.got}


def _lines(evidence: Evidence, claims: Claims) -> Iterator[str]:
    yield f"  form       {evidence.form.value}"
    if claims.refused:
        yield f"  malformed  {_reason(claims.refused)}"
    for word, told in claims.summary():
        yield f"  {word:<9}  {escape(told)}"
    for section in claims.sections:
        yield f"  {section.title}"
        yield from _section_lines(section)


def _section_lines(section: Section) -> Iterator[str]:
    width = min(_WIDTH, max((len(label) for label, _ in section.rows), default=0))
    for label, value in section.rows:
        values = value if isinstance(value, list) else [value]
        for item in values or ["none"]:
            yield f"    {escape(label):<{width}}  {escape(str(item))}"
    for stop in section.stops:
        yield f"    stops here: {_reason(stop)}"


def _reason(err: SigkitError) -> str:
    place = f" at {escape(err.place.inside)}" if err.place.inside else ""
    got = f" (got {escape(err.got)})" if err.got else ""
    return f"{err.code} {escape(err.problem)}{place}{got}"
