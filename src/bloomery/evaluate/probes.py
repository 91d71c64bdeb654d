"""Questions made of a model's own tokens: they need no language, only memory, and so suit any model of any size.

    induction           a random sequence, repeated up to a token that it holds once: what came after it there?
    associative_recall  key value key value ... key: the value of that key, whose pair stands in the first quarter
    bracket_depth       brackets of four kinds, some left open, the last with closed ones inside: what closes it?
    word_order          eight tokens of held-out text after their context: as they stood, or one of three shuffles?

Every question has four options, so chance is 25 %, and the right one stands at a random place. `context` counts all
tokens before the answer. Options are drawn as the right answer is, so no count of tokens tells them apart. Everything
is a pure function of vocabulary, text, context, count and seed. Refuses a vocabulary or a text that is too small.

Induction: Olsson et al. 2022, arXiv:2209.11895. Associative recall: Arora et al. 2023, arXiv:2312.04927.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from bloomery.data.tokenizer import Tokenizer
from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError
from bloomery.evaluate.questions import Ids, Question

OPTIONS = 4
SHORTEST_CONTEXT = 16
DEPTHS = (1, 2, 4, 8)
BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"), ("<", ">"))
SPAN = 8
_FEWEST_SYMBOLS = 16


def symbols(tokenizer: Tokenizer) -> Ids:
    """The ids that stand for some text. Raises DataError where they are too few to ask with."""
    end = tokenizer.end_of_document
    found = tuple(token for token in range(tokenizer.vocab) if token != end and tokenizer.decode([token]))
    if len(found) < _FEWEST_SYMBOLS:
        raise DataError("tokenizer", f"{len(found)} ids that stand for text", f"at least {_FEWEST_SYMBOLS}")
    return found


def induction(tokenizer: Tokenizer, context: int, count: int, seed: int) -> list[Question]:
    known = symbols(tokenizer)
    draw = random.Random(f"induction {seed} {context}")
    questions: list[Question] = []
    while len(questions) < count:
        length = draw.randint((context + 1) // 2, context * 3 // 4)
        repeated = context - 1 - length
        query = draw.choice(known)
        sequence = [_other(draw, known, (query,)) for _ in range(length)]
        sequence[repeated - 1] = query
        right = sequence[repeated]
        wrong = _drawn(draw, sequence, (query, right))
        if wrong is not None:
            tokens = (tokenizer.end_of_document, *sequence, *sequence[:repeated])
            questions.append(_placed(draw, tokens, (right,), [(token,) for token in wrong]))
    return questions


def associative_recall(tokenizer: Tokenizer, context: int, count: int, seed: int) -> list[Question]:
    known = symbols(tokenizer)
    draw = random.Random(f"associative_recall {seed} {context}")
    pairs = (context - 2) // 2
    questions: list[Question] = []
    while len(questions) < count:
        shuffled = draw.sample(known, min(len(known), 2 * pairs))
        keys, values = shuffled[::2], shuffled[1::2]
        query = keys[0]
        asked = draw.randrange(max(1, pairs // 4))
        left = list(keys) if len(keys) == pairs else [_other(draw, keys, (query,)) for _ in range(pairs)]
        place = left.index(query) if query in left else asked
        left[place], left[asked] = left[asked], query
        right_side = [draw.choice(values) for _ in range(pairs)]
        wrong = _drawn(draw, right_side, (right_side[asked],))
        if wrong is not None:
            tokens = [token for pair in zip(left, right_side, strict=True) for token in pair]
            whole = (tokenizer.end_of_document, *tokens, query)
            questions.append(_placed(draw, whole, (right_side[asked],), [(token,) for token in wrong]))
    return questions


def bracket_depth(tokenizer: Tokenizer, context: int, count: int, seed: int) -> list[Question]:
    """As many questions of every depth that fits into the context, each in a group `depth_D`."""
    kinds = [tuple(tuple(int(token) for token in tokenizer.encode(side)) for side in pair) for pair in BRACKETS]
    draw = random.Random(f"bracket_depth {seed} {context}")
    depths = [depth for depth in DEPTHS if depth + 3 <= context]
    questions: list[Question] = []
    for number in range(count):
        depth = depths[number % len(depths)]
        closed = (context - 1 - depth) // 2
        cuts = sorted(draw.randint(0, closed - 1) for _ in range(depth - 1))  # the last holds one pair at least
        sizes = [stop - start for start, stop in zip([0, *cuts], [*cuts, closed], strict=True)]
        tokens: list[int] = [tokenizer.end_of_document]
        kind = 0
        for size in sizes:
            kind = draw.randrange(len(kinds))
            tokens += kinds[kind][0]
            for side, which in _balanced(draw, size, len(kinds)):
                tokens += kinds[which][side]
        wrong = [kinds[other][1] for other in range(len(kinds)) if other != kind]
        questions.append(_placed(draw, tuple(tokens), kinds[kind][1], wrong, f"depth_{depth}"))
    return questions


def word_order(part: TokenFile, context: int, count: int, seed: int) -> list[Question]:
    """Raises DataError where the part has not enough text for the context."""
    draw = random.Random(f"word_order {seed} {context}")
    questions: list[Question] = []
    last = len(part) - SPAN
    tries = 0
    while len(questions) < count:
        tries += 1
        if last < context or tries > 200 * count:
            expected = f"at least {context + SPAN}, and stretches of {SPAN} with four different ones"
            raise DataError(str(part.path), f"{len(part)} tokens", expected, "a shorter context, or another part")
        start = draw.randint(context, last)
        span = tuple(int(token) for token in part.tokens[start : start + SPAN])
        if part.end_of_document in span or len(set(span)) < OPTIONS:
            continue
        wrong: list[Ids] = []
        while len(wrong) < OPTIONS - 1:
            shuffled = tuple(draw.sample(span, SPAN))
            if shuffled != span and shuffled not in wrong:
                wrong.append(shuffled)
        before = tuple(int(token) for token in part.tokens[start - context : start])
        questions.append(_placed(draw, before, span, wrong))
    return questions


SYNTHETIC: dict[str, Callable[[Tokenizer, int, int, int], list[Question]]] = {
    "induction": induction,
    "associative_recall": associative_recall,
    "bracket_depth": bracket_depth,
}


def _other(draw: random.Random, among: Sequence[int], but: Ids) -> int:
    while (token := draw.choice(among)) in but:
        pass
    return token


def _drawn(draw: random.Random, among: Sequence[int], but: Ids) -> list[int] | None:
    """Three different tokens, each as likely as it is frequent; None where there are not three."""
    if len(set(among) - set(but)) < OPTIONS - 1:
        return None
    found: list[int] = []
    while len(found) < OPTIONS - 1:
        found.append(_other(draw, among, (*but, *found)))
    return found


def _placed(draw: random.Random, context: Ids, right: Ids, wrong: Sequence[Ids], group: str = "") -> Question:
    options = list(draw.sample(list(wrong), len(wrong)))
    place = draw.randint(0, len(options))
    options.insert(place, right)
    return Question(context, tuple(options), place, group=group)


def _balanced(draw: random.Random, pairs: int, kinds: int) -> list[tuple[int, int]]:
    """(0 opens or 1 closes, kind) of a random balanced sequence."""
    found: list[tuple[int, int]] = []
    opened: list[int] = []
    left = pairs
    while left or opened:
        if left and (not opened or draw.random() < 0.5):
            opened.append(draw.randrange(kinds))
            found.append((0, opened[-1]))
            left -= 1
        else:
            found.append((1, opened.pop()))
    return found
