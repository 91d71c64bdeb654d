"""Progress of a long evaluation: told by its loops, shown with rate and time left, silent where nobody listens."""

import io

from rich.console import Console

from bloomery.cli.bars import Bars, Judging
from bloomery.evaluate.progress import counted, heard_by, tell


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(seconds: float, *, terminal: bool) -> str:
    """What is printed where one of 20 answers takes so long."""
    screen, clock = io.StringIO(), Clock()
    bars = Bars(Console(file=screen, width=100, force_terminal=terminal), clock)
    with heard_by(Judging(bars)):
        for _ in counted(range(20), "answers"):
            clock.now += seconds
    tell(1, 2, "answers")  # nobody listens any more
    bars.close()
    return screen.getvalue()


def test_plain_lines_come_every_ten_seconds_with_rate_and_time_left() -> None:
    assert shown(4.0, terminal=False).splitlines() == [
        "  judging: 4 of 20 answers, 0.25 a second, 1 min 04 s left",
        "  judging: 7 of 20 answers, 0.25 a second, 52 s left",
        "  judging: 10 of 20 answers, 0.25 a second, 40 s left",
        "  judging: 13 of 20 answers, 0.25 a second, 28 s left",
        "  judging: 16 of 20 answers, 0.25 a second, 16 s left",
        "  judging: 19 of 20 answers, 0.25 a second, 4.0 s left",
    ]
    assert shown(0.1, terminal=False) == "", "what is quick is not told of"


def test_a_terminal_has_a_bar_that_goes_at_the_end() -> None:
    said = shown(4.0, terminal=True)
    assert "judging" in said
    assert said.endswith("\x1b[?25h\r"), "the cursor is back"
