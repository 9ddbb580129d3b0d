"""What is signed: about an image its digest with the repository's name, about a file its digest with the file's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.errors import Place, WrongShape
from sigkit.evidence.statement import PREDICATE_SIGNATURE, REPOSITORY_ANNOTATION, Statement, Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.digest import Digest
    from sigkit.oci.resolve import Resolved

RESERVED_PREFIX: Final = "sigkit.dev/"


def statement_for(resolved: Resolved, annotations: Mapping[str, str], predicate_type: str = PREDICATE_SIGNATURE) -> Statement:
    """Make the statement that signs an image, or one that says something else about it.

    The repository stands in it twice: as the subject's name, and as an annotation that stock cosign enforces with
    `-a sigkit.dev/repository=…`. A tag is no part of it.

    Raises:
        WrongShape: (PARSE) an annotation whose name sigkit reserves; the place is the operator's.
    """
    for name in annotations:
        if name.startswith(RESERVED_PREFIX) or not name:
            raise WrongShape(
                "an annotation whose name is reserved",
                place=Place.operator("--annotations", name),
                expected=f"a name that does not start with {RESERVED_PREFIX}",
                got=name,
            )
    repository = str(resolved.repository)
    subject = Subject((resolved.digest,), repository, {**annotations, REPOSITORY_ANNOTATION: repository})
    return Statement((subject,), predicate_type)


def statement_for_file(digest: Digest, name: str | None, predicate_type: str) -> Statement:
    """Make a statement about a file. Its name is told as cosign tells it, and nobody's claim to a repository."""
    return Statement((Subject((digest,), name),), predicate_type)
