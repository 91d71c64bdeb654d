"""The harness through our adapter: the numbers of its own HFLM on the same weights, and chance for no knowledge."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.data.tokenizer import BytesTokenizer, FastTokenizer, train_bpe
from bloomery.errors import DataError
from bloomery.evaluate import lmeval
from bloomery.evaluate.lmeval_files import read, subjects
from bloomery.evaluate.lmeval_model import Usage, adapter, greedy
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from support import published
from support.real import ABSENT, REAL

pytest.importorskip("lm_eval", reason="lm-eval is not installed (pip install -e '.[eval]')")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the harness and what it brings
lmeval.check_installed()

WINDOW = 512
CHOICES = ("mmlu", "hellaswag", "arc_challenge", "truthfulqa", "winogrande")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published.write(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="module")
def tokenizer() -> FastTokenizer:
    files = sorted(Path(lmeval.__file__).parents[1].rglob("*.py"))[:60]
    return train_bpe((file.read_text() for file in files), 600)


# Against HFLM


class Logprobs:
    """The same Llama as a scorer without a state."""

    def __init__(self, llama: Any) -> None:
        self.llama, self.vocab = llama, llama.config.vocab_size

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.llama(tokens).logits.float(), dim=-1)


def as_transformer(llama: Any) -> Transformer:
    """The weights of a Hugging Face Llama in our own model."""
    given = llama.config
    config = DenseConfig(
        layers=given.num_hidden_layers, width=given.hidden_size, heads=given.num_attention_heads,
        kv_heads=given.num_key_value_heads, feed_forward=given.intermediate_size, norm_epsilon=given.rms_norm_eps,
        tie_embeddings=False,
    )  # fmt: skip
    names = {
        "model.embed_tokens.weight": "embedding", "lm_head.weight": "head", "model.norm": "norm",
        "model.layers": "blocks", "self_attn": "attention", "mlp": "feed_forward", "input_layernorm": "attention_norm",
        "post_attention_layernorm": "feed_forward_norm", "q_proj": "query", "k_proj": "key", "v_proj": "value",
        "o_proj": "output", "gate_proj": "gate", "up_proj": "up", "down_proj": "down",
    }  # fmt: skip
    renamed = {}
    for name, weight in llama.state_dict().items():
        for theirs in sorted(names, key=len, reverse=True):
            name = name.replace(theirs, names[theirs])
        renamed[name] = weight
    model = Transformer(config, given.vocab_size)
    model.load_state_dict(renamed, strict=True)
    return model.eval()


@pytest.fixture(scope="module")
def models(tokenizer: FastTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """HFLM, our model with a cache, and a scorer without: one tiny random Llama."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed (pip install 'lm-eval[hf]')")
    from lm_eval.models.huggingface import HFLM

    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=False,
        initializer_range=0.1, bos_token_id=None, eos_token_id=tokenizer.end_of_document, pad_token_id=None,
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(shape).eval()
    place = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(place)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(place / "tokenizer.json"), eos_token="<|end_of_document|>"
    )
    return {
        "hflm": HFLM(pretrained=llama, tokenizer=theirs, batch_size=8, max_length=WINDOW, device="cpu"),
        "cached": adapter(as_transformer(llama), tokenizer, window=WINDOW),
        "plain": adapter(Logprobs(llama), tokenizer, window=WINDOW),
    }


def answers(model: Any, task: str, place: Path, shots: int, limit: int) -> list[dict[str, Any]]:
    built = {part: lmeval.build(part, place, shots) for part in lmeval.parts_of(task, place)}
    return [sample for samples in lmeval.evaluate(model, built, limit).values() for sample in samples]


def assert_same(models: Mapping[str, Any], task: str, place: Path, shots: int, limit: int) -> None:
    theirs = answers(models["hflm"], task, place, shots, limit)
    assert len(theirs) >= min(limit, 5)
    for name in ("cached", "plain"):
        ours = answers(models[name], task, place, shots, limit)
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert mine["arguments"] == other["arguments"]
            for (ours_says, ours_greedy), (theirs_says, theirs_greedy) in zip(
                mine["filtered_resps"], other["filtered_resps"], strict=True
            ):
                assert ours_says == pytest.approx(theirs_says, rel=1e-5)
                assert ours_greedy == theirs_greedy
            for metric in other["metrics"]:
                assert mine[metric] == pytest.approx(other[metric], rel=1e-4)


SAMPLES = [
    ("mmlu_anatomy", "mmlu", 5, 12),
    ("hellaswag", "hellaswag", 0, 12),
    ("hellaswag", "hellaswag", 3, 6),
    ("arc_challenge", "arc_challenge", 5, 12),
    ("truthfulqa_mc1", "truthfulqa_mc1", 0, 12),
    ("truthfulqa_mc2", "truthfulqa_mc2", 0, 12),
    ("winogrande", "winogrande", 5, 12),
]


@pytest.mark.skipif(not REAL.is_dir(), reason=ABSENT)
@pytest.mark.parametrize(("real", "made_up", "shots", "limit"), SAMPLES)
def test_numbers_equal_hflm_on_published_questions(
    models: Mapping[str, Any], real: str, made_up: str, shots: int, limit: int
) -> None:
    assert_same(models, real, REAL, shots, limit)


@pytest.mark.parametrize(("real", "made_up", "shots", "limit"), SAMPLES)
def test_numbers_equal_hflm_on_made_up_questions(
    models: Mapping[str, Any], folder: Path, real: str, made_up: str, shots: int, limit: int
) -> None:
    assert_same(models, made_up, folder, shots, limit)


def test_generated_text_and_rolling_likelihoods_equal_hflm(
    models: Mapping[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [answers(models[name], "gsm8k", folder, 2, 3) for name in ("hflm", "cached", "plain")]
    assert [len(found) for found in texts] == [6, 6, 6]  # twice, for each of the filters
    for mine, other, third in zip(*texts, strict=True):
        assert mine["resps"] == other["resps"] == third["resps"]
        assert len(mine["resps"][0][0]) > 50  # a text, whatever pieces the tokenizer of our own pages has

    class Asked:
        args = (Path(lmeval.__file__).read_text(),)

    monkeypatch.setenv("TQDM_DISABLE", "1")
    (theirs,) = models["hflm"].loglikelihood_rolling([Asked()], disable_tqdm=True)
    for name in ("cached", "plain"):
        (mine,) = models[name].loglikelihood_rolling([Asked()])
        assert mine == pytest.approx(theirs, rel=1e-5)


# What is asked


class Peaked:
    """Nearly always the same byte."""

    vocab = 257

    def __init__(self, byte: str | None) -> None:
        scores = torch.zeros(257, dtype=torch.float64)
        if byte is not None:
            scores[ord(byte)] = 5.0
        self.row = torch.log_softmax(scores, dim=0)

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.row.expand(*tokens.shape, 257)


def test_an_mmlu_prompt_is_the_published_one(folder: Path) -> None:
    sample = answers(adapter(Peaked(None), BytesTokenizer(), window=4000), "mmlu", folder, 1, 1)[0]
    options = "A. one\nB. two\nC. three\nD. four, or so\nAnswer:"
    context, continuation = sample["arguments"][2]
    assert continuation == " C"
    assert context.endswith(f"In anatomy, what is dev 0?\n{options} A\n\nIn anatomy, what is test 0?\n{options}")


def outcomes(scorer: Any, place: Path, tasks: tuple[str, ...] = CHOICES, **more: Any) -> dict[tuple[str, str], Any]:
    found, _ = lmeval.run(scorer, BytesTokenizer(), tasks, folder=place, shots={}, window=4000, **more)
    return {(one.task, one.metric): one for one in found}


def mean(outcome: Any) -> float:
    return math.fsum(outcome.values) / len(outcome.values)


def test_mmlu_is_the_mean_over_all_questions_of_all_subjects(folder: Path) -> None:
    whole = outcomes(Peaked("B"), folder, ("mmlu",))["mmlu", "accuracy"]
    parts = outcomes(Peaked("B"), folder, ("mmlu_anatomy", "mmlu_astronomy"))
    assert whole.values == parts["mmlu_anatomy", "accuracy"].values + parts["mmlu_astronomy", "accuracy"].values
    assert whole.values == (0.0, 1.0, 0.0, 0.0) * 4


def test_the_same_questions_have_the_same_key_and_others_do_not(folder: Path) -> None:
    one, two = (outcomes(Peaked(byte), folder, ("winogrande",))["winogrande", "accuracy"] for byte in "AB")
    assert one.key == two.key
    assert outcomes(Peaked("A"), folder, ("winogrande",), limit=5)["winogrande", "accuracy"].key != one.key
    shots, _ = lmeval.run(
        Peaked("A"), BytesTokenizer(), ("winogrande",), folder=folder, shots={"winogrande": 2}, window=4000
    )
    assert shots[0].key != one.key


def test_what_the_window_cuts_is_counted(folder: Path) -> None:
    found, usage = lmeval.run(Peaked("A"), BytesTokenizer(), ("mmlu",), folder=folder, shots={"mmlu": 5}, window=400)
    assert len(found[0].values) == 16
    assert usage.truncated == usage.requests == 64
    assert not lmeval.run(Peaked("A"), BytesTokenizer(), ("mmlu",), folder=folder, shots={}, window=400)[1].truncated


@pytest.mark.parametrize(
    ("task", "shots", "message"),
    [
        ("mmlu_anatomy", 6, "5 rows to take 6"),
        ("hellaswag", 9, "9 rows to take 9"),
        ("truthfulqa", 1, "its prompt brings its own"),
        ("humaneval", 1, "its prompt brings its own"),
        ("mmlu_nothing", 0, "no mmlu_nothing|no nothing|no task"),
    ],
)
def test_what_cannot_be_asked_is_refused(folder: Path, task: str, shots: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        lmeval.run(Peaked("A"), BytesTokenizer(), (task,), folder=folder, shots={task: shots}, window=400)


def test_a_hub_that_cannot_be_reached_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="lm-eval task winogrande: cannot be set up") as said:
        lmeval.build("winogrande", None, 0)
    assert "folder" in said.value.hint


# The adapter


def test_an_empty_context_is_the_end_of_a_document_and_spaces_move_over() -> None:
    torch.manual_seed(0)
    model = Transformer(DenseConfig(layers=1, width=16, heads=2), 257)

    class Asked:
        def __init__(self, *args: str) -> None:
            self.args = args

    ours = adapter(model, BytesTokenizer(), window=64)
    (empty,), (spaced,) = ours.loglikelihood([Asked("", "ab")]), ours.loglikelihood([Asked("a ", "b")])
    with torch.inference_mode():
        first = torch.log_softmax(model(torch.tensor([[256, 97]])).logits[0], -1)
        second = torch.log_softmax(model(torch.tensor([[97, 32]])).logits[0], -1)
    assert empty[0] == pytest.approx(float(first[0, 97] + first[1, 98]), abs=1e-6)
    assert spaced[0] == pytest.approx(float(second[0, 32] + second[1, 98]), abs=1e-6)


def test_generation_stops_where_it_is_told_to_and_refuses_to_sample() -> None:
    class Loop:
        """`ab.` for ever, then the end of a document after nine."""

        vocab = 257

        def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
            length = tokens.shape[1]
            token = 256 if length > 9 else ord("ab."[length % 3])
            return torch.nn.functional.one_hot(torch.full(tokens.shape, token), 257).double().log_softmax(-1)

    class Asked:
        def __init__(self, settings: dict[str, Any]) -> None:
            self.args = ("xyz", settings)

    ours = adapter(Loop(), BytesTokenizer(), window=32, new_tokens=20)
    wishes = [{"until": ["b."]}, {"until": "."}, {"until": []}, {"until": ["q"], "max_gen_toks": 4}]
    assert ours.generate_until([Asked(wish) for wish in wishes]) == ["a", "ab", "ab.ab.a", "ab.a"]
    with pytest.raises(DataError, match="samples"):
        ours.generate_until([Asked({"do_sample": True})])
    assert adapter(Loop(), BytesTokenizer(), window=8).generate_until([Asked({})]) == ["ab.a"]  # half of the window


def test_humaneval_is_judged_in_the_sandbox_by_what_the_functions_do(folder: Path) -> None:
    """A scorer that has learned two of three solutions by heart, and for the third one that exits."""
    rows = read("humaneval", folder)["test"]
    endings = ["    return x + 0\n", "    return 1 + x\n", "    raise SystemExit(0)\n"]
    known = [(row["prompt"] + ending).encode() + bytes([0]) for row, ending in zip(rows, endings, strict=True)]

    class ByHeart:
        vocab = 257

        def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
            length = tokens.shape[1]
            text = bytes(tokens[0].tolist())
            (whole,) = [one for one in known if one.startswith(text)]
            token = whole[length] or 256
            return torch.nn.functional.one_hot(torch.full(tokens.shape, token), 257).double().log_softmax(-1)

    found = outcomes(ByHeart(), folder, ("humaneval",))
    assert found["humaneval", "pass_rate"].values == (1.0, 1.0, 0.0)


def test_greedy_text_is_the_same_with_a_cache_and_without() -> None:
    torch.manual_seed(2)
    model = Transformer(DenseConfig(layers=2, width=32, heads=2), 60, compute_dtype=torch.float64).double()

    class Whole:
        vocab = 60

        def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.log_softmax(model(tokens).logits, dim=-1)

    assert list(greedy(model, [1, 2, 3], 20, 60)) == list(greedy(Whole(), [1, 2, 3], 20, 60))


def test_a_tokenizer_with_more_ids_than_the_model_is_refused() -> None:
    class Small(Peaked):
        vocab = 200

    with pytest.raises(DataError, match="257 ids"):
        adapter(Small("A"), BytesTokenizer(), window=8)


def test_shared_beginnings_are_read_once(folder: Path) -> None:
    """Five examples and eight questions of a subject: less than a tenth of one pass a request."""
    torch.manual_seed(0)
    model = Transformer(DenseConfig(layers=1, width=16, heads=2), 257)
    one_by_one, usage = Usage(), Usage()
    for counted, scorer in ((usage, model), (one_by_one, Peaked("A"))):
        built = {"mmlu_anatomy": lmeval.build("mmlu_anatomy", folder, 5)}
        samples = lmeval.evaluate(adapter(scorer, BytesTokenizer(), window=4000, usage=counted), built, None)
    contexts = [context for sample in samples["mmlu_anatomy"] for context, _ in sample["arguments"]]
    each = [len((context + " A").encode()) - 1 for context in contexts]
    assert usage.requests == len(each) == 32
    assert usage.tokens * 10 < sum(each)


# Chance


def chance(rows: list[dict[str, Any]], task: str, metric: str) -> float:
    """What guessing gets: one choice among its choices, or for mc2 the share of right ones among them."""
    match task, metric:
        case "truthfulqa", "mc1":
            shares = [1 / len(row["mc1_targets"]["labels"]) for row in rows]
        case "truthfulqa", _:
            shares = [sum(row["mc2_targets"]["labels"]) / len(row["mc2_targets"]["labels"]) for row in rows]
        case "winogrande", _:
            shares = [0.5 for _ in rows]
        case "arc_challenge", _:
            shares = [1 / len(row["choices"]["text"]) for row in rows]
        case _:
            shares = [0.25 for _ in rows]
    return math.fsum(shares) / len(shares)


def judged(task: str) -> list[dict[str, Any]]:
    parts = [f"mmlu_{subject}" for subject in subjects(REAL)] if task == "mmlu" else lmeval.parts_of(task, REAL)[:1]
    found = [read(part, REAL) for part in parts]
    return [row for splits in found for row in splits.get("test", splits.get("validation", []))]


def interval(values: tuple[float, ...]) -> tuple[float, float]:
    """Wilson for yes and no, normal for shares; written out here, independent of the engine's."""
    n, share, z = len(values), math.fsum(values) / len(values), 1.959964
    if set(values) <= {0.0, 1.0}:
        centre, half = (share + z * z / (2 * n)), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    error = math.sqrt(math.fsum((value - share) ** 2 for value in values) / (n - 1) / n)
    return share - z * error, share + z * error


@pytest.mark.skipif(not REAL.is_dir(), reason=ABSENT)
@pytest.mark.parametrize("scorer", [None, "A", "B"], ids=["uniform", "always A", "always B"])
def test_knowing_nothing_is_chance_in_every_multiple_choice_task(scorer: str | None) -> None:
    """But for ARC's accuracy: a sum over tokens favours the shortest choice, which is wrong there more often than not.
    That is a property of the questions, counted here on its own, and accuracy_norm is at chance."""
    for (task, metric), outcome in outcomes(Peaked(scorer), REAL).items():
        rows = judged(task)
        assert len(outcome.values) == len(rows)
        low, high = interval(outcome.values)
        if (task, metric) == ("arc_challenge", "accuracy"):
            lengths = [[len(text.encode()) for text in row["choices"]["text"]] for row in rows]
            right = [row["choices"]["label"].index(row["answerKey"]) for row in rows]
            shortest = [float(each.index(min(each)) == gold) for each, gold in zip(lengths, right, strict=True)]
            assert mean(outcome) == pytest.approx(math.fsum(shortest) / len(shortest), abs=0.01)
            assert mean(outcome) < chance(rows, task, metric)
        else:
            assert low <= chance(rows, task, metric) <= high, (task, metric, mean(outcome))
