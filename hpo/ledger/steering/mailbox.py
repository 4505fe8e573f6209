"""Where requests to a study lie: among the attributes of the study in the Optuna storage.

Whoever asks adds an attribute and never changes another one. Only the study's driver writes answers, into the request.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from hpo.ledger.steering.requests import REQUEST_PREFIX, Answer, Request, requests_in
from hpo.ledger.storage import patiently

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


class Mailbox:
    """The requests to one study."""

    def __init__(self, storage: BaseStorage, study: int) -> None:
        """
        Args:
            study: its id in the storage.
        """
        self._storage = storage
        self._study = study
        self._engine = getattr(storage, "engine", None)  # None: in memory, which no other process sees

    @classmethod
    def of(cls, storage: BaseStorage, name: str) -> Mailbox:
        """Of the study of this name.

        Raises:
            KeyError: there is no such study.
        """
        return cls(storage, storage.get_study_id_from_name(name))

    def post(self, request: Request) -> None:
        """Ask. Repeated calls ask once."""
        patiently(self._storage, lambda: self._storage.set_study_user_attr(self._study, request.key, request.to_json()))

    def answer(self, request: Request, answer: Answer) -> None:
        """Answer a request. Only the study's driver may: on its storage every other write is refused."""
        self.post(dataclasses.replace(request, answer=answer))

    def unanswered(self) -> tuple[Request, ...]:
        """The requests without an answer, the oldest first. One statement, which reads nothing else of the study."""
        pending = (request for request in self._read(f'%"answer": {json.dumps(None)}%') if request.answer is None)
        return tuple(pending)

    def find(self, request: Request) -> Request | None:
        """A request as it is now; None if it is gone, with its study."""
        return next((found for found in self._read("%", request.key) if found.id == request.id), None)

    def _read(self, content: str, key: str = f"{REQUEST_PREFIX}%") -> tuple[Request, ...]:
        if self._engine is None:
            return requests_in(self._storage.get_study_user_attrs(self._study))
        return requests_in({name: json.loads(value) for name, value in self._rows(content, key)})

    def _rows(self, content: str, key: str) -> list[Any]:
        import sqlalchemy
        from optuna.storages._rdb.models import StudyUserAttributeModel as Row

        mine = (Row.study_id == self._study, Row.key.like(key), Row.value_json.like(content))
        assert self._engine is not None
        with self._engine.connect() as connection:
            return list(connection.execute(sqlalchemy.select(Row.key, Row.value_json).where(*mine)))
