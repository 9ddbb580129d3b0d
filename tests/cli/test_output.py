"""What is printed where."""

import json

from sigkit.cli.output import Output
from sigkit.errors import BadSignature, Bug, NothingToRun, Place, TimedOut


def test_an_error_is_a_JSON_document_on_stdout_until_a_container_has_it(capsys):
    output = Output()
    output.json = True
    assert output.error(TimedOut("slow"), 3) == 3
    said = capsys.readouterr()
    assert (json.loads(said.out)["error"]["code"], said.err) == (TimedOut.code, "")
    output.leave_stdout()
    output.error(TimedOut("slow"), 3)
    said = capsys.readouterr()
    assert (said.out, json.loads(said.err)["error"]["code"]) == ("", TimedOut.code)


def test_the_word_of_an_error_is_that_of_its_status(capsys):
    words = {}
    for err in (NothingToRun("x"), TimedOut("x"), BadSignature("x"), BadSignature("x", place=Place.operator("k.pub")), Bug("x")):
        Output().error(err, err.status())
        words[err.code, err.status()] = capsys.readouterr().err.partition("  ")[0]
    assert list(words.values()) == ["usage error", "could not check", "refused", "usage error", "bug"]
