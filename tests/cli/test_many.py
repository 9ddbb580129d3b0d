"""Many images in one command: each line when it is its turn, an end that waits for nobody, and a document that is whole however it ends."""

from __future__ import annotations

import json
import re
import signal
import threading
import time

import pytest

from sigkit.in_order import results_in_order
from tests.simulators.release import Release

HELD_S = 30  # longer than any test that does not wait for it


@pytest.fixture(autouse=True)
def signed(release):
    assert release.sign().status == 0


def hold(reg, tag: str) -> None:
    """Let the registry be silent about a tag for as long as the test lasts."""
    reg.on("GET", f"*/manifests/{tag}").drip(1 / HELD_S)


def listed(release: Release, *tags: str) -> str:
    (release.home / "list.txt").write_text("".join(f"{release.address}/t/app:{tag}\n" for tag in tags))
    return "list.txt"


def test_a_line_is_printed_when_all_before_it_are_judged_and_not_later(reg, release):
    hold(reg, "slow")
    with release.start("verify", "--key", "K.pub", "-f", listed(release, "v1", "absent", "slow", "v1")) as process:
        assert process.stdout.readline().startswith("verified  ")
        assert process.stdout.readline().startswith("could not check  ")
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=HELD_S / 2)
    assert (process.returncode, rest) == (130, "")
    left = re.search(r"left undone: \S+:(absent|slow) and \d more, of 4 images", said)
    assert left, said  # `absent` where the interrupt came before its line was known to be printed


def test_the_document_is_whole_when_it_is_interrupted(reg, release):
    hold(reg, "slow")
    command = ("--output", "json", "verify", "--key", "K.pub", "-f", listed(release, "v1", "slow"))
    with release.start(*command) as process:
        begun = process.stdout.readline() + process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=HELD_S / 2)
    assert process.returncode == 130
    document = json.loads(begun + rest)
    assert document["left"][-1] == f"{release.address}/t/app:slow"
    assert [item["decision"]["outcome"] for item in document["images"]] == ["allow"]
    assert "left undone" in said


def test_the_document_of_all_images_leaves_none(release):
    done = release.sigkit("--output", "json", "verify", "--key", "K.pub", "-f", listed(release, "v1", "absent", "v1"))
    assert done.status == 3
    assert done.answer["left"] == []
    assert ["decision" in item for item in done.answer["images"]] == [True, False, True]


def test_a_malformed_name_anywhere_in_the_list_is_told_before_anything_is_asked(reg, release):
    (release.home / "list.txt").write_text(f"{release.reference}\nNot/A/Name:\n")
    reg.forget()
    done = release.sigkit("--output", "json", "verify", "--key", "K.pub", "-f", "list.txt")
    assert done.status == 2
    assert done.answer["schema"] == "sigkit.error/1"
    assert reg.seen("*", "*") == []


def test_lists_add_up_and_a_comment_may_stand_behind_a_name(release):
    (release.home / "a.txt").write_text(f"{release.reference} # the release\n")
    (release.home / "b.txt").write_text(f"# more\n\n{release.address}/t/app:absent\n")
    done = release.sigkit("verify", "--key", "K.pub", "-f", "a.txt", "-f", "b.txt")
    assert done.status == 3
    verified, unchecked = done.out.splitlines()
    assert re.fullmatch(rf"verified  {release.reference}  sha256:[0-9a-f]{{64}}", verified)
    assert unchecked.startswith(f"could not check  {release.address}/t/app:absent  ")
    assert f"next  sigkit verify --key K.pub {release.address}/t/app:absent" in done.err
    assert "1 of 2" in done.err


def test_a_line_that_is_no_name_is_told_with_its_file_and_number(release):
    (release.home / "list.txt").write_text(f"{release.reference}\n\nNot/A/Name\n")
    done = release.sigkit("verify", "--key", "K.pub", "-f", "list.txt")
    assert done.status == 2
    assert "list.txt: line 3, Not/A/Name" in done.err


def test_standard_input_is_read_once(release):
    done = release.sigkit("verify", "--key", "K.pub", "-f", "-", "-f", "-")
    assert done.status == 2


def test_results_come_in_order_whichever_is_finished_first():
    later = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert later.wait(HELD_S)
        elif number == 5:
            later.set()
        return number

    assert list(results_in_order(work, range(20), 4, 8, lambda _: None)) == list(range(20))


def test_no_more_results_are_kept_than_said():
    go, begun = threading.Event(), []

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            assert go.wait(HELD_S)

    def finished(count: int) -> None:
        if count == 7:  # all but the first of the eight that may be begun
            go.set()

    results = results_in_order(work, range(100), 4, 8, finished)
    next(results)
    assert sorted(begun) == list(range(8))
    results.close()


def test_whoever_stops_taking_results_waits_for_nothing():
    never = threading.Event()
    results = results_in_order(lambda number: number and never.wait(HELD_S), range(100), 4, 8, lambda _: None)
    next(results)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < HELD_S / 2
    never.set()


def test_what_the_work_raises_is_raised_in_its_turn():
    def work(number: int) -> int:
        if number == 2:
            raise KeyError(number)
        return number

    results = results_in_order(work, range(4), 4, 4, lambda _: None)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)
