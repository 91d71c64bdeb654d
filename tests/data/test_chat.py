"""Chat templates: where they are found, what they write, and that they reach nothing else."""

import json
from pathlib import Path

import pytest

from bloomery.data.chat import ChatTemplate, chat_template
from bloomery.errors import DataError

TALK = [{"role": "system", "content": "short"}, {"role": "user", "content": "ore?"}]


def test_the_default_is_a_line_each(tmp_path: Path) -> None:
    found = chat_template(tmp_path)
    assert found.render(TALK) == "system: short\nuser: ore?\nassistant:"
    assert found.stop == ("\nuser:", "\nsystem:")


def test_the_tokenizers_own_template_is_taken(tmp_path: Path) -> None:
    """As Hugging Face writes them; the expected text was read from the template by hand."""
    source = (
        "{% for message in messages %}\n  {{- '<|' + message['role'] + '|>' + message['content'] | trim + '\\n' -}}\n"
        "{% endfor %}\n{% if add_generation_prompt %}\n  {{- '<|assistant|>' -}}\n{% endif %}"
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": source}))
    assert chat_template(tmp_path).render(TALK) == "<|system|>short\n<|user|>ore?\n<|assistant|>"
    assert chat_template(tmp_path).stop == ()
    (tmp_path / "chat_template.jinja").write_text("{{ messages | length }}")
    assert chat_template(tmp_path).render(TALK) == "2"


def test_a_template_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(DataError, match="is no template"):
        chat_template(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(DataError, match="cannot be read"):
        chat_template(tmp_path)


@pytest.mark.parametrize(
    "source",
    ["{{ raise_exception('only users') }}", "{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}",
     "{{ 1 / 0 }}", "{{ messages[0].content.nothing.at_all }}", "{% include 'x' %}",
     "{{ cycler.__init__.__globals__.os.system('true') }}"],
)  # fmt: skip
def test_what_a_template_may_not_do_is_an_error(source: str) -> None:
    with pytest.raises(DataError, match="refuses"):
        ChatTemplate(source).render(TALK)
