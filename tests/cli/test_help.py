"""Every verb explains itself; a mistake on the command line is exit code 2 and a way on."""

import pytest

from bloomery import __version__
from support.command import Command

VERBS = (
    "plans", "check", "budget", "schema", "register", "run", "improve", "status", "runs", "show", "compare", "claims",
    "report", "eval", "verify-resume", "generate", "serve", "export", "doctor",
)  # fmt: skip


def test_help_lists_every_verb(bloomery: Command) -> None:
    said = bloomery("--help")
    assert said.code == 0
    assert all(f"  {verb} " in said.out for verb in VERBS)
    assert "bloomery run quickstart" in said.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(bloomery: Command, verb: str) -> None:
    said = bloomery(verb, "--help")
    assert said.code == 0
    assert said.out.startswith("Usage:")
    assert "--help" in said.out
    first = said.out.split("\n\n")[1].strip()
    assert first.endswith("."), first
    assert len(first) > 10


def test_the_version(bloomery: Command) -> None:
    assert bloomery("--version").out == f"bloomery {__version__}\n"


def test_without_a_verb_help_is_shown(bloomery: Command) -> None:
    said = bloomery()
    assert said.code == 2
    assert "verify-resume" in said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chekc"], "check"),
        (["check"], "PLAN"),
        (["run", "x", "--threads", "-1"], "--threads"),
        (["run", "x", "--threads", "100000"], "100000 is more than"),
        (["run", "x", "--theads", "1"], "--threads"),
        (["run", "x", "--allow-changed", "wrld"], "did you mean 'world'?"),
        (["generate", "x", "--top-p", "3"], "--top-p"),
        (["compare"], "RUN"),
    ],
)
def test_mistakes_on_the_command_line(bloomery: Command, arguments: list[str], expected: str) -> None:
    said = bloomery(*arguments)
    assert said.code == 2
    assert expected in said.err
    assert "Traceback" not in said.err
