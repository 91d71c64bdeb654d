"""`export`: a run's model, or any model folder, for use elsewhere."""

from __future__ import annotations

from pathlib import Path

from bloomery.cli.reading import view_of
from bloomery.errors import ArtifactError, BloomeryError, nearest


def export(name: str, target: Path, form: str, root: Path, *, stage: str | None, who: str, seed: int | None) -> None:
    """Raises BloomeryError for an unknown format, model or seed, and for a folder that is not empty."""
    known = ("safetensors", "hf")
    if form not in known:
        raise BloomeryError(f"--to {form}", f"no format '{form}'", " or ".join(known), nearest(form, known))
    source = _source(name, root, stage, who, seed)

    from bloomery.stages import exporting

    notes = exporting.export(source, target, form)
    print(f"{source} -> {target} ({form})")
    for note in notes:
        print(f"- {note}")
    if form == "hf":
        print(f"next: AutoModelForCausalLM.from_pretrained('{target}', trust_remote_code=True)")
    else:
        print(f"next: bloomery generate {target} --prompt 'def '")


def _source(name: str, root: Path, stage: str | None, who: str, seed: int | None) -> Path:
    """A model folder as given, or the run's: of the first seed unless one is named."""
    from bloomery.engine.artifact import unseal
    from bloomery.report.handed import models_of

    if (Path(name) / "model.json").exists():
        return Path(name)
    folders = models_of(view_of(name, root), stage, who).folders
    if seed is None:
        seed = next(iter(folders))
    if seed not in folders:
        raise ArtifactError(f"--seed {seed}", "no model of this seed", " or ".join(map(str, folders)))
    return unseal(folders[seed]).path
