"""The commands of README.md and docs/ do what the pages say.

Every block fenced as `sh` runs, block after block in one shell and one empty directory a page, with this checkout's `sigkit` on
PATH. A server may be put in the background: the shell waits until each `--listen HOST:PORT` of the block answers, and
ends it with the page. What the page can say about a block:

* `<!-- exits 122 -->` before it: its last command ends with that status. Otherwise every command must end with 0.
* `<!-- not run: why -->` before it: it is passed over. So is a block of `make …`: it sets up and tests the checkout itself.
* `<!-- needs PROGRAM… -->` anywhere in the page: it runs with these of `.ci/go-peers` on PATH, in the lane of the peers.
* a block fenced as `text` after it: what it prints, on both streams. `…` stands for any text within a line, alone on a line for
  any lines.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.simulators.command import put_on_path

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"(?:^<!-- (?P<note>not run: [^\n]+|exits \d+) -->\n+)?^```sh\n(?P<code>.*?)^```\n(?:\n*^```text\n(?P<prints>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
NEEDS = re.compile(r"^<!-- needs ([^\n]+) -->$", re.MULTILINE)
BY_ITSELF = (pytest.mark.peers, pytest.mark.alone)  # the timestamp server listens on a port that nobody can choose
PAGES = [
    pytest.param(path, id=path.relative_to(CHECKOUT).as_posix(), marks=BY_ITSELF if NEEDS.search(path.read_text()) else ())
    for path in sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")])
    if "```sh\n" in path.read_text()
]


class Block(NamedTuple):
    """One fenced block of a page."""

    line: int
    code: str
    exits: int
    prints: str | None


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page that are to be run."""
    found = []
    for match in FENCE.finditer(text):
        note = match["note"] or "exits 0"
        if not note.startswith("not run") and not match["code"].startswith("make "):
            line = text.count("\n", 0, match.start("code")) + 1
            found.append(Block(line, match["code"], int(note.removeprefix("exits ")), match["prints"]))
    return found


def script(page: list[Block]) -> str:
    """Return one bash script that runs the blocks and marks where each begins and how it ends."""
    parts = ["exec 2>&1", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for number, block in enumerate(page):
        parts += [f"echo @@begin {number}", "set -e" if block.exits == 0 else "set +e", block.code.rstrip(), f"echo @@end {number} $?"]
        for host, port in re.findall(r"--listen[ =]([\w.]+):(\d+)", block.code):
            parts += [f"until (exec 9<>/dev/tcp/{shlex.quote(host)}/{port}) 2>/dev/null; do sleep 0.05; done"]
    return "\n".join(parts)


def needed(text: str) -> list[str]:
    """Return the programs that a page needs."""
    return [name for found in NEEDS.finditer(text) for name in found[1].split()]


def run_page(text: str, scratch: Path, programs: Sequence[Path] = ()) -> list[tuple[Block, str, int | None]]:
    """Run a page, and return each block with what it printed and its status (None: it did not get to its end)."""
    (scratch / "bin").mkdir()
    (scratch / "work").mkdir()
    put_on_path(scratch / "bin")
    for program in programs:
        (scratch / "bin" / program.name).symlink_to(program)
    environment = os.environ | {"PATH": f"{scratch / 'bin'}:{os.environ['PATH']}", "NO_COLOR": "1"}
    page = blocks(text)
    done = subprocess.run(
        ["bash", "-c", script(page)],
        cwd=scratch / "work",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=110,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    found = []
    for number, block in enumerate(page):
        _, began, rest = said.partition(f"@@begin {number}\n")
        ended = re.search(rf"@@end {number} (\d+)\n", rest)
        printed = rest[: ended.start()] if ended else rest
        found.append((block, printed if began else "(not reached)", int(ended[1]) if ended else None))
    return found


def fits(printed: str, expected: str) -> bool:
    """Tell whether a block printed what the page shows."""
    lines = printed.splitlines()
    reached = {0}  # how many printed lines the page's lines so far may have used up
    for shown in expected.splitlines():
        if shown.strip() == "…":
            reached = set(range(min(reached, default=len(lines) + 1), len(lines) + 1))
        else:
            pattern = re.compile(".*".join(map(re.escape, shown.split("…"))))
            reached = {at + 1 for at in reached if at < len(lines) and pattern.fullmatch(lines[at])}
    return len(lines) in reached


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_page_do_what_it_says(page, tmp_path, request):
    text, wrong = page.read_text(), []
    programs = [request.getfixturevalue("go_peer")(name) for name in needed(text)]
    for block, printed, status in run_page(text, tmp_path, programs):
        where = f"{page.relative_to(CHECKOUT)}:{block.line}"
        if status != block.exits:
            wrong.append(f"{where}: exit {status}, not {block.exits}:\n{block.code}---\n{printed}")
        elif block.prints is not None and not fits(printed, block.prints):
            wrong.append(f"{where}: prints\n{printed}--- not\n{block.prints}")
    assert wrong == [], "\n".join(wrong)


PAGE = """
```sh
export NAME=world
python3 -m http.server --bind 127.0.0.1 {port} >/dev/null 2>&1 & # --listen 127.0.0.1:{port}
```

```sh
python3 -c 'import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:{port}").status)'
echo "hello $NAME"
```

```text
200
hello …
```

<!-- exits 3 -->

```sh
sh -c 'exit 3'
```

<!-- not run: it would fail -->
```sh
false
```
"""


def test_blocks_share_a_shell_a_server_and_their_expected_status(tmp_path, free_port):
    ran = run_page(PAGE.format(port=free_port), tmp_path)
    assert [(status, block.exits) for block, _, status in ran] == [(0, 0), (0, 0), (3, 3)]
    assert fits(ran[1][1], ran[1][0].prints or "")


@pytest.mark.parametrize("code", ["false; true", "false\ntrue"])
def test_a_command_that_fails_inside_a_block_is_seen(tmp_path, code):
    [(_, _, status)] = run_page(f"```sh\n{code}\n```\n", tmp_path)
    assert status is None


@pytest.mark.parametrize(
    ("printed", "expected", "answer"),
    [
        pytest.param("a\nb\n", "a\nb\n", True, id="equal"),
        pytest.param("a 12 ms\n", "a … ms\n", True, id="within-a-line"),
        pytest.param("a\nx\ny\nb\n", "a\n…\nb\n", True, id="any-lines"),
        pytest.param("a\nb\n", "a\n", False, id="more"),
        pytest.param("a\n", "a\nb\n", False, id="less"),
        pytest.param("a.b\n", "axb\n", False, id="no-expressions"),
    ],
)
def test_output_is_compared_line_by_line(printed, expected, answer):
    assert fits(printed, expected) is answer
