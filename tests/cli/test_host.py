"""What a person is told of a judgement that lets an image start."""

from sigkit.cli.host import teller
from sigkit.cli.output import Output
from sigkit.policy.decision import Warn
from tests.simulators import gatehouse
from tests.simulators.gatehouse import ONE_KEY


def test_an_image_that_was_refused_and_starts_all_the_same_is_said_so_even_quietly(tmp_path, capsys):
    for host in gatehouse.opened(tmp_path):
        host.push()
        judgement = host.judge(ONE_KEY + "    mode: warn\n")
        assert isinstance(judgement.decision, Warn)
        output = Output()
        output.quiet = True
        teller(output)(judgement)
        said = capsys.readouterr()
        assert (said.out, said.err.split()[0]) == ("", "warned")


def test_an_allowed_image_starts_without_a_word(tmp_path, capsys):
    for host in gatehouse.opened(tmp_path):
        host.push()
        host.sign("a")
        teller(Output())(host.judge())
        assert capsys.readouterr() == ("", "")
