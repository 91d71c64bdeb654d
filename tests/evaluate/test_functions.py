"""Generated functions: solutions pass, stubs and other problems' solutions do not; completions are greedy."""

import pytest
import torch

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.evaluate import functions
from bloomery.evaluate.completing import complete
from bloomery.evaluate.humaneval import solved
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.model.interface import LanguageModel
from support.scorers import Saying

SOME = functions.problems(10)


def test_there_are_enough_and_all_are_different() -> None:
    everything = functions.problems(10**6)
    assert len(everything) == functions.available() == 200
    assert len({problem.prompt for problem, _ in everything}) == 200
    assert functions.problems(9, seed=1) != functions.problems(9, seed=2)


@pytest.mark.slow
def test_solutions_pass_and_stubs_do_not() -> None:
    for problem, solution in SOME:
        assert solved(problem, solution).passed, problem.name
        parameter = problem.prompt.split("(")[1].split(")")[0]
        for stub in ("    pass\n", f"    return {parameter}\n", "    return True\n", "    return 0\n"):
            assert not solved(problem, stub).passed, (problem.name, stub)


@pytest.mark.slow
def test_every_solution_passes_and_no_other_constant_does() -> None:
    for problem, solution in functions.problems(10**6):
        assert solved(problem, solution).passed, problem.name
        digits = "".join(letter for letter in problem.name if letter.isdigit())
        assert not solved(problem, solution.replace(digits, str(int(digits) + 1))).passed, problem.name


def test_a_scorer_completes_as_it_says_and_stops_at_a_stop_word() -> None:
    own = BytesTokenizer()
    text = "    return 1\n\ndef more():\n    pass\n"
    scorer = Saying(own.vocab, [[256, *b"def f():\n", *text.encode()]])
    assert complete(scorer, own, "def f():\n", max_tokens=99) == "    return 1\n"
    assert complete(scorer, own, "def f():\n", max_tokens=7) == "    ret"
    ended = Saying(own.vocab, [[256, *b"def f():\n", *b"    x", 256]])
    assert complete(ended, own, "def f():\n", max_tokens=99) == "    x"


class WithoutCache:
    def __init__(self, model: LanguageModel) -> None:
        self.model, self.vocab = model, model.vocab

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.model(tokens).logits, -1)


def test_a_model_completes_as_its_log_probabilities_say() -> None:
    own = BytesTokenizer()
    torch.manual_seed(3)
    model = Transformer(DenseConfig(layers=1, width=16, heads=2), own.vocab).eval()
    for prompt in ("def f(x):\n", "", "iron"):
        whole = complete(model, own, prompt, max_tokens=20, stop=("zzz",))
        assert whole == complete(WithoutCache(model), own, prompt, max_tokens=20, stop=("zzz",))
