"""The one way in which Bloomery tells a user about a mistake.

An error says where (file:line or key path), what was found, what was expected, and what to do next. The command line
prints it without a traceback and exits with `exit_code`. `assert` is kept for our own bugs.
"""

from collections.abc import Iterable


class BloomeryError(Exception):
    """A mistake that its reader can mend.

    where: file:line, a key path, or a folder; found: what stands there; expected: what would have been right;
    hint: the nearest name or the next command.
    """

    exit_code = 2

    def __init__(self, where: str, found: str, expected: str = "", hint: str = "") -> None:
        self.where, self.found, self.expected, self.hint = where, found, expected, hint
        super().__init__(where, found, expected, hint)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.found}" if self.where else self.found]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class PlanError(BloomeryError):
    """The plan says something that it cannot mean."""


class DataError(BloomeryError):
    """A corpus, tokenizer or token file is missing, damaged, or not what it claims to be."""


class ArtifactError(BloomeryError):
    """An artifact, checkpoint or run folder is missing, damaged, locked or not writable."""


class TrainingError(BloomeryError):
    """Training cannot begin or go on as it was set up: a parameter without an optimiser, a run without steps."""


class NonFinite(TrainingError):
    """A loss or gradient is not finite: what was tried diverged. A finding: the gate fails, and rules may apply."""


class WorkerError(BloomeryError):
    """A worker process has ended, or broke off with an error that is a bug. What the others did is saved."""


class MissingExtra(BloomeryError):
    """An optional dependency is not installed; the hint names the extra."""


class Problems(BloomeryError):
    """Several errors found in one look, in the order of the file."""

    def __init__(self, problems: Iterable[BloomeryError]) -> None:
        self.problems = tuple(problems)
        assert self.problems, "Problems needs at least one problem"
        first = self.problems[0]
        super().__init__(first.where, first.found, first.expected, first.hint)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean 'x'?` for the most similar of names, or the names themselves, or nothing."""
    import difflib

    known = sorted(set(names))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.55)
    if close:
        return f"did you mean '{close[0]}'?"
    if known and len(known) <= 16:
        return "known: " + ", ".join(known)
    return ""
