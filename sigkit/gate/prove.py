"""Evidence judged under each trust root by itself: one instance's authority is never believed together with another's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.errors import RootError, SigError, SigkitError, TimeError
from sigkit.policy.decision import Reason, RefusedEvidence
from sigkit.verify.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sigkit.evidence.form import Evidence
    from sigkit.limits import Limits
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.bind import Artifact
    from sigkit.verify.facts import Facts

# From what says least about the evidence to what says most: the root knows none of those who signed; nobody that it knows says when.
_LEAST_TELLING = (RootError, TimeError, SigError)


class Proved(Data):
    """What evidence proves, and the pieces that prove nothing under any root, each with one reason."""

    facts: tuple[Facts, ...]
    refused: tuple[RefusedEvidence, ...]


def prove(found: Iterable[Evidence], artifact: Artifact, roots: Sequence[TrustedRoot], now: datetime, limits: Limits) -> Proved:
    """Verify every piece of evidence under every root.

    Where several roots prove the same, it is told once; where they prove different things, since the log of only one knows the entry, each
    counts for itself. A piece that none of them proves is refused for the reason of the root that came closest.
    """
    facts: list[Facts] = []
    refused: list[RefusedEvidence] = []
    for evidence in found:
        own: list[Facts] = []
        refusals: list[SigkitError] = []
        for root in roots:
            try:
                proved = verify(evidence, artifact, root, now, limits)
            except SigkitError as err:
                refusals.append(err)
                continue
            if proved not in own:
                own.append(proved)
        facts += own
        if not own:
            refused.append(RefusedEvidence(evidence.place, Reason.of_evidence(_closest(refusals))))
    return Proved(tuple(facts), tuple(refused))


def _closest(refusals: Sequence[SigkitError]) -> SigkitError:
    def rank(err: SigkitError) -> int:
        return next((number for number, kind in enumerate(_LEAST_TELLING) if isinstance(err, kind)), len(_LEAST_TELLING))

    return max(refusals, key=rank)
