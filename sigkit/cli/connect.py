"""From flags to a registry client."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sigkit.cli.options import ConnectionFlags
    from sigkit.oci.reference import Reference
    from sigkit.oci.registry import RegistryClient


LAYOUT = "oci:"


def parse_image(text: str) -> Reference:
    """Parse an image's reference as a user typed it.

    Raises:
        MalformedReference: it is none, or it is a layout's directory, which would be looked for on Docker Hub.
    """
    from sigkit.errors import MalformedReference, Place
    from sigkit.oci.reference import parse_reference

    if text.startswith(LAYOUT):
        raise MalformedReference(
            "an OCI layout is read by `sigkit copy` alone",
            place=Place.operator(text),
            expected="registry/repository:tag",
            remedy=f"push it first (sigkit copy {text} IMAGE); an image of that name is docker.io/library/{text}",
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


def _check_files(flags: ConnectionFlags) -> None:
    from sigkit import durable, limits
    from sigkit.errors import Place

    if flags.authfile:
        from sigkit.oci.credentials import check_file

        for path in flags.authfile:
            check_file(path)
    if flags.registry_cacert is not None:
        durable.read(flags.registry_cacert, most_bytes=limits.CA_FILE_BYTES, place=Place.operator(flags.registry_cacert))
