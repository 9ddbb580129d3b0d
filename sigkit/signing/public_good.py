"""Whose tokens the public-good instance takes: any other would be sent to a stranger, who refuses it and has it.

The list is Fulcio's own as it was published. An issuer that joined since is refused here until the list is renewed, unless the user names
the services, which are then theirs to choose.

Source: sigstore/fulcio config/identity/config.yaml, `oidc-issuers` and `meta-issuers` (a `*` is a part of a host or path).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sigkit.keys.public import of_library

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sigkit.keys.public import PublicKey
    from sigkit.trust.root import CertificateAuthority, TrustedRoot
    from sigkit.trust.signing_config import Service

_URL: Final = "https://fulcio.sigstore.dev"
ISSUERS: Final = (
    "https://accounts.google.com",
    "https://agent.buildkite.com",
    "https://auth.eclipse.org/auth/realms/foundation-service-accounts",
    "https://dev.gitlab.org",
    "https://gitlab.archlinux.org",
    "https://gitlab.com",
    "https://issuer.chainops.dev",
    "https://issuer.enforce.dev",
    "https://issuer.hello.coop",
    "https://oauth2.sigstore.dev/auth",
    "https://oidc.circleci.com",
    "https://oidc.codefresh.io",
    "https://ops.gitlab.net",
    "https://sigstore.verify.ibm.com/oauth2",
    "https://token.actions.githubusercontent.com",
    "https://www.kaggle.com/api/v1/models/signing",
)
FAMILIES: Final = (
    "https://*.oic.prod-aks.azure.com/*",
    "https://container.googleapis.com/v1/projects/*/locations/*/clusters/*",
    "https://oidc.circleci.com/org/*",
    "https://oidc.eks.*.amazonaws.com/id/*",
    "https://oidc.prod-aks.azure.com/*",
    "https://token.actions.githubusercontent.com/*",
)


def is_asked(root: TrustedRoot, services: Iterable[Service]) -> bool:
    """Tell whether one of these certificate authorities is the public-good instance's: by its URL, or by its key in the trusted root.

    One that the root does not name by its URL is the instance's if the root has no other's.

    Raises:
        FileUnreadable: (UNAVAIL) this installation of sigkit is not whole.
    """
    from sigkit.trust.bundled import load_public_good

    public = _anchors(load_public_good().certificate_authorities)
    for service in services:
        url = service.url.rstrip("/")
        named = [authority for authority in root.certificate_authorities if authority.name.rstrip("/") == url]
        anchors = _anchors(named or root.certificate_authorities)
        if url == _URL or (named and anchors & public) or (anchors and anchors <= public):
            return True
    return False


def takes_issuer(issuer: str) -> bool:
    """Tell whether the instance takes an issuer's tokens, letter by letter."""
    return issuer in ISSUERS or any(_is_of(issuer, family) for family in FAMILIES)


def near_issuer(issuer: str) -> str:
    """Return the issuer that is meant where its scheme, or none, its case or a slash at its end makes another of it, or ""."""
    plain = _plain(issuer)
    return next((known for known in ISSUERS if _plain(known) == plain and known != issuer), "")


def _anchors(authorities: Iterable[CertificateAuthority]) -> set[PublicKey]:
    return {of_library(authority.certificates[-1].public_key()) for authority in authorities}


def _is_of(issuer: str, family: str) -> bool:
    # At the end a star is the rest of the path: AKS has put more into it than one part.
    pattern = re.escape(family).replace(r"\*", "[-_a-zA-Z0-9]+")
    if family.endswith("*"):
        pattern = pattern.removesuffix("[-_a-zA-Z0-9]+") + "[-_a-zA-Z0-9/]+"
    return re.fullmatch(pattern, issuer) is not None


def _plain(issuer: str) -> str:
    return issuer.rpartition("://")[2].rstrip("/").lower()
