"""A conversation as one text, by the chat template that is stored with the tokenizer.

Looked for in the tokenizer's folder: chat_template.jinja, then `chat_template` of tokenizer_config.json (both as
Hugging Face writes them), else a plain default: `role: content` a line, and `assistant:` for the answer to come, which
then ends before the next `user:`. Templates run in jinja2's immutable sandbox. What they write is encoded as text:
a template that spells special tokens gives the characters, not the tokens.

Refuses a template that does not parse or that raises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bloomery.errors import DataError, MissingExtra

DEFAULT = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
FILE, CONFIG = "chat_template.jinja", "tokenizer_config.json"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    source: str = DEFAULT
    where: str = "the default chat template"
    stop: tuple[str, ...] = ("\nuser:", "\nsystem:")
    """What ends an answer beside end_of_document."""

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Raises DataError where the template cannot say it."""
        from jinja2.exceptions import TemplateError

        try:
            return self._compiled().render(
                messages=list(messages), add_generation_prompt=True, bos_token="", eos_token="", tools=None
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise DataError(self.where, f"refuses these messages: {error}") from None

    def check(self) -> ChatTemplate:
        """Itself. Raises DataError where it does not parse, MissingExtra without jinja2."""
        try:
            from jinja2.exceptions import TemplateError
        except ImportError:
            raise MissingExtra("serve", "`jinja2` is not installed", hint="pip install 'bloomery[serve]'") from None
        try:
            self._compiled()
        except TemplateError as error:
            raise DataError(self.where, f"is no template: {error}", "Jinja, as Hugging Face has it") from None
        return self

    def _compiled(self) -> Any:
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> NoReturn:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(self.source, globals={"raise_exception": refuse})


def chat_template(folder: Path) -> ChatTemplate:
    """Of a tokenizer's folder. Raises DataError where there is one that cannot be read."""
    try:
        if (folder / FILE).is_file():
            return ChatTemplate((folder / FILE).read_text(encoding="utf-8"), str(folder / FILE), ()).check()
        if (folder / CONFIG).is_file():
            found = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("chat_template")
            if isinstance(found, str):
                return ChatTemplate(found, str(folder / CONFIG), ()).check()
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(str(folder), f"its chat template cannot be read ({error})") from None
    return ChatTemplate().check()
