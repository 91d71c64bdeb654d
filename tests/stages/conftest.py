"""One prepared corpus and one trained model for all tests of stages."""

import sys
from pathlib import Path

import pytest

from bloomery.data.prepared import Prepared

sys.path.insert(0, str(Path(__file__).parent))
from tiny import Trained, prepared, pretrain, settings


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def trained(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return pretrain(data, tmp_path_factory.mktemp("trained"), settings())
