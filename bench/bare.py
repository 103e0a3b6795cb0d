"""The baselines: the least a view can do under the same server, and the least an intake can do."""

from __future__ import annotations

import os
from uuid import uuid4

import sqlalchemy as sa
from flask import Flask, request

app = Flask(__name__)
engine = sa.create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1))
intake = sa.Table(
    "bench_intake",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("external_id", sa.Text, unique=True),
    sa.Column("body", sa.Text),
)


@app.get("/")
def home() -> str:
    return "OK"


@app.post("/intake")
def take_in() -> dict[str, bool]:
    with engine.begin() as connection:
        connection.execute(sa.insert(intake).values(external_id=uuid4().hex, body=request.get_data(as_text=True)))
    return {"received": True}


if __name__ == "__main__":
    intake.create(engine)
