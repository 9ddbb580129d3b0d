"""Every check of verification catches something that no other check does.

Each row is good evidence changed at one point (tests/simulators/mutants). The first test shows the code of its refusal. The second takes
the check out of the source and shows that the same evidence is then accepted: so the check is there, is reached, and is the only one.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sigkit.verify
from sigkit.errors import SigkitError
from tests.simulators.mutants import ROWS
from tests.simulators.removed import edited
from tests.simulators.sigstore import Simulator

VERIFY = Path(sigkit.verify.__file__).parent
# Refusals in verify/ that no mutant meets, by their first words, and why there can be none.
ARGUED = {
    "a part is missing": "collecting and files make no such evidence: test_verify.py makes it by hand",
    "the extended key usage is not for signing code": "raised inside path building, which wraps it: `a certificate for servers`",
    "neither a checkpoint nor a promise stands behind the entry": "no parser lets such an entry in: test_entries.py",
}


@pytest.mark.parametrize("name", ROWS)
def test_a_mutant_is_refused_as(name):
    row = ROWS[name]
    with pytest.raises(SigkitError) as caught:
        row.make(Simulator()).judge()
    assert caught.value.code == row.code, caught.value


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.check])
def test_nothing_else_catches(name):
    row = ROWS[name]
    case = row.make(Simulator())
    with edited(*row.check):
        assert case.judge()


def test_every_refusal_of_verification_is_met_by_a_mutant():
    met = set()
    for row in ROWS.values():
        with pytest.raises(SigkitError) as caught:
            row.make(Simulator()).judge()
        met |= {(Path(frame.path).name, frame.lineno + 1) for frame in caught.traceback if Path(frame.path).parent == VERIFY}
    unmet = {}
    for path in VERIFY.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                lines = range(node.lineno, (node.end_lineno or 0) + 1)
                if not any((path.name, line) in met for line in lines):
                    unmet[f"{path.name}:{node.lineno}"] = ast.unparse(node.exc.args[0])
    assert {place: said for place, said in unmet.items() if said.strip("f'\"") not in ARGUED} == {}
