"""The memory of simulated vendors: small records that web and worker both see.

It lives outside the caller's transaction, because a vendor does not forget what it did when our
transaction rolls back. One table, always empty where no vendor is simulated.
"""

from __future__ import annotations

from typing import Any, Protocol

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.dialects.postgresql import JSONB, insert

from sts_app.core import clock
from sts_app.core.db import Base, UTCDateTime, db

Record = dict[str, Any]


class Store(Protocol):
    """Records of one simulator, by kind and key. Values are plain JSON."""

    def get(self, kind: str, key: str) -> Record | None: ...
    def put(self, kind: str, key: str, record: Record) -> None: ...
    def add(self, kind: str, key: str, record: Record) -> bool:
        """Store if new; False when the key is taken (the way to be idempotent under races)."""
        ...

    def take(self, kind: str, key: str) -> Record | None:
        """Remove and return, once: two callers never both get it."""
        ...

    def delete(self, kind: str, key: str) -> None: ...
    def all(self, kind: str) -> list[tuple[str, Record]]:
        """Every record of a kind, oldest first."""
        ...


class MemoryStore:
    """For tests of one process."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], Record] = {}

    def get(self, kind: str, key: str) -> Record | None:
        return self._records.get((kind, key))

    def put(self, kind: str, key: str, record: Record) -> None:
        self._records[kind, key] = record

    def add(self, kind: str, key: str, record: Record) -> bool:
        mine = dict(record)
        # One step, so that two threads of a test never both add.
        return self._records.setdefault((kind, key), mine) is mine

    def take(self, kind: str, key: str) -> Record | None:
        return self._records.pop((kind, key), None)

    def delete(self, kind: str, key: str) -> None:
        self._records.pop((kind, key), None)

    def all(self, kind: str) -> list[tuple[str, Record]]:
        return [(key, record) for (k, key), record in list(self._records.items()) if k == kind]


simulator_record = sa.Table(
    "simulator_record",
    Base.metadata,
    sa.Column("vendor", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("record", JSONB, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
)


class DatabaseStore:
    """For the running store: every call is a short transaction of its own."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor

    def get(self, kind: str, key: str) -> Record | None:
        with db.engine.begin() as connection:
            return connection.scalar(sa.select(simulator_record.c.record).where(self._is(kind, key)))

    def put(self, kind: str, key: str, record: Record) -> None:
        statement = self._insert(kind, key, record)
        statement = statement.on_conflict_do_update(index_elements=["vendor", "kind", "key"], set_={"record": record})
        with db.engine.begin() as connection:
            connection.execute(statement)

    def add(self, kind: str, key: str, record: Record) -> bool:
        with db.engine.begin() as connection:
            added = self._insert(kind, key, record).on_conflict_do_nothing().returning(simulator_record.c.key)
            return connection.scalar(added) is not None

    def take(self, kind: str, key: str) -> Record | None:
        statement = sa.delete(simulator_record).where(self._is(kind, key)).returning(simulator_record.c.record)
        with db.engine.begin() as connection:
            return connection.scalar(statement)

    def delete(self, kind: str, key: str) -> None:
        self.take(kind, key)

    def all(self, kind: str) -> list[tuple[str, Record]]:
        statement = (
            sa.select(simulator_record.c.key, simulator_record.c.record)
            .where(simulator_record.c.vendor == self._vendor, simulator_record.c.kind == kind)
            .order_by(simulator_record.c.position)
        )
        with db.engine.begin() as connection:
            return [(key, record) for key, record in connection.execute(statement)]

    def _is(self, kind: str, key: str) -> sa.ColumnElement[bool]:
        columns = simulator_record.c
        return sa.and_(columns.vendor == self._vendor, columns.kind == kind, columns.key == key)

    def _insert(self, kind: str, key: str, record: Record) -> Any:
        return insert(simulator_record).values(
            vendor=self._vendor, kind=kind, key=key, record=record, created_at=clock.now()
        )


def store_for(vendor: str) -> Store:
    """The memory of the simulator called `vendor` in this app."""
    stores: dict[str, Store] = current_app.extensions.setdefault("sts_stores", {})
    return stores.setdefault(vendor, DatabaseStore(vendor))
