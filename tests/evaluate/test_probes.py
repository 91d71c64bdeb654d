"""Made questions: whoever knows answers all of them, whoever does not is at chance, and the shapes are as promised."""

import random
from pathlib import Path

import pytest

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import BytesTokenizer, Tokenizer, train_words
from bloomery.data.tokens import TokenFile, write_token_file
from bloomery.engine.intervals import wilson_interval
from bloomery.errors import DataError
from bloomery.evaluate import passages, probes
from bloomery.evaluate.questions import Question, answer, chance
from support.scorers import Closing, Constant, Copying, Remembering, Uniform

pytestmark = pytest.mark.slow

WORDS = [a + b + c for a in "bdfk" for b in "aeiou" for c in ("n", "l", "st", "", "rk")]


def text(number: int) -> str:
    draw = random.Random(number)
    return " ".join(draw.choice(WORDS) for _ in range(150))


@pytest.fixture(scope="module")
def own() -> Tokenizer:
    return BytesTokenizer()


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory, own: Tokenizer) -> TokenFile:
    documents = [Document(f"{number}", text(number), "") for number in range(12)]
    return write_token_file(tmp_path_factory.mktemp("part") / "val.tokens", documents, own)


def questions(
    task: str, own: Tokenizer, part: TokenFile, count: int, context: int = 32, seed: int = 0
) -> list[Question]:
    if task in probes.SYNTHETIC:
        return probes.SYNTHETIC[task](own, context, count, seed)
    if task == "word_order":
        return probes.word_order(part, context, count, seed)
    return {"choice": passages.choice, "continuation": passages.continuation}[task](part, own, count, seed)


TASKS = ("induction", "associative_recall", "bracket_depth", "word_order", "choice", "continuation")
CHOICES = TASKS[:-1]


@pytest.mark.parametrize("task", TASKS)
def test_who_knows_answers_everything(task: str, own: Tokenizer, part: TokenFile) -> None:
    pairs = {ord(left): ord(right) for left, right in probes.BRACKETS}
    known = {
        "induction": Copying(own.vocab),
        "associative_recall": Copying(own.vocab),
        "bracket_depth": Closing(own.vocab, pairs),
    }
    oracle = known.get(task, Remembering(own.vocab, part.tokens))
    for context in (16, 33, 64):
        asked = questions(task, own, part, 20, context)
        answers = answer(oracle, asked)
        assert all(answers.right), (context, answers.right)
        assert all(answers.by_length)


@pytest.mark.parametrize("task", CHOICES)
@pytest.mark.parametrize("token", [None, ord("e"), ord(")"), ord(" "), 7])
def test_who_does_not_know_is_at_chance(task: str, token: int | None, own: Tokenizer, part: TokenFile) -> None:
    scorer = Uniform(own.vocab) if token is None else Constant(own.vocab, token)
    asked = questions(task, own, part, 600, 17)
    assert chance(asked) == 0.25
    answers = answer(scorer, asked)
    for right in (answers.right, answers.by_length):
        if right:
            interval = wilson_interval(sum(right), len(right), 0.999)
            assert interval.low <= 0.25 <= interval.high, sum(right) / len(right)


def test_the_best_constant_answer_has_the_chance_of_exact_matches(own: Tokenizer, part: TokenFile) -> None:
    words = questions("continuation", own, part, 60)
    letters = [Question(one.context[-5:], (one.options[0][1:2],), 0) for one in words]  # after the space
    shares = [sum(answer(Constant(own.vocab, token), letters).right) / 60 for token in b"abcdefghijklmnopqrstuvwxyz"]
    assert max(shares) == chance(letters) > 0.2
    assert chance(words) < 0.2
    assert not any(answer(Uniform(own.vocab), [*words, *letters]).right)


@pytest.mark.parametrize("context", [16, 17, 64, 200, 700])
def test_contexts_have_the_length_that_was_asked_for(context: int, own: Tokenizer, part: TokenFile) -> None:
    for task in ("induction", "associative_recall", "bracket_depth", "word_order"):
        asked = questions(task, own, part, 20, context)
        sizes = {len(one.context) for one in asked}
        assert max(sizes) <= context
        assert min(sizes) >= context - 1  # brackets and pairs come in twos
        assert all(len(one.options) == 4 and len(set(one.options)) == 4 for one in asked)


def test_induction_asks_after_a_token_that_stood_there_once(own: Tokenizer, part: TokenFile) -> None:
    for one in questions("induction", own, part, 50, 100):
        *before, query = one.context
        assert before.count(query) == 1
        place = before.index(query)
        assert one.options[one.right] == (before[place + 1],)
        assert before[1 : place + 1] == [*before[len(before) - place + 1 :], query]
        assert all(option[0] in before for option in one.options)


def test_associative_recall_is_at_a_distance(own: Tokenizer, part: TokenFile) -> None:
    for context in (64, 1000):  # more pairs than keys in the second
        for one in questions("associative_recall", own, part, 30, context):
            *before, query = one.context
            assert before.count(query) == 1
            place = before.index(query)
            assert place % 2 == 1  # a key
            assert place < context / 3
            assert one.options[one.right] == (before[place + 1],)
            assert {option[0] for option in one.options} <= set(before[2::2])


def test_brackets_are_left_open_as_deep_as_their_group_says(own: Tokenizer, part: TokenFile) -> None:
    closing = {ord(right): ord(left) for left, right in probes.BRACKETS}
    asked = questions("bracket_depth", own, part, 80, 40)
    assert {one.group for one in asked} == {f"depth_{depth}" for depth in probes.DEPTHS}
    for one in asked:
        opened: list[int] = []
        for token in one.context[1:]:
            if token in closing:
                assert opened.pop() == closing[token]
            else:
                opened.append(token)
        assert len(opened) == int(one.group.removeprefix("depth_"))
        assert one.context[-1] in closing  # the last that was opened is not the last that stands there


def test_word_order_has_the_same_words(own: Tokenizer, part: TokenFile) -> None:
    stream = part.tokens.tolist()
    for one in questions("word_order", own, part, 50, 32):
        assert len({tuple(sorted(option)) for option in one.options}) == 1
        whole = [*one.context, *one.options[one.right]]
        assert any(stream[place : place + len(whole)] == whole for place in range(len(stream)))
        assert part.end_of_document not in one.options[0]


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_says_which_questions(task: str, own: Tokenizer, part: TokenFile) -> None:
    assert questions(task, own, part, 30) == questions(task, own, part, 30)
    assert questions(task, own, part, 30) != questions(task, own, part, 30, seed=1)
    places = [one.right for one in questions(task, own, part, 200)]
    assert len(set(places)) == (1 if task == "continuation" else 4)


def test_a_vocabulary_of_words_will_do(part: TokenFile) -> None:
    words = train_words([text(0)], 330)
    for task in ("induction", "associative_recall", "bracket_depth"):
        asked = questions(task, words, part, 20, 48)
        assert len(asked) == 20
        if task != "bracket_depth":
            assert all(answer(Copying(words.vocab), asked).right)


def test_too_little_text_is_refused(own: Tokenizer, part: TokenFile, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tokens"):
        probes.word_order(part, 100_000, 5, 0)
    short = write_token_file(tmp_path / "short.tokens", [Document("a", "one two three", "")], own)
    for task in (passages.choice, passages.continuation):
        with pytest.raises(DataError, match="too short"):
            task(short, own, 5, 0)
    same = write_token_file(tmp_path / "same.tokens", [Document("a", "a" * 99, "")], own)
    with pytest.raises(DataError, match="four different"):
        probes.word_order(same, 16, 5, 0)


def test_passages_come_from_all_documents_and_distractors_from_others(own: Tokenizer, part: TokenFile) -> None:
    found = passages.passages(part, own, 30, 0, after=8)
    assert len(found) == 30
    assert {one.document for one in found} == set(range(12))
    for one in found:
        assert one.before + one.after in text(one.document)
    asked = passages.choice(part, own, 30, 0)
    for one, passage in zip(asked, found, strict=True):
        texts = [own.decode(option) for option in one.options]
        assert texts[one.right] == passage.after
        assert all(other not in text(passage.document) for place, other in enumerate(texts) if place != one.right)
        assert one.characters == tuple(len(text) - 1 for text in texts)  # without the space that precedes
