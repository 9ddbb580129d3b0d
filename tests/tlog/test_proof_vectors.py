"""Proofs as transparency-dev/merkle published them: those that hold, and those that are wrong in one way each."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from sigkit.errors import BadConsistencyProof, BadInclusionProof, Place
from sigkit.tlog.merkle import verify_inclusion
from sigkit.tlog.proof import verify_consistency

PLACE = Place("proof")
VECTORS = json.loads((Path(__file__).parents[2] / "fixtures/tlog/merkle-proofs.json").read_text())


def decode(items):
    return [base64.b64decode(item or "") for item in items or []]


@pytest.mark.parametrize("name", VECTORS["inclusion"])
def test_inclusion(name):
    case = VECTORS["inclusion"][name]
    leaf, root = decode([case["leafHash"], case["root"]])
    arguments = (leaf, case["leafIdx"], case["treeSize"], decode(case["proof"]), root, PLACE)
    if case["wantErr"]:
        with pytest.raises(BadInclusionProof):
            verify_inclusion(*arguments)
    else:
        verify_inclusion(*arguments)


# Its root hashes are words ("don't care"), which are none of a tree.
WORDS = "additional/sizes-are-equal-one-and-proof-is-empty"


@pytest.mark.parametrize("name", [name for name in VECTORS["consistency"] if name != WORDS])
def test_consistency(name):
    case = VECTORS["consistency"][name]
    old, new = decode([case["root1"], case["root2"]])
    arguments = (case["size1"], old, case["size2"], new, decode(case["proof"]), PLACE)
    if case["wantErr"]:
        with pytest.raises(BadConsistencyProof):
            verify_consistency(*arguments)
    else:
        verify_consistency(*arguments)
