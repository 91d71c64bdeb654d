"""Progress of a run: a live bar for each cell at work in a terminal, plain lines elsewhere. Shown, never stored."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape

from bloomery.cli.bars import Bars
from bloomery.cli.remaining import Remaining
from bloomery.engine.events import Event
from bloomery.plan import cast
from bloomery.plan.schema import Plan
from bloomery.report import parsing, sweeps, wording

MARKS = {"pass": "[green]pass[/]", "fail": "[red]FAIL[/]", "inconclusive": "[yellow]inconclusive[/]"}
ANSWERS = {"supported": "[green]supported[/]", "refuted": "[red]REFUTED[/]", "undecided": "[yellow]undecided[/]"}


class Display:
    """An observer for engine.session: prints what a person wants to know while a plan runs."""

    def __init__(self, console: Console, *, plan: Plan | None = None, wall_cap_seconds: float | None = None) -> None:
        """plan: as it is walked, loops unrolled; it says how many trials and cycles there are."""
        self.console, self._cap = console, wall_cap_seconds
        self._remaining, self._looks = Remaining(), Counter[str]()
        self._plan = {stage.id: stage for stage in plan.stages} if plan is not None else {}
        self._began = time.monotonic()
        self.bars = Bars(console)

    def already(self, events: Iterable[Event]) -> None:
        """What an earlier process has done of this run: it is counted, not printed."""
        for event in events:
            self._count(event)
            if event["event"] == "spent":  # its seconds count against the cap as ours do
                self._began -= event.get("shared_seconds", event.get("seconds", 0.0))

    def __call__(self, event: Event) -> None:
        self._count(event)
        match event["event"]:
            case "progress":
                self._progress(event)
            case "preparing":
                if self.console.is_terminal:
                    self.console.print(f"[dim]data: {escape(str(event.get('text', '')))}[/]")
            case "data_ready":
                self._line(
                    f"data: {event['documents']:,} documents, {event['tokens']:,} tokens ({event['digest'][:10]})"
                )
            case "stage_started":
                self._line(f"[bold]{self._stage(event)}[/] attempt {event['attempt']}: {self._parties(event)}")
            case "twin_solved":
                self._line(
                    f"  control: {_shape(event['patch'])}, {event['off_by']:+.2%} off in {event['match']} parameters"
                )
            case "cell_started" | "cell_finished" | "cell_reused" | "cell_failed":
                self._cell_event(event)
            case "sweep_chosen" | "candidate_chosen":
                self._line(f"  {self._choice(event)}")
            case "packed" if not event.get("repeated"):
                size = f"{event['bytes']:,} bytes, {event['bits_per_weight']:.2f} bits a weight"
                who = wording.party(event["who"])
                self._line(f"  [dim]packed {who} seed {event['seed']} by {event['codec']}: {size}[/]")
            case "evaluating":
                who = wording.party(event["who"])
                self._line(f"  [dim]judging {who} seed {event['seed']} on {event['suite']}[/]")
            case "stage_skipped":
                self._line(f"[bold]{event['stage']}[/]: skipped, {escape(event['why'])}")
            case "note" if not event.get("repeated"):
                self._line(f"  [yellow]note: {escape(event['text'])}[/]")
            case "verdict":
                self.bars.close()
                mark, looks = MARKS.get(event["status"], event["status"]), self._looks[event["stage"]]
                look = f", {wording.ordinal(looks)} look at held-out data" if looks > 1 else ""
                self._line(f"[bold]{self._stage(event)}[/] attempt {event['attempt']}: {mark}{look}")
            case "decision" if event["action"] != "go_on" or event.get("rule"):
                because = f": {escape(event['because'])}" if event.get("because") else ""
                self._line(f"  -> {event['action'].replace('_', ' ')} {escape(event.get('rule', ''))}{because}")
            case "cycle_ended":
                end = "kept" if event["kept"] else f"[yellow]undone[/] at {event.get('at', '')}"
                self._line(f"[bold]{event['stage']}[/]: cycle {event['cycle']} {end}")
            case "loop_ended":
                self._line(f"[bold]{event['stage']}[/]: {event['cycles']} of {event['of']} cycles kept")
            case "claim_judged":
                mark = ANSWERS.get(event["status"], event["status"])
                self._line(f"claim {event['id']}: {mark}, {escape(event['says'])}")
            case _:
                pass

    def close(self) -> None:
        self.bars.close()

    def _count(self, event: Event) -> None:
        self._remaining.take(event)
        if event["event"] == "verdict" and not event.get("repeated"):
            self._looks[event["stage"]] += 1

    def _cell_event(self, event: Event) -> None:
        name = self._cell(event)
        self.bars.drop(name)
        if event["event"] == "cell_started":
            self.bars.begin(name)
        if event["event"] == "cell_finished":
            rate = event["tokens"] / event["seconds"] if event["seconds"] else 0.0
            self._line(
                f"  {name}: done in {event['seconds']:.0f} s, {rate:,.0f} tokens/s, "
                f"weights {event['hashes'].get('weights', '-')[:10]}{self._left(', ')}"
            )
        elif event["event"] == "cell_reused":
            _, attempt, who, _ = event["of"]
            source = f"its trial {int(who.partition('~')[2]) + 1}" if "~" in who else f"attempt {attempt}"
            self._line(f"  {name}: unchanged, taken from {source}")
        elif event["event"] == "cell_failed":
            self._line(f"  [red]{name}: {escape(event['error'])}[/]")

    def _progress(self, event: Event) -> None:
        step, steps = event["step"], event["steps"]
        self.bars.show(self._cell(event), step, steps, f"step {step}/{steps}", self._facts(event))

    def _facts(self, event: Event) -> str:
        """Loss, speed, time left of this cell and of all planned ones, and the budget where it is capped."""
        facts = "asking"
        if "tokens" in event:  # else a stage that learns nothing
            left = (event["steps"] - event["step"]) * event["tokens"] / max(event["step"], 1)
            left /= max(event["tokens_per_second"], 1e-9)
            facts = f"loss {event['loss']:.3f}, {event['tokens_per_second']:,.0f} tokens/s, {left:.0f} s left"
        told = event.get("told", {})
        facts += "".join(f", {name.replace('_', ' ')} {value:,.4g}" for name, value in told.items())
        facts += self._left(", ")
        if self._cap:
            facts += f", budget {time.monotonic() - self._began:.0f}/{self._cap:.0f} s"
        return facts

    def _left(self, before: str) -> str:
        """`about 4 min 10 s for all cells`; empty where nothing is left, or nobody can tell."""
        seconds = self._remaining.seconds
        return f"{before}about {wording.duration(seconds)} for all cells" if seconds and seconds >= 1 else ""

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def _stage(self, event: Event) -> str:
        """`improve-2-train (cycle 2 of 3)`"""
        name = str(event["stage"])
        spec = self._plan.get(name)
        if spec is None or spec.cycle is None:
            return name
        loop = self._plan.get(spec.cycle.loop)
        of = f" of {loop.repeat}" if loop is not None else ""
        return f"{name} (cycle {spec.cycle.number}{of})"

    def _parties(self, event: Event) -> str:
        """`arm plain, arm wide and control, seeds 0 and 1; 3 values each to choose from`"""
        whos = list(dict.fromkeys(wording.party(cell["who"]) for cell in event["cells"]))
        seeds = list(dict.fromkeys(str(cell["seed"]) for cell in event["cells"]))
        text = f"{wording.listed(whos)}, seed{'s' if len(seeds) > 1 else ''} {wording.listed(seeds)}"
        spec = self._plan.get(str(event["stage"]))
        trials = len(cast.trials(spec)) if spec is not None else 0
        return f"{text}; {trials} values each to choose from" if trials else text

    def _cell(self, event: Event) -> str:
        """`base arm wide, trial 2 of 3, seed 0`"""
        who, spec = str(event["who"]), self._plan.get(str(event["stage"]))
        of = f" of {len(cast.trials(spec))}" if spec is not None and "~" in who else ""
        between = ", " if "~" in who else " "
        return f"{event['stage']} {wording.party(who)}{of}{between}seed {event['seed']}"

    def _choice(self, event: Event) -> str:
        if event["event"] == "candidate_chosen":
            how = f", best of {len(event['arms'])} by {event['metric']}" if event.get("arms") else ""
            return f"candidate: {wording.party(event['candidate'])}{how}"
        found, who = parsing.sweep(event), wording.party(event["who"])
        if found.chosen is None:
            return f"[yellow]{who} found no value of its sweep[/]"
        edge = " [yellow](edge of the grid)[/]" if sweeps.edges(found) else ""
        return f"{who} chose {escape(wording.said(found.chosen))} by {found.choice.metric}{edge}"


def _shape(model: dict[str, Any]) -> str:
    return ", ".join(f"{key} {model[key]}" for key in ("system", "layers", "width", "feed_forward") if model.get(key))
