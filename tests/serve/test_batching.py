"""Every text of a batch is the one that it has alone, whoever comes and goes beside it."""

import queue
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.evaluate.sample import stream
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.writing import Piece
from bloomery.model.dense import Transformer
from bloomery.serve.batching import Batch, Closed, Event, Failure, Full, Job, Load, Worker
from support.writers import writer

pytestmark = pytest.mark.slow

BYTES = BytesTokenizer()
CONTEXT = 96


class Desk:
    """A worker, and what it has delivered to each job."""

    def __init__(self, slots: int = 4, waiting: int = 100, **models: Transformer) -> None:
        batches = {name: Batch(model, BYTES, slots=slots, context=CONTEXT) for name, model in models.items()}
        self.events: dict[Job, list[Event]] = defaultdict(list)
        self.ended: queue.Queue[Job] = queue.Queue()
        self.worker = Worker(batches, self._deliver, waiting)

    def _deliver(self, events: list[tuple[Job, Event]]) -> None:
        for job, event in events:
            self.events[job].append(event)
            if isinstance(event, Failure) or event.finish:
                self.ended.put(job)

    def job(self, prompt: str, model: str = "one", **wishes: object) -> Job:
        settings = {"max_tokens": 20, "temperature": 1.0} | wishes
        return Job(model, self.worker.batches[model].vocabulary.prompt(prompt), Sampling(**settings))  # type: ignore[arg-type]

    def text(self, job: Job) -> str:
        return "".join(event.text for event in self.events[job] if isinstance(event, Piece))

    def idle(self) -> bool:
        for _ in range(2000):
            if self.worker.load() == Load(0, 0):
                return True
            time.sleep(0.005)
        return False


@contextmanager
def desk(**more: object) -> Iterator[Desk]:
    made = Desk(**more)  # type: ignore[arg-type]
    made.worker.start()
    try:
        yield made
    finally:
        made.worker.stop()


def alone(model: Transformer, prompt: str, sampling: Sampling) -> tuple[str, str | None]:
    pieces = list(stream(model, BYTES, prompt, sampling))
    return "".join(piece.text for piece in pieces), pieces[-1].finish


@pytest.mark.parametrize("seed", [0, 1])
def test_random_arrivals_and_cancellations_change_no_text(seed: int) -> None:
    models, draw = {"one": writer(1), "two": writer(2, attention_window=6)}, random.Random(seed)
    asked: list[tuple[Job, str]] = []
    with desk(**models) as here:
        for number in range(40):
            prompt = "".join(draw.choice("abc\n ") for _ in range(draw.randint(0, 30)))
            job = here.job(
                prompt, draw.choice(["one", "two"]), seed=number, max_tokens=draw.randint(1, 40),
                temperature=draw.choice([0.0, 0.8, 2.0]), top_k=draw.choice([0, 40]),
                repetition_penalty=draw.choice([1.0, 1.2]), stop=draw.choice([(), ("e",), ("\n", "ab")]),
            )  # fmt: skip
            here.worker.submit([job])
            asked.append((job, prompt))
            time.sleep(draw.choice([0, 0, 0.002, 0.01]))
            if draw.random() < 0.25:
                draw.choice(asked)[0].cancel()
        assert here.idle()
    whole = [(job, prompt) for job, prompt in asked if not job.cancelled]
    assert 20 < len(whole) < 40
    for job, prompt in whole:
        last = here.events[job][-1]
        assert isinstance(last, Piece)
        assert (here.text(job), last.finish) == alone(models[job.model], prompt, job.sampling)
    for job, prompt in asked:
        assert alone(models[job.model], prompt, job.sampling)[0].startswith(here.text(job))


def test_the_same_seed_gives_the_same_text_in_any_batch() -> None:
    with desk(one=writer(), slots=8) as here:
        first = [here.job("ore", seed=seed) for seed in range(8)]
        here.worker.submit(first)
        assert here.idle()
        again = [here.job("ore", seed=3), here.job("iron and more iron", seed=1)]
        here.worker.submit(again)
        assert here.idle()
    texts = [here.text(job) for job in first]
    assert len(set(texts)) == 8
    assert here.text(again[0]) == texts[3]


def test_a_model_without_a_cache_of_rows_is_served_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = writer()
    monkeypatch.setattr(Transformer, "rows", lambda self, slots, length: None)
    most = 0
    with desk(one=model, slots=8) as here:
        jobs = [here.job("ore", seed=seed) for seed in range(4)]
        here.worker.submit(jobs)
        while here.ended.qsize() < 4:
            most = max(most, here.worker.load().running)
            time.sleep(0.001)
    assert most == 1
    for job in jobs:
        assert here.text(job) == alone(model, "ore", job.sampling)[0]


def hold(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Models wait at every pass until the event is set."""
    go, forward = threading.Event(), Transformer.forward

    def waiting(self: Transformer, *given: object, **more: object) -> object:
        assert go.wait(30)
        return forward(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Transformer, "forward", waiting)
    return go


def test_the_queue_is_bounded_and_takes_groups_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    go = hold(monkeypatch)
    with desk(one=writer(), slots=2, waiting=3) as here:
        here.worker.submit([here.job("a"), here.job("b")])
        while here.worker.load() != Load(0, 2):  # the first is being read, the second was taken with it
            time.sleep(0.001)
        taken = [here.job("c"), here.job("d"), here.job("e")]
        here.worker.submit(taken[:2])
        with pytest.raises(Full):
            here.worker.submit([here.job("x") for _ in range(4)])
        assert here.worker.load().waiting == 2
        go.set()
        assert here.idle()
        ended = {here.ended.get(timeout=60) for _ in range(4)}  # which may lie there a moment after it is idle
        assert len(ended) == 4
        assert ended >= set(taken[:2])
        assert here.ended.empty()


def test_a_cancelled_job_ends_wherever_it_stands() -> None:
    with desk(one=writer(), slots=1) as here:
        running, waiting, last = (here.job("a", max_tokens=80, max_whitespace=None, seed=s) for s in range(3))
        here.worker.submit([running, waiting, last])
        while not here.events[running]:
            time.sleep(0.001)
        running.cancel()
        waiting.cancel()
        assert here.idle()
    assert here.worker.cancelled == 2
    assert not here.events[waiting]
    assert isinstance(here.events[last][-1], Piece)


def test_a_model_that_breaks_off_ends_its_own_jobs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = writer(1), writer(2)
    forward, broken = Transformer.forward, threading.Event()

    def breaking(self: Transformer, *given: object, **more: object) -> object:
        if self is bad and not broken.is_set():
            broken.set()
            raise RuntimeError("out of something")
        return forward(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Transformer, "forward", breaking)
    with desk(one=good, two=bad) as here:
        jobs = [here.job("a", "two"), here.job("a", "one")]
        here.worker.submit(jobs)
        assert here.idle()
        later = here.job("a", "two")
        here.worker.submit([later])
        assert here.idle()
    assert here.events[jobs[0]] == [Failure("the model broke off: out of something")]
    monkeypatch.undo()
    assert here.text(jobs[1]) == alone(good, "a", jobs[1].sampling)[0]
    assert here.text(later) == alone(bad, "a", later.sampling)[0]


def test_a_stopped_worker_fails_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    go = hold(monkeypatch)
    here = Desk(slots=1, one=writer())
    here.worker.start()
    jobs = [here.job("a", max_tokens=50), here.job("b")]
    here.worker.submit(jobs)
    closing = threading.Thread(target=here.worker.stop)
    closing.start()
    time.sleep(0.05)
    go.set()
    closing.join(10)
    assert all(here.events[job][-1] == Failure("the server is stopping") for job in jobs)
    with pytest.raises(Closed):
        here.worker.submit([here.job("c")])


def test_draws_touch_no_global_generator() -> None:
    torch.manual_seed(9)
    before = torch.get_rng_state()
    with desk(one=writer()) as here:
        torch.manual_seed(9)
        here.worker.submit([here.job("a", seed=s) for s in range(3)])
        assert here.idle()
    assert torch.equal(torch.get_rng_state(), before)
