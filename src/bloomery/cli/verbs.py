"""The verbs of the command line: one small function each, its options, and its help; heavy imports happen inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from bloomery import __version__

app = typer.Typer(
    name="bloomery",
    help="Run training plans with gates fixed beforehand, controls, and receipts. Start with: bloomery run quickstart",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="A plan file, or the name of a bundled plan.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one value. Makes the run exploratory. May be repeated."),
]
RunsOption = Annotated[Path, typer.Option("--runs", envvar="BLOOMERY_RUNS", help="The folder that holds all runs.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's name (see `bloomery runs`) or folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
THREADS_PER_CORE = 8
"""More of them only wait for each other, and some thousands are more than a system gives."""
RUNS = Path("runs")


def _threads(wanted: int) -> int:
    most = THREADS_PER_CORE * (os.cpu_count() or 1)
    if wanted > most:
        raise typer.BadParameter(f"{wanted} is more than {most}, which is {THREADS_PER_CORE} a core of this machine.")
    return wanted


ThreadsOption = Annotated[
    int,
    typer.Option(
        "--threads", min=0, callback=_threads, help="Threads for the CPU; 0: one a core. Recorded, and kept on resume."
    ),
]

WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers", min=1, callback=_threads, help="Cells at once, each in a process with its share of the threads."
    ),
]

usage_error: Any = typer.BadParameter.__mro__[2]
"""ClickException, which every mistake on the command line is; newer typers bring their own click."""
assert usage_error.__name__ == "ClickException"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bloomery {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
def plans(json: JsonOption = False) -> None:
    """List the bundled plans."""
    from bloomery.cli import planning

    planning.plans(as_json=json)


@app.command()
def check(plan: PlanArgument, set: SetOption = None, json: JsonOption = False) -> None:
    """Find every mistake in a plan before anything runs."""
    from bloomery.cli import planning

    planning.check(plan, set or [], as_json=json)


@app.command()
def budget(
    plan: PlanArgument,
    on: Annotated[str, typer.Option("--on", help="A device of the price table (bloomery doctor lists them).")] = "cpu",
    set: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Price a plan: parameters, bytes, FLOPs, hours, energy and money; the control and every remedy included."""
    from bloomery.cli import planning

    planning.budget(plan, on, set or [], as_json=json)


@app.command()
def schema() -> None:
    """Print the JSON schema of plan files, for editors."""
    from bloomery.cli import planning

    planning.schema()


@app.command()
def register(
    plan: PlanArgument,
    amend: Annotated[str | None, typer.Option("--amend", metavar="WHY", help="Why a registered plan changes.")] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Freeze what a plan predicts before it runs; or say why a registered plan changes."""
    from bloomery.cli import running

    running.register(plan, amend, runs)


@app.command()
def run(
    plan: PlanArgument,
    set: SetOption = None,
    runs: RunsOption = RUNS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    allow_changed: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-changed",
            metavar="KEY",
            help="Go on though this has changed: device, data, world or batch. Recorded. May be repeated.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run stages whose `STAGE.passed` is not met, too. Recorded.")
    ] = False,
    workers: WorkersOption = 1,
) -> None:
    """Run a plan, or go on with one that was interrupted."""
    from bloomery.cli import running

    code = running.run(
        plan, set or [], runs, device, threads, workers=workers, allow_changed=allow_changed, force=force
    )
    raise typer.Exit(code)


@app.command()
def improve(
    run: RunArgument,
    cycles: Annotated[int | None, typer.Option("--cycles", min=1, help="End after so many; without it never.")] = None,
    once: Annotated[bool, typer.Option("--once", help="As --cycles 1.")] = False,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="PLAN", help="Whose cycle; without it the loop of the run's plan.")
    ] = None,
    nice: Annotated[int, typer.Option("--nice", min=0, max=19, help="How far behind all others.")] = 10,
    threads: Annotated[int, typer.Option("--threads", min=1, callback=_threads, help="Threads for the CPU.")] = 1,
    memory: Annotated[str, typer.Option("--memory", metavar="SIZE", help="Of a cycle, at most: 4 GiB.")] = "",
    load: Annotated[
        float, typer.Option("--load", min=0.0, help="Pause while the load of others is above it; 0: the other cores.")
    ] = 0.0,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Cycles whose models are kept.")] = 3,
    service: Annotated[
        bool, typer.Option("--service", help="Print a systemd unit and a launchd plist for this; install nothing.")
    ] = False,
    device: DeviceOption = "auto",
    runs: RunsOption = RUNS,
) -> None:
    """Improve a finished run's model in the background: cycle after cycle, kept only where its gates pass."""
    from bloomery.cli import improving, services

    how = improving.limits(nice, threads, memory, load, device)
    most = 1 if once else cycles
    if service:
        raise typer.Exit(services.show(run, runs, plan, how, cycles=most, keep=keep))
    raise typer.Exit(improving.improve(run, runs, plan, how, cycles=most, keep=keep))


@app.command(name="improve-cycle", hidden=True)
def improve_cycle(
    folder: Annotated[Path, typer.Argument()],
    nice: Annotated[int, typer.Option("--nice")] = 10,
    threads: Annotated[int, typer.Option("--threads")] = 1,
    memory: Annotated[str, typer.Option("--memory")] = "",
    device: DeviceOption = "auto",
) -> None:
    """One cycle, of `bloomery improve`, which starts it."""
    from bloomery.cli import improving

    raise typer.Exit(improving.carry_out(folder, improving.limits(nice, threads, memory, 0.0, device)))


@app.command()
def status(run: RunArgument, runs: RunsOption = RUNS, json: JsonOption = False) -> None:
    """Say where a run stands."""
    from bloomery.cli import reading

    reading.status(run, runs, as_json=json)


@app.command(name="runs")
def list_runs(runs: RunsOption = RUNS, json: JsonOption = False) -> None:
    """List all runs."""
    from bloomery.cli import reading

    reading.runs(runs, as_json=json)


@app.command()
def show(run: RunArgument, runs: RunsOption = RUNS, json: JsonOption = False) -> None:
    """Print a run's gates, values, intervals, controls and verdicts."""
    from bloomery.cli import reading

    reading.show(run, runs, as_json=json)


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two or more runs.")],
    runs: RunsOption = RUNS,
    json: JsonOption = False,
) -> None:
    """Put runs side by side."""
    from bloomery.cli import reading

    reading.compare(names, runs, as_json=json)


@app.command()
def claims(
    system: Annotated[str | None, typer.Option("--system", help="Only this system's rows.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="Only untested, undecided, refuted or supported rows.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write the whole ledger as a Markdown page instead.")
    ] = None,
    runs: RunsOption = RUNS,
    json: JsonOption = False,
) -> None:
    """Print the ledger of claims over all runs: untested rows first, then undecided, refuted and supported ones."""
    from bloomery.cli.claims import claims as print_claims

    print_claims(runs, system=system, verdict=status, as_json=json, write=write)


@app.command(name="eval")
def evaluate(
    run: RunArgument,
    suite: Annotated[
        list[str],
        typer.Option(
            "--suite", metavar="NAME[:OPTIONS]", help="A suite of the plan, or a kind of suite. May be repeated."
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="RUN", help="Another run, or control, arm:X, baseline:X of this one."),
    ] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Whose model; without it the last promoted.")] = None,
    who: Annotated[str, typer.Option("--who", help="candidate, control, arm:X or baseline:X.")] = "candidate",
    set: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the suites. May be repeated.")
    ] = None,
    device: DeviceOption = "cpu",
    threads: Annotated[
        int, typer.Option("--threads", min=0, callback=_threads, help="Threads for the CPU; 0: as the run had.")
    ] = 0,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what was measured before.")] = False,
    runs: RunsOption = RUNS,
    json: JsonOption = False,
) -> None:
    """Judge a finished run's models with any suite. Exploratory: stored with the run, part of no verdict."""
    from bloomery.cli import evaluating

    evaluating.evaluate(
        run, suite, runs, against=against, stage=stage, who=who, changes=set or [], device=device, threads=threads,
        again=again, as_json=json,
    )  # fmt: skip


@app.command()
def report(run: RunArgument, runs: RunsOption = RUNS) -> None:
    """Write a run's report again: one HTML page and its Markdown twin."""
    from bloomery.cli import reading

    reading.report(run, runs)


@app.command(name="verify-resume")
def verify_resume(
    plan: PlanArgument,
    stage: Annotated[str, typer.Option("--stage", help="The stage to interrupt.")],
    kills: Annotated[int, typer.Option("--kills", min=1, help="How often the process is killed.")] = 3,
    tokens: Annotated[str, typer.Option("--tokens", help="Shorten the stage to this; empty: as in the plan.")] = "",
    set: SetOption = None,
    threads: ThreadsOption = 0,
) -> None:
    """Prove bit-exact resume on your own plan: kill it at random moments and compare hashes."""
    from bloomery.cli import proving

    raise typer.Exit(proving.verify_resume(plan, stage, kills, tokens, set or [], threads))


@app.command()
def generate(
    model: Annotated[str, typer.Argument(metavar="RUN", help="A run, RUN/STAGE, or a model folder.")],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What the text begins with.")] = "",
    tokens: Annotated[int, typer.Option("--tokens", min=1)] = 100,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0)] = 0.6,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0)] = 0.95,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="0: all.")] = 0,
    min_p: Annotated[float, typer.Option("--min-p", min=0.0, max=1.0)] = 0.0,
    repetition_penalty: Annotated[float, typer.Option("--repetition-penalty", help="1: none.")] = 1.0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="The text ends before it. May be repeated.")
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Let a trained model go on with a text."""
    from bloomery.cli import machine

    machine.generate(
        model, prompt, runs, max_tokens=tokens, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p,
        repetition_penalty=repetition_penalty, stop=tuple(stop or ()), seed=seed,
    )  # fmt: skip


@app.command()
def serve(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Runs, RUN/STAGE, or model folders.")
    ] = None,
    cascade: Annotated[
        list[Path] | None,
        typer.Option("--cascade", metavar="FILE", help="Several behind one name: YAML, or a folder that a stage left."),
    ] = None,
    feedback: Annotated[
        Path, typer.Option("--feedback", metavar="FOLDER", help="Votes on a cascade's answers, in FOLDER/NAME.")
    ] = Path("feedback"),
    packets: Annotated[
        Path | None,
        typer.Option("--packets", metavar="FOLDER", help="Text files in FOLDER/NAME become packets of that cascade."),
    ] = None,
    texts: Annotated[bool, typer.Option("--keep-texts", help="Keep what cascades are asked and answer.")] = False,
    host: Annotated[str, typer.Option("--host", help="127.0.0.1: this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="BLOOMERY_API_KEY", help="Ask clients for it; better set in the environment."),
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=1, max=1024, help="Texts of a model written at once.")] = 16,
    queue: Annotated[int, typer.Option("--queue", min=0, help="Texts that may wait; beyond them 429.")] = 64,
    context: Annotated[
        int, typer.Option("--context", min=2, help="Tokens of a prompt and its answer, at most.")
    ] = 2048,
    max_body: Annotated[int, typer.Option("--max-body", min=1, help="Bytes of a request, at most.")] = 2**20,
    grace: Annotated[int, typer.Option("--grace", min=0, help="Seconds for begun answers when told to stop.")] = 10,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    runs: RunsOption = RUNS,
) -> None:
    """Serve trained models over HTTP, as OpenAI's API does, with a page to try them by hand."""
    from bloomery.cli import serving

    limits = serving.Limits(slots=slots, queue=queue, context=context, max_body=max_body, grace_seconds=grace)
    serving.serve(
        names or (), cascade or (), host, port, api_key, limits, device, threads, runs, feedback, packets, texts=texts
    )


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="RUN", help="A run, or a model folder.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; not there yet, or empty.")],
    to: Annotated[str, typer.Option("--to", help="safetensors, or hf for AutoModelForCausalLM.")],
    stage: Annotated[str | None, typer.Option("--stage", help="Whose model; without it the last promoted.")] = None,
    who: Annotated[str, typer.Option("--who", help="candidate, control or arm:X.")] = "candidate",
    seed: Annotated[int | None, typer.Option("--seed", help="Of which seed; without it the first.")] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Write a trained model for use elsewhere: plain safetensors, or a folder that transformers loads."""
    from bloomery.cli import exporting

    exporting.export(model, folder, to, runs, stage=stage, who=who, seed=seed)


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Say what this machine can do, which path each kernel takes, and which were never run."""
    from bloomery.cli import machine

    machine.doctor(as_json=json)
