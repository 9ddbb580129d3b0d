"""From flags to a registry client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sigkit.cli.options import ConnectionFlags, SourceFlags
    from sigkit.oci.reference import Reference
    from sigkit.oci.registry import Registry, RegistryClient


LAYOUT = "oci:"


def parse_image(text: str) -> Reference:
    """Parse an image's reference as a user typed it.

    Raises:
        MalformedReference: it is none, or it is a layout's directory, which would be looked for on Docker Hub.
    """
    from sigkit.errors import MalformedReference, Place
    from sigkit.oci.reference import parse_reference

    if text.startswith(LAYOUT) or os.path.exists(os.path.join(text, "oci-layout")):
        directory = text.removeprefix(LAYOUT)
        raise MalformedReference(
            "an OCI layout is not named like an image",
            place=Place.operator(text),
            expected="registry/repository:tag",
            remedy=f"push it (sigkit copy {LAYOUT}{directory} IMAGE), or read it there: sigkit verify --layout {directory} IMAGE",
        )
    return parse_reference(text)


def connect(flags: ConnectionFlags, *references: Reference) -> AbstractContextManager[RegistryClient]:
    """Return a client for the registries of `references`, as the flags say.

    `--allow-http-registry` is leave for these registries alone, not for where they redirect to. Files that the flags name are looked at
    here, before anything is asked for: whether a registry wants them is known too late.

    Raises:
        FileUnreadable, MalformedJson, TooLarge: one of them cannot be used; the place is the operator's.
    """
    from sigkit.oci.exchange import RegistryOptions
    from sigkit.oci.registry import open_registry

    _check_files(flags)
    plain = tuple(reference.repository.registry for reference in references) if flags.allow_http_registry else ()
    return open_registry(
        RegistryOptions(
            plain_http_hosts=plain,
            ca_file=flags.registry_cacert,
            token_realms=flags.token_realm,
            auth_files=flags.authfile,
            timeout_s=flags.timeout_s,
        )
    )


def open_source(flags: ConnectionFlags, source: SourceFlags, *references: Reference) -> AbstractContextManager[Registry]:
    """Return what images are read from: the layout that is named, or the registries of `references`.

    Raises:
        UsageError: connections are refused, and nothing else is named.
        SigkitError: there is no such layout, or as `connect`.
    """
    if source.layout is not None:
        from contextlib import nullcontext

        from sigkit.errors import FileUnreadable, Place
        from sigkit.oci.layout import open_layout

        try:
            return nullcontext(open_layout(source.layout.removeprefix(LAYOUT)))
        except FileUnreadable as err:
            raise err.within(Place.operator(source.layout)) from err.__cause__
    if source.offline:
        import click

        context = click.get_current_context()
        raise click.UsageError("--offline makes no connection: name the image's --layout DIR, or the evidence's --bundle FILE.", context)
    return connect(flags, *references)


def find_in_layout(registry: Registry, reference: Reference) -> Reference:
    """Return the reference; with the digest of the only image in a layout, if nobody named that one there.

    What was copied to a layout keeps its name only by the tag that somebody gave it: an image with another tag is another one. `latest`
    is no name, since every image has it that was copied without one.

    Raises:
        AbsentReference: (REF) the layout has no such tag, and not one image alone that has none.
    """
    from sigkit.oci.layout import TAG_ANNOTATION, Layout
    from sigkit.oci.reference import DEFAULT_TAG, Reference

    if not isinstance(registry, Layout) or reference.tag is None or reference.digest is not None:
        return reference
    if registry.fetch_manifest(reference.repository, reference.tag) is not None:
        return reference
    only = registry.find_entry(None)
    named = only.annotations.get(TAG_ANNOTATION, DEFAULT_TAG)
    if named != DEFAULT_TAG and not named.endswith(f":{reference.tag}"):  # podman and containerd write the whole name
        only = registry.find_entry(reference.tag)  # refused there, with the tags that there are
    return Reference(reference.text, reference.repository, reference.tag, only.digest)


def _check_files(flags: ConnectionFlags) -> None:
    from sigkit import durable, limits
    from sigkit.errors import Place

    if flags.authfile:
        from sigkit.oci.credentials import check_file

        for path in flags.authfile:
            check_file(path)
    if flags.registry_cacert is not None:
        durable.read(flags.registry_cacert, most_bytes=limits.CA_FILE_BYTES, place=Place.operator(flags.registry_cacert))
