"""Accounts in full: sessions that can be told apart, Google, changes of address, forms kept over a sign-in

Everything here is new or has a default, so that code older than this runs beside it.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def _of_a_person(table: str) -> tuple[Any, ...]:
    """The columns of every row here, which goes with its person."""
    return (
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f(f"fk_{table}_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )


def upgrade() -> None:
    op.add_column("user_session", sa.Column("device", sa.Text(), server_default="", nullable=False))
    op.add_column("user_session", sa.Column("way", sa.Text(), server_default="", nullable=False))
    op.add_column("user_session", sa.Column("seen_at", MOMENT, nullable=True))

    op.create_table(
        "google_identity",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("last_used_at", MOMENT, nullable=True),
        *_of_a_person("google_identity"),
        sa.UniqueConstraint("subject", name=op.f("uq_google_identity_subject")),
        sa.UniqueConstraint("user_id", name=op.f("uq_google_identity_user_id")),
    )

    op.create_table(
        "email_change",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("old_email", sa.Text(), nullable=False),
        sa.Column("new_email", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("confirmed_at", MOMENT, nullable=True),
        sa.Column("call_off_digest", sa.Text(), nullable=True),
        sa.Column("call_off_until", MOMENT, nullable=True),
        sa.Column("called_off_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        *_of_a_person("email_change"),
        sa.UniqueConstraint("digest", name=op.f("uq_email_change_digest")),
        sa.UniqueConstraint("call_off_digest", name=op.f("uq_email_change_call_off_digest")),
        sa.CheckConstraint(
            "(confirmed_at IS NULL) = (call_off_until IS NULL) AND (confirmed_at IS NULL) = (call_off_digest IS NULL)",
            name=op.f("ck_email_change_can_be_called_off_once_confirmed"),
        ),
        sa.CheckConstraint(
            "called_off_at IS NULL OR ended_at IS NOT NULL", name=op.f("ck_email_change_ended_when_called_off")
        ),
    )
    op.create_index(op.f("ix_email_change_user_id"), "email_change", ["user_id"])
    op.create_index("ix_email_change_old_email_lower", "email_change", [sa.text("lower(old_email)")])

    op.create_table(
        "held_form",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        *_of_a_person("held_form"),
        sa.UniqueConstraint("user_id", name=op.f("uq_held_form_user_id")),
    )


def downgrade() -> None:
    op.drop_table("held_form")
    op.drop_table("email_change")
    op.drop_table("google_identity")
    for column in ("seen_at", "way", "device"):
        op.drop_column("user_session", column)
