"""What a decision about a file is. It has no rule, no grant and no mode, and nothing can be started by it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.errors import EXIT_DONE, EXIT_REFUSED, EXIT_UNCHECKED
from sigkit.policy.decision import Met, Standing, Unmet, encode_facts, encode_refused, encode_time, encode_tree, encode_unchecked

if TYPE_CHECKING:
    from datetime import datetime

    from sigkit.digest import Digest
    from sigkit.policy.decision import Reason, ReasonTree, RefusedEvidence
    from sigkit.strict import Json
    from sigkit.verify.facts import Facts, Unchecked

SCHEMA: Final = "sigkit.blob-decision/1"


class BlobDecision(Data):
    """A verdict about one file, with every reason."""

    artifact: Digest
    tree: ReasonTree
    facts: tuple[Facts, ...]
    refused: tuple[RefusedEvidence, ...]
    unchecked: tuple[Unchecked, ...]
    decided_at: datetime

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it is refused; nothing when it is verified."""
        return (self.tree.reason,) if isinstance(self.tree, Unmet) else ()

    def exit_status(self) -> int:
        """Return what commands end with: 0 verified, 1 refused, 3 when that could not be found out."""
        if isinstance(self.tree, Met):
            return EXIT_DONE
        return EXIT_UNCHECKED if self.tree.reason.standing is Standing.UNCHECKED else EXIT_REFUSED


def encode_blob_decision(decision: BlobDecision) -> dict[str, Json]:
    """Return a decision as the document `sigkit.blob-decision/1`: the members of `sigkit.decision/1` that files have."""
    tree = encode_tree(decision.tree)
    reasons: Json = [tree["reason"]] if "reason" in tree else []
    return {
        "schema": SCHEMA,
        "outcome": "allow" if isinstance(decision.tree, Met) else "deny",
        "decidedAt": encode_time(decision.decided_at),
        "artifact": str(decision.artifact),
        "tree": tree,
        "reasons": reasons,
        "facts": [encode_facts(facts) for facts in decision.facts],
        "refused": [encode_refused(item) for item in decision.refused],
        "unchecked": [encode_unchecked(item) for item in decision.unchecked],
    }
