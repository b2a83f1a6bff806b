"""An API that has these lists, and nothing else."""

import ssl
from collections.abc import Mapping
from typing import Any

from lab.cluster.client import Client


class Fake(Client):
    def __init__(self, lists: Mapping[str, list[Any]]) -> None:
        super().__init__("nowhere", 0, ssl.create_default_context())
        object.__setattr__(self, "_lists", lists)

    __slots__ = ("_lists",)
    _lists: Mapping[str, list[Any]]

    def get(self, path: str) -> Any:  # noqa: ANN401 - as the API
        return {"items": self._lists.get(path, [])}
