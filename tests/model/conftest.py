"""Peers to compare with: timm and transformers, both of which want torchvision."""

from types import ModuleType

import pytest

from aqqua.evaluate.contenders.torchvision_import import import_peer, import_torchvision


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    return import_torchvision()


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    return import_peer("timm")


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    return import_peer("transformers")
