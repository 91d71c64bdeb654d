"""Questions and their answers, by hand-made scorers whose worth is known."""

import math
from pathlib import Path

import pytest
import torch

from bloomery.data.tokenizer import BytesTokenizer, train_bpe
from bloomery.errors import DataError
from bloomery.evaluate.passages import choice_from, exact_from
from bloomery.evaluate.questions import Answers, Question, answer, chance, encode_pair, key_of
from support.scorers import Saying, Uniform


class Table:
    """Log-probabilities of the next token, whatever came before."""

    vocab = 4

    def __init__(self, *logprobs: float) -> None:
        self.row = torch.tensor(logprobs)

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.row.expand(*tokens.shape, 4)


def test_the_likeliest_option_counts_and_by_length_the_likeliest_per_character() -> None:
    scorer = Table(math.log(0.4), math.log(0.3), math.log(0.2), math.log(0.1))
    short_and_long = Question((0,), ((1,), (0, 0)), 1, characters=(1, 6))
    # log 0.3 > 2 log 0.4, but log 0.3 / 1 < 2 log 0.4 / 6
    assert answer(scorer, [short_and_long]) == Answers((False,), (True,))
    assert answer(scorer, [Question((0,), ((1,), (0, 0)), 0, characters=(1, 6))]) == Answers((True,), (False,))


def test_equal_options_go_to_the_first_and_no_number_answers_nothing() -> None:
    asked = [Question((0,), ((1,), (2,), (3,)), right) for right in (0, 1, 2)]
    assert answer(Uniform(4), asked).right == (True, False, False)
    assert answer(Table(0, math.nan, 0, 0), asked).right == (False, False, False)


def test_one_option_is_an_exact_match() -> None:
    asked = [Question((0,), ((2, 2),), 0), Question((0,), ((2, 1),), 0)]
    assert answer(Table(-2.0, -3.0, -0.1, -4.0), asked).right == (True, False)


def test_chance_is_one_in_all_options_or_the_commonest_exact_answer() -> None:
    assert chance([Question((0,), ((1,), (2,)), 0), Question((0,), ((1,), (2,), (3,), (0,)), 0)]) == 0.375
    assert chance([Question((0,), (option,), 0) for option in ((1,), (2, 2), (2, 2), (3,))]) == 0.5


def test_the_key_is_of_what_is_asked() -> None:
    one, other = Question((0,), ((1,), (2,)), 0), Question((0,), ((1,), (2,)), 1)
    assert key_of([one]) == key_of([Question((0,), ((1,), (2,)), 0)])
    assert len({key_of(asked) for asked in ([one], [other], [one, other], [other, one])}) == 4


@pytest.mark.parametrize("tokenizer", [BytesTokenizer(), train_bpe(["the furnace makes iron from ore " * 20], 300)])
@pytest.mark.parametrize(("context", "after"), [("the furnace", " makes iron"), ("the furnace ", "makes"), ("", "ore")])
def test_a_pair_is_cut_between_two_tokens(tokenizer, context: str, after: str) -> None:
    before, following = encode_pair(tokenizer, context, after)
    assert tokenizer.decode((*before, *following)) == context + after
    assert tokenizer.decode(before) == context.rstrip()  # the space goes over
    assert following


def lines(folder: Path, *rows: str) -> Path:
    file = folder / "file.jsonl"
    file.write_text("\n".join(rows) + "\n")
    return file


def test_files_of_choices_and_of_exact_answers(tmp_path: Path) -> None:
    own = BytesTokenizer()
    file = lines(tmp_path, '{"context": "2+2=", "options": ["5", "4", "22"], "answer": 1, "more": 0}',
                 '{"context": "ore is", "options": [" iron", " gold"], "answer": 0}')  # fmt: skip
    first, second = choice_from(file, own, 9)
    assert [own.decode(option) for option in first.options] == ["5", "4", "22"]
    assert (first.right, first.characters) == (1, (1, 1, 2))
    assert first.context[0] == own.end_of_document
    assert own.decode(second.context) == "ore is"
    knows = Saying(own.vocab, [[256, *b"2+2=4"], [256, *b"ore is iron"]])
    assert answer(knows, [first, second]) == Answers((True, True), (True, True))
    assert len(choice_from(file, own, 1)) == 1
    file = lines(tmp_path, '{"context": "2+2=", "answer": "4"}', '{"context": "\u2028", "answer": "3"}')
    assert answer(knows, exact_from(file, own, 9)).right == (True, False)


@pytest.mark.parametrize(
    "row",
    ['{"context": "a", "options": ["b"], "answer": 0}', '{"context": "a", "options": ["b", "c"], "answer": 2}',
     '{"context": "a", "options": ["b", "c"], "answer": true}', '{"context": 1, "options": ["b", "c"], "answer": 0}',
     '{"context": "a", "options": ["b", ""], "answer": 0}', '{"options": ["b", "c"], "answer": 0}', "x"],
)  # fmt: skip
def test_other_formats_are_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(DataError):
        choice_from(lines(tmp_path, row), BytesTokenizer(), 9)
    with pytest.raises(DataError):
        exact_from(lines(tmp_path, row), BytesTokenizer(), 9)
