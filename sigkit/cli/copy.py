"""`sigkit copy`: an image and everything attached to it, between registries and layouts."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import LAYOUT, connect
from sigkit.cli.options import registry_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.cli.progress import LayerProgress
from sigkit.errors import FileUnreadable, FileUnwritable, Place
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import ConnectionFlags
    from sigkit.digest import Digest
    from sigkit.evidence.copy import Side
    from sigkit.oci.reference import Reference

# Where skopeo finds images and sigkit does not; and paths, which would be taken for a registry's name.
_ELSEWHERE = ("docker-archive:", "oci-archive:", "docker-daemon:", "containers-storage:", "./", "../", "/")


@click.command(
    cls=Command,
    name="copy",
    epilog=EXITS,
    examples="""
    sigkit copy oci:./image registry.example/acme/app:1.0
    sigkit copy registry.example/acme/app:1.0 mirror.example/acme/app:1.0
    sigkit copy registry.example/acme/app@sha256:… oci:./backup
    """,
)
@click.argument("source")
@click.argument("target")
@registry_options
@click.pass_obj
def command(output: Output, source: str, target: str, connection: ConnectionFlags) -> None:
    """Copy SOURCE to TARGET: the image or index, its signatures, and whatever else is attached to it.

    In a layout it gets the tag of SOURCE.

    Each is a reference, or `oci:DIR` for an OCI layout in a directory. Nothing is judged: a copied signature still names the repository
    that it was made for. Running it again finishes a copy that was cut.
    """
    from sigkit.evidence.copy import copy_image

    with contextlib.ExitStack() as stack:
        from_side, digest, named = _source(source, connection, stack)
        to_side, tag = _target(target, named, connection, stack)
        moved = _named_before(to_side, tag, digest)
        progress = LayerProgress(output, "copying")
        stack.callback(progress.close)
        copied = copy_image(from_side, digest, to_side, tag, progress.advance)
        if tag is None:
            _list_untagged(to_side, digest)
    output.answer(
        [
            f"{output.word('copied')}  {escape(source)} -> {escape(target)}",
            f"  digest    {digest}",
            f"  attached  {len(copied.attached)}",
            *([f"  moved     tag {tag}, which named {moved}"] if moved else []),
        ],
        {
            "schema": "sigkit.copy/1",
            "source": source,
            "target": target,
            "digest": str(digest),
            "documents": [str(item) for item in copied.documents],
            "attached": [str(item) for item in copied.attached],
            "tag": tag,
            "moved": str(moved) if moved else None,
        },
    )


def _source(text: str, connection: ConnectionFlags, stack: contextlib.ExitStack) -> tuple[Side, Digest, str | None]:
    """Return where the image is, its digest, and the tag that it has there."""
    from sigkit.evidence.copy import Side
    from sigkit.oci.layout import TAG_ANNOTATION, open_layout
    from sigkit.oci.resolve import resolve

    if text.startswith(LAYOUT):
        try:
            layout = open_layout(text.removeprefix(LAYOUT))
        except FileUnreadable as err:
            directory, colon, _ = text.rpartition(":")
            if colon and os.path.isdir(directory.removeprefix(LAYOUT)):  # as skopeo writes it
                err.remedy = f"a layout is named without a tag: {directory}"
            raise err.within(Place.operator(text)) from err.__cause__
        entry = layout.find_entry(None)
        return Side(layout, _layout_reference(text).repository), entry.digest, entry.annotations.get(TAG_ANNOTATION)
    reference = _reference(text)
    registry = stack.enter_context(connect(connection, reference))
    return Side(registry, reference.repository), resolve(registry, reference).digest, None if reference.digest else reference.tag


def _target(text: str, named: str | None, connection: ConnectionFlags, stack: contextlib.ExitStack) -> tuple[Side, str | None]:
    from sigkit.evidence.copy import Side
    from sigkit.oci.layout import create_layout

    if text.startswith(LAYOUT):
        reference = _layout_reference(text)
        try:
            layout = create_layout(text.removeprefix(LAYOUT))
        except FileUnwritable as err:
            raise err.within(Place.operator(text)) from err.__cause__
        return Side(layout, reference.repository), named  # no other tag is said for a layout
    reference = _reference(text)
    if reference.digest is not None:
        raise click.UsageError("TARGET is named by the copied bytes: give a tag, or a repository alone.", click.get_current_context())
    return Side(stack.enter_context(connect(connection, reference)), reference.repository), reference.tag


def _named_before(side: Side, tag: str | None, digest: Digest) -> Digest | None:
    """Return what the tag names in a layout, if that is another image: a registry's tags are somebody's to watch, a layout's nobody's."""
    from sigkit.digest import Digest
    from sigkit.oci.layout import Layout

    raw = side.registry.fetch_manifest(side.repository, tag) if tag is not None and isinstance(side.registry, Layout) else None
    before = Digest.of(raw) if raw is not None else None
    return before if before != digest else None


def _list_untagged(side: Side, digest: Digest) -> None:
    from sigkit.oci.layout import Layout

    if isinstance(side.registry, Layout):
        side.registry.list_untagged(digest)


def _reference(text: str) -> Reference:
    from sigkit.errors import MalformedReference
    from sigkit.oci.reference import parse_reference

    if text.startswith(_ELSEWHERE):
        remedy = f"did you mean {LAYOUT}{text} ?" if text[0] in "./" else "skopeo copy turns it into an OCI layout"
        raise MalformedReference(
            "neither a reference nor an OCI layout",
            place=Place.operator(text),
            expected=f"registry/repository:tag or {LAYOUT}DIR",
            remedy=remedy,
        )
    if os.path.exists(os.path.join(text, "oci-layout")):  # it would be looked for on Docker Hub
        raise MalformedReference("an OCI layout is named with oci:", place=Place.operator(text), remedy=f"did you mean {LAYOUT}{text} ?")
    return parse_reference(text)


def _layout_reference(text: str) -> Reference:
    """Return a name for a layout's one repository, for messages: a layout is not asked by name."""
    from sigkit.oci.reference import Reference, Repository

    return Reference(text, Repository("layout", text.removeprefix(LAYOUT)), "latest", None)
