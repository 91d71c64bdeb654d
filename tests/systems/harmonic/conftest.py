"""The data that the stages of the loop ask about, and a model that knows nothing of it."""

import sys
from pathlib import Path

import pytest

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import Artifact

sys.path.insert(0, str(Path(__file__).parent))
from asked import prepared_in, random_model


@pytest.fixture(scope="session")
def asked_data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared_in(tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="session")
def know_nothing(asked_data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return random_model(asked_data, tmp_path_factory.mktemp("model") / "model")
