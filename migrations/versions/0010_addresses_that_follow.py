"""Addresses that follow to Stripe: whose customer there is to be told a new one

A new table that nobody older asks for, and an index to find the changes of the last days by.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "address_update",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", MOMENT, nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("leased_until", MOMENT, nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("last_reason", sa.Text(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_address_update_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_address_update")),
        sa.UniqueConstraint("user_id", name=op.f("uq_address_update_user_id")),
    )
    op.create_index("ix_address_update_due", "address_update", ["next_attempt_at"])
    op.create_index(
        "ix_email_change_call_off_until",
        "email_change",
        ["call_off_until"],
        postgresql_where=sa.text("call_off_until IS NOT NULL"),
    )


def downgrade() -> None:
    """The older code tells Stripe no address: whoever had changed theirs keeps the old one there."""
    op.drop_index("ix_email_change_call_off_until", "email_change")
    op.drop_table("address_update")
