"""How a new model's weights begin, where not at random: an init is applied once, and looked at from then on.

It runs before the first step of a stage that begins anew; a resumed stage takes the weights of its checkpoint. What the
init remembers (its own weights, to see how far training takes them) lies beside the checkpoints, and goes with the
state to a stage that trains on. Losses at fixed steps, on the stage's own held-out text:

    init/loss_0, _100, _1000    of the model
    init/rival_loss             of what the weights were fitted to
    init/excess_loss            init/loss_0 - init/rival_loss: what was lost in fitting
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.engine.discover import catalogue
from bloomery.engine.stage import Begun, StageContext
from bloomery.errors import ArtifactError
from bloomery.measure import Emitted
from bloomery.stages import training
from bloomery.stages.settings import Init, Training

if TYPE_CHECKING:
    from bloomery.model.interface import LanguageModel

FILE = "init.safetensors"
PROBES = (0, 100, 1000)
"""Steps done at which the loss is looked at too."""
RIVAL = "rival_loss"


@dataclass(frozen=True, slots=True)
class Start:
    """The init of one stage, as its training loop asks for it."""

    settings: Init
    steps: int
    remembered: Mapping[str, Any] = field(default_factory=dict)

    @property
    def probes(self) -> tuple[int, ...]:
        """None of a trained model: its stage looks at it by category, and acts on what it sees."""
        if self.settings.kind == "random" or catalogue.init(self.settings.kind).of_trained:
            return ()
        return tuple(step for step in PROBES if step <= self.steps)

    def look(self, model: LanguageModel, step: int, loss: float, measure: Callable[[str, float], None]) -> None:
        """`loss` is the one just looked at."""
        if self.settings.kind == "random":
            return
        if step in self.probes:
            measure(f"init/loss_{step}", loss)
        if step == 0 and RIVAL in self.remembered:
            rival = float(self.remembered[RIVAL])
            measure("init/rival_loss", rival)
            measure("init/excess_loss", loss - rival)
        for name, value in catalogue.init(self.settings.kind).look(self.settings, model, self.remembered).items():
            measure(name, value)

    def keep(self, checkpoint: Path, state: Path) -> None:
        """Put what is remembered beside a final state, for a stage that goes on from it."""
        if (checkpoint / FILE).exists():
            shutil.copyfile(checkpoint / FILE, state / FILE)


def metrics(settings: Init, steps: int) -> Mapping[str, Emitted]:
    if settings.kind == "random":
        return {}
    kind = catalogue.init(settings.kind)
    if kind.of_trained:
        return kind.emits(settings)
    losses = {f"init/loss_{step}": training.LOSS for step in Start(settings, steps).probes}
    compared = {"init/rival_loss": training.LOSS, "init/excess_loss": training.LOSS}
    return losses | compared | dict(kind.emits(settings))


def flops(settings: Init, *, vocab: int, width: int) -> float:
    return 0.0 if settings.kind == "random" else catalogue.init(settings.kind).flops(settings, vocab=vocab, width=width)


def begin(ctx: StageContext, config: Training, settings: Init, model: LanguageModel) -> Start:
    """Apply the init to `model`, or find what it left when it was. Raises ArtifactError where that cannot be read."""
    from bloomery.train import checkpoint

    if settings.kind == "random":
        return Start(settings, config.steps)
    before = training.begins_from(ctx)
    if not checkpoint.steps(ctx.checkpoint):
        if before is None:
            _apply(ctx, config, settings, model)
        elif (before / FILE).exists():
            ctx.checkpoint.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(before / FILE, ctx.checkpoint / FILE)
    return Start(settings, config.steps, _remembered(ctx))


def _apply(ctx: StageContext, config: Training, settings: Init, model: LanguageModel) -> None:
    import torch
    from safetensors.torch import save

    from bloomery.data.prepared import Prepared
    from bloomery.engine.artifact import write_atomically
    from bloomery.evaluate.perplexity import perplexity

    assert ctx.data is not None
    prepared = Prepared.open(ctx.data)
    kind = catalogue.init(settings.kind)
    end = prepared.tokenizer.end_of_document
    tokens = training.tokens_read(ctx, config, settings.tokens)
    begun: Begun = kind.begin(settings, model, tokens, seed=ctx.seed, end=end)
    ctx.spend(flops=flops(settings, vocab=model.vocab, width=model.head_weight().shape[1]))
    kept = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in begun.remembered.items()}
    if begun.rival is not None:
        text = prepared.part(config.validation_part)
        found = perplexity(begun.rival, text, context=config.context, max_documents=config.validation.documents)
        kept[RIVAL] = torch.tensor(found.loss, dtype=torch.float64)
    ctx.checkpoint.mkdir(parents=True, exist_ok=True)
    write_atomically(ctx.checkpoint / FILE, save(kept))


def _remembered(ctx: StageContext) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = ctx.checkpoint / FILE
    try:
        return load(file.read_bytes()) if file.exists() else {}
    except (OSError, SafetensorError) as error:
        raise ArtifactError(str(file), f"cannot be read: {error}", hint="begin the stage anew") from None
