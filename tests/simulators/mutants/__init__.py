"""Good evidence changed at one point, everything after it made anew so that it fits: one for each check of verification."""

from tests.simulators.mutants.chain import CHAIN
from tests.simulators.mutants.content import BOUND, SIGNED
from tests.simulators.mutants.entries import ENTRIES
from tests.simulators.mutants.times import TIMES

ROWS = {**BOUND, **SIGNED, **ENTRIES, **TIMES, **CHAIN}
