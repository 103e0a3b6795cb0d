"""People who leave: a closed account, an erasure with what it waits for, customers that are deleted at Stripe

Everything here is new, is empty for everybody, or has a default, so that code older than this runs beside it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("leaving_at", "closed_at", "erased_at"):
        op.add_column("users", sa.Column(column, sa.DateTime(timezone=True), nullable=True))

    op.add_column("stripe_customer", sa.Column("lease_token", sa.Text(), nullable=True))
    op.add_column("stripe_customer", sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("stripe_customer", sa.Column("tries", sa.Integer(), server_default="0", nullable=False))
    op.add_column("stripe_customer", sa.Column("last_reason", sa.Text(), nullable=True))
    op.add_column("stripe_customer", sa.Column("delete_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("stripe_customer", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_stripe_customer_delete",
        "stripe_customer",
        ["delete_at"],
        postgresql_where=sa.text("delete_at IS NOT NULL"),
    )

    op.create_table(
        "erasure",
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("begins_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("waits", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("access_gone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("customer_gone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("report", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('requested', 'revoking', 'done', 'cancelled')", name=op.f("ck_erasure_known_state")
        ),
        sa.CheckConstraint(
            "(state IN ('revoking', 'done')) = (begun_at IS NOT NULL)", name=op.f("ck_erasure_begun_at_when_begun")
        ),
        sa.CheckConstraint("(state = 'done') = (done_at IS NOT NULL)", name=op.f("ck_erasure_done_at_when_done")),
        sa.CheckConstraint(
            "(state = 'cancelled') = (cancelled_at IS NOT NULL)", name=op.f("ck_erasure_cancelled_at_when_cancelled")
        ),
        sa.CheckConstraint(
            "replaced_at IS NULL OR (access_gone_at IS NOT NULL AND customer_gone_at IS NOT NULL)",
            name=op.f("ck_erasure_access_and_customer_first"),
        ),
        sa.CheckConstraint("done_at IS NULL OR replaced_at IS NOT NULL", name=op.f("ck_erasure_replaced_before_done")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_erasure_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
        sa.UniqueConstraint("ref", name=op.f("uq_erasure_ref")),
    )
    op.create_index(
        "uq_erasure_open",
        "erasure",
        ["user_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('requested', 'revoking')"),
    )


def downgrade() -> None:
    """The older code knows nobody who leaves: an erasure under way is lost, and its person can sign in again."""
    op.drop_table("erasure")
    op.drop_index("ix_stripe_customer_delete", "stripe_customer")
    for column in ("deleted_at", "delete_at", "last_reason", "tries", "leased_until", "lease_token"):
        op.drop_column("stripe_customer", column)
    for column in ("erased_at", "closed_at", "leaving_at"):
        op.drop_column("users", column)
