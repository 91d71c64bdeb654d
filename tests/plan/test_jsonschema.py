"""The editor schema and the reference are made from the schema itself, and no key is left without a word."""

import json

import pytest
from pydantic import BaseModel

from bloomery.plan import jsonschema
from bloomery.plan.jsonschema import documentation, plan_reference, plan_schema


@pytest.mark.parametrize("model", [model for _, model in jsonschema._TABLES], ids=lambda model: model.__name__)
def test_every_key_is_documented(model: type[BaseModel]) -> None:
    assert set(documentation(model)) == set(model.model_fields)


def test_the_reference_names_every_key_with_its_default() -> None:
    text = plan_reference()
    for _, model in jsonschema._TABLES:
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in text
    assert "| `tolerance` | share | `0.02` |" in text
    assert "| `wall` | seconds |" in text
    assert "as_" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)


def test_the_editor_schema_is_json_with_units_and_words() -> None:
    schema = json.loads(json.dumps(plan_schema()))
    assert schema["anyOf"] == [{"required": ["bloomery", "name", "stages"]}, {"required": ["extends", "name"]}]
    assert schema["additionalProperties"] is False
    budget = schema["$defs"]["Budget"]["properties"]["wall"]
    assert "pattern" in json.dumps(budget)
    assert budget["description"].startswith("Running time")
    assert "as" in schema["$defs"]["Condition"]["properties"]
    assert schema["$defs"]["Condition"]["additionalProperties"] is False
