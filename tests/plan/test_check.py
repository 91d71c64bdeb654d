"""Checks beyond the broken plans: warnings, what is not offered, and the number of walks."""

import math
import sys
import time
from pathlib import Path

import pytest

from bloomery.plan.check import Report, check
from bloomery.plan.check_enough import items_needed
from bloomery.plan.load import load_text

sys.path.insert(0, str(Path(__file__).parent))
from broken import GOOD  # pyright: ignore[reportMissingImports]
from fake_catalogue import FakeCatalogue  # pyright: ignore[reportMissingImports]

JUDGE = "  - id: judge\n    kind: evaluate\n    needs: {model: pretrain}\n"
GATE = '    gate: [{metric: text/perplexity, op: "<", value: 60}]\n'


def report(*edits: tuple[str, str], text: str = GOOD, catalogue: FakeCatalogue | None = None) -> Report:
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return check(load_text(text, Path("plan.yaml")), catalogue or FakeCatalogue())


def the_problem(*edits: tuple[str, str], text: str = GOOD) -> str:
    problems = report(*edits, text=text).problems
    assert len(problems) == 1, "\n".join(map(str, problems))
    return str(problems[0])


def the_warning(*edits: tuple[str, str]) -> str:
    found = report(*edits)
    assert not found.problems, found.problems
    assert len(found.warnings) == 1, "\n".join(map(str, found.warnings))
    return str(found.warnings[0])


def test_checking_takes_less_than_a_second() -> None:
    start = time.process_time()
    report()
    assert time.process_time() - start < 1


def test_walks_are_bounded_by_the_uses_of_the_rules() -> None:
    rules = "      - {name: more, set: {tokens: 2M tok}, from: checkpoint, max_attempts: 3, because: b}\n"
    rules += "      - {name: end, then: stop, because: b}\n"
    assert report((JUDGE, rules + JUDGE)).walks_bound == 1 + 1 + 3


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([("set: {optimizer.lr: 0.04}", "set: {schedule.name: warm_restart}")], "of the control too"),
        ([("{optimizer.lr: 0.04}\n        from: checkpoint", "{optimizer.lr: 0.02}")], "changes nothing"),
        ([("{optimizer.lr: 0.04}", "{stages.judge.seeds: [0]}")], "only stages that come after"),
        (
            [("      - name: plateau", "      - {name: end, then: stop, because: b}\n      - name: plateau")],
            "never reached",
        ),
        ([(GATE, "")], ""),
        ([("suites:\n", "suites:\n  more: {kind: perplexity, data: corpus:dev}\n")], "no stage uses the suite 'more'"),
        ([("baselines: {", "baselines: {tri: {kind: ngram, order: 3}, ")], "'tri', so it is not fitted"),
        ([("stages:\n", "inputs: {base: {run: r/one}}\nstages:\n")], "no stage needs the input 'base'"),
        (
            [("value: 60}", "value: 60}, {metric: cost/wall_seconds, op: '<', value: 9, confidence: 95%}")],
            "3; there are 2",
        ),
        (
            [
                ("data: corpus:val}", "data: corpus:val, items: 50}"),
                ("value: 60}", "value: 60}, {metric: text/accuracy, op: '>=', value: 98%, confidence: 95%}"),
            ],
            "it takes 149",
        ),
    ],
)
def test_warnings_tell_what_to_look_at(edits: list[tuple[str, str]], said: str) -> None:
    if not said:
        assert report(*edits).warnings == ()
        return
    assert said in the_warning(*edits)


@pytest.mark.parametrize(
    ("asked", "warned"),
    [
        ("op: '>', value: 0", False),
        ("op: '==', value: 0", False),
        ("op: '!=', value: 0", False),
        ("op: '>=', value: 0.5", False),
        ("op: '==', value: 1", True),
        ("op: '>=', value: 1", True),
        ("op: '<', value: 1", True),
        ("op: '>', value: 50%", True),
        ("op: '>=', value: 1, aggregate: worst", False),
    ],
)
def test_a_flag_that_one_seed_of_two_raises(asked: str, warned: bool) -> None:
    """One of two seeds diverged: 0.5 is judged as 1 is exactly where nothing is warned about."""
    edit = ('metric: train/plateau, op: ">=", value: 1}', f"metric: train/non_finite, {asked}}}")
    assert ("`> 0` asks whether any seed" in "".join(map(str, report(edit).warnings))) == warned
    assert report(edit, ("seeds: [0, 1]", "seeds: [0]")).warnings == ()


def test_the_control_that_nobody_speaks_of_does_not_run() -> None:
    assert "so it does not run" in the_warning(("relative_to: control", "relative_to: baseline:*"))


@pytest.mark.parametrize("value", [0.5, 0.9, 0.98, 0.995])
@pytest.mark.parametrize("error", [0.05, 0.1, 0.05 / 3])
def test_items_needed_against_a_direct_search(value: float, error: float) -> None:
    """All of n right is as likely as value^n under the threshold: the fewest n that make that unlikely."""
    n = next(n for n in range(1, 10_000) if value**n <= error * (1 + 1e-9))
    assert items_needed(value, error, upper=False) == n
    assert items_needed(1 - value, error, upper=True) == n


def test_a_published_sample_size() -> None:
    """Zero failures in 59 trials shows 95 % reliability at 95 % confidence (the rule of three, exact)."""
    assert items_needed(0.95, 0.05, upper=False) == 59
    assert math.ceil(3 / 0.05) == 60


def test_the_whole_grammar_is_runnable() -> None:
    later = (
        JUDGE
        + "    arms: {a: {}, b: {}}\n    candidate: a\n    sweep: {}\n    control: {set: {}}\n"
        + '    stop_if: [{metric: quality/score, op: "<", value: 0}]\n'
        + "  - {id: loop, repeat: 2, needs: {model: judge}, stages: [\n"
        + "      {id: inner, kind: evaluate, needs: {model: loop}}]}\n"
        + "  - {id: last, kind: evaluate, needs: {model: judge@a}}\n"
        + "claims:\n  - {id: c, says: s, source: t, gate: [\n"
        + '      {of: stage:judge@b, metric: text/loss, relative_to: control, op: "<", value: 1}]}\n'
    )
    found = report((JUDGE + GATE, later), ("hypothesis:", "fraction: 1/2\nhypothesis:"))
    assert found.problems == found.not_offered == ()


def test_alternatives_the_worst_seed_and_an_optional_stage_are_no_mistakes() -> None:
    gate = GATE.replace("[{", "[{any: [{").replace(
        "60}]", "60}]}, {metric: text/loss, op: '<', value: 9, aggregate: worst}]"
    )
    found = report((GATE, gate + "    optional: true\n"))
    assert found.problems == ()


def test_what_nothing_offers_is_a_list_of_its_own() -> None:
    found = report(
        ("    kind: evaluate", "    kind: felix/ensemble"),
        ("kind: perplexity", "kind: gauntlet"),
        ("kind: ngram, order: 2", "kind: kneser_ney"),
        ("source: stdlib", "source: felix/worlds"),
    )
    assert found.problems == ()
    assert [str(note).split(" '")[1].split("'")[0] for note in found.not_offered] == [
        "kneser_ney", "felix/worlds", "gauntlet", "felix/ensemble",
    ]  # fmt: skip
    assert "is not offered by any installed system" in str(found.not_offered[0])


def test_a_plan_for_a_system_that_is_not_there_has_one_finding() -> None:
    found = report(("system: harmonic", "system: felix"), ("{layers: 4, width: 256}", "{surfaces: 3}"))
    assert found.problems == ()
    assert len(found.not_offered) == 1
    assert "did you mean 'harmonic'?" in the_problem(("system: harmonic", "system: harmonik"))


def test_levels_are_different_kinds_and_no_typos() -> None:
    class Levels(FakeCatalogue):
        def kinds(self):
            return {**super().kinds(), "harmonic/to_l2": super().kinds()["evaluate"]}

    text = GOOD.replace("kind: evaluate", "kind: harmonic/to_l3")
    found = check(load_text(text, Path("plan.yaml")), Levels())
    assert found.problems == ()
    assert len(found.not_offered) == 1


@pytest.mark.parametrize(
    ("needs", "optional", "said"),
    [
        ("model: middle", False, ""),
        ("model: middle, won: middle.passed", False, "may be absent"),
        ("model: middle, won: middle.passed", True, ""),
        ("model: first, won: middle.passed", False, "may be absent"),
    ],
)
def test_what_may_be_absent_needs_an_optional_stage(needs: str, optional: bool, said: str) -> None:
    middle = "  - {id: middle, kind: evaluate, needs: {model: first}, optional: true}\n"
    last = f"  - {{id: last, kind: evaluate, needs: {{{needs}}}, optional: {str(optional).lower()}}}\n"
    text = (
        GOOD.replace("  - id: pretrain", "  - id: first").replace("{model: pretrain}", "{model: first}") + middle + last
    )
    found = report(text=text)
    assert bool(found.problems) == bool(said)
    if said:
        assert said in str(found.problems[0])


def test_a_loop_hands_on_what_it_carries_and_hides_what_is_inside() -> None:
    loop = "  - {id: loop, repeat: 2, needs: {model: judge}, stages: [\n"
    loop += "      {id: inner, kind: evaluate, needs: {model: loop}}]}\n"
    good = "  - {id: last, kind: evaluate, needs: {model: loop}}\n"
    assert report(text=GOOD + loop + good).problems == ()
    bad = good.replace("model: loop", "model: inner")
    assert "inside the loop 'loop'" in the_problem(text=GOOD + loop + bad)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("value: 1.00}\n      - {metric: text/loss, r", "value: -1}\n      - {metric: text/loss, r"), "a ratio <= -1"),
        (("value: 60}", "value: 60, confidence: 20%}"), "more than 50%"),
        (("value: 60}", "value: 60, as: difference}"), "`as` without `relative_to`"),
        (('op: "<", value: 60}', 'op: "==", value: 60, confidence: 95%}'), "a confidence for '=='"),
        (("value: 60}", "value: 60, of: arm:x}"), "has no arm 'x'"),
        (("value: 60}", "value: 60, of: everybody}"), "is nobody"),
        (("text/perplexity,", "train/loss, relative_to: stage:pretrain,"), "nothing measures train/loss"),
        (("relative_to: control", "relative_to: arm:big"), "has no arm 'big'"),
        (("kind: ngram, order: 2", "kind: ngram, ordre: 2"), "did you mean 'order'?"),
        (("suites:\n", "suites:\n  more: {kind: perplexity, data: corpus, through: [flaot]}\n"), "mean 'float'?"),
        (("suites:\n", "suites:\n  more: {kind: perplexity, data: corpus, through: [q8_0, q8_0]}\n"), "second time"),
        (("vocab: 2048}", "vocab: 2048}\n  more: {source: stdlibb}"), "did you mean 'stdlib'?"),
        (("seeds: [0, 1]", "seeds: [0, 0]"), "a second time"),
        (("stages:\n", "inputs: {base: {file: a, folder: b}}\nstages:\n"), "exactly one of"),
        (("from: checkpoint", "then: stop"), "both `set` and `then`"),
        (("lr: 0.06", "lrr: 0.06"), "lrr"),
        (("set: {optimizer.lr: 0.06}", "set: {optimizer.lr: fast}"), "'fast'"),
        ((GATE, "    budget: {tokens: 40M tok}\n"), "the plan's own cap"),
        ((GATE, "    sweep: {optimizer.lr: [1]}\n    select: {lowest: quality/score}\n"), "unknown key"),
        ((GATE, "    candidate: best\n"), "no arm 'best'"),
        (
            (GATE, GATE + "    on_fail: [{name: x, then: stop, because: b}, {name: x, then: stop, because: b}]\n"),
            "second rule",
        ),
    ],
)
def test_further_mistakes(edit: tuple[str, str], said: str) -> None:
    assert said in the_problem(edit)


CODED = (
    ("corpus:val}", "corpus:val, through: [float, q4_0]}"),
    ("metric: text/loss, relative_to: control", "metric: text/*/loss, relative_to: control"),
    ('      - {metric: text/loss, relative_to: baseline:bigram, op: "<", value: 1.00}\n', ""),
    ("baselines: {bigram: {kind: ngram, order: 2}}\n", ""),
)


def test_a_suite_through_codecs_has_one_name_for_each() -> None:
    for metric in ("text/q4_0/perplexity", "text/*/perplexity", "text/float/perplexity/max"):
        found = report(*CODED, ("text/perplexity", metric))
        assert found.problems == found.not_offered == (), metric
    for metric in ("text/q8_0/perplexity", "text/*/loss/perplexity", "text/perplexity"):
        said = the_problem(*CODED, ("text/perplexity", metric))
        assert "the suite 'text' does not measure" in said
        assert "text/float/perplexity, text/q4_0/accuracy" in said
    assert "did you mean 'text/float/perplexity'?" in the_problem(*CODED, ("text/perplexity", "text/flot/perplexity"))


def test_a_codec_that_nothing_installed_brings_is_not_offered() -> None:
    found = report(*CODED, ("[float, q4_0]", "[float, rq4, q4_1]"), ("text/perplexity", "text/rq4/perplexity"))
    assert found.problems == ()
    assert ["codec 'rq4' is not offered" in str(note) for note in found.not_offered] == [True, False]


def test_what_cannot_be_packed_is_not_compared_through_a_codec() -> None:
    """`baseline:*` has every baseline in it; a suite without `through` may judge them still."""

    class Packs(FakeCatalogue):
        def packable_baselines(self):
            return ("ngram",)

    for whom in ("bigram", "*"):
        edits = (
            ("corpus:val}", "corpus:val, through: [q4_0]}\n  plain: {kind: perplexity, data: corpus:val}"),
            ("metric: text/loss, relative_to: control", "metric: plain/loss, relative_to: control"),
            ("metric: text/loss, relative_to: baseline:bigram", f"metric: text/*/loss, relative_to: baseline:{whom}"),
            ("text/perplexity", "text/q4_0/perplexity"),
        )
        said = the_problem(*edits)
        assert "the baseline 'bigram' (ngram) cannot be packed" in said
        assert "without `through`" in said
        assert report(*edits, catalogue=Packs()).problems == ()
        assert report(*edits, ("metric: text/*/loss", "metric: plain/loss")).problems == ()


def test_patches_that_something_stronger_hides_are_refused() -> None:
    arms = "    arms: {a: {set: {optimizer.lr: 1}}, b: {}}\n    gate:"
    assert "hidden by the arm 'a'" in the_problem(("    gate:", arms))
    assert (
        report(
            ("    gate:", arms.replace("a: {set: {optimizer.lr: 1}}, b: {}", "b: {}, a: {set: {optimizer.lr: 1}}"))
        ).problems
        == ()
    )
    sweep = "    sweep: {optimizer: [{lr: 1}]}\n    select: {lowest: val/loss}\n    gate:"
    assert "hidden by the sweep" in the_problem(("    gate:", sweep))


def test_wildcards_match_one_segment_of_something_declared() -> None:
    assert report(("text/perplexity,", "text/*,")).problems == ()
    assert "does not measure text/*/loss" in the_problem(("text/perplexity,", "text/*/loss,"))
    assert "no metric name" in the_problem(("text/perplexity,", '"*/loss",'))
    assert report(("text/perplexity,", "text/perplexity/max,")).problems == ()


@pytest.mark.parametrize(
    ("key", "said"), [("model.width", "undo its match"), ("batch", "of its own"), ("context", "of its own")]
)
def test_a_control_that_undoes_the_twin_or_reads_other_rows_is_refused(key: str, said: str) -> None:
    found = report(("set: {optimizer.lr: 0.06}", f"set: {{{key}: 64}}"))
    assert any(said in str(problem) and key in str(problem) for problem in found.problems)
