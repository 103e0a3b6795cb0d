"""Support: tickets, what is written in them, and its pictures

All of it is new, so that code older than this runs beside it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "support_ticket",
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("once", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("purchase_id", sa.BigInteger(), nullable=True),
        sa.Column("strategy_id", sa.BigInteger(), nullable=True),
        sa.Column("assignee_id", sa.BigInteger(), nullable=True),
        sa.Column("suspected", sa.Boolean(), nullable=False),
        sa.Column("waiting_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_message_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("times_resolved", sa.Integer(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('OPEN', 'IN_PROGRESS', 'WAITING_ON_CUSTOMER', 'RESOLVED', 'CLOSED')",
            name=op.f("ck_support_ticket_known_status"),
        ),
        sa.CheckConstraint(
            "priority IN ('LOW', 'MEDIUM', 'HIGH', 'URGENT')", name=op.f("ck_support_ticket_known_priority")
        ),
        sa.CheckConstraint(
            "category IN ('access', 'billing', 'technical', 'other')", name=op.f("ck_support_ticket_known_category")
        ),
        sa.CheckConstraint(
            "num_nonnulls(user_id, email) = CASE WHEN forgotten_at IS NULL THEN 1 ELSE 0 END",
            name=op.f("ck_support_ticket_belongs_to_one"),
        ),
        sa.CheckConstraint(
            "(status IN ('OPEN', 'IN_PROGRESS')) = (waiting_since IS NOT NULL AND answer_due_at IS NOT NULL)"
            " AND (waiting_since IS NULL) = (answer_due_at IS NULL)",
            name=op.f("ck_support_ticket_promised_while_owed"),
        ),
        sa.CheckConstraint(
            "(status = 'CLOSED') = (closed_at IS NOT NULL)", name=op.f("ck_support_ticket_closed_at_when_closed")
        ),
        sa.ForeignKeyConstraint(["assignee_id"], ["users.id"], name=op.f("fk_support_ticket_assignee_id")),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchase.id"], name=op.f("fk_support_ticket_purchase_id")),
        sa.ForeignKeyConstraint(["strategy_id"], ["strategy.id"], name=op.f("fk_support_ticket_strategy_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_support_ticket_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_support_ticket")),
        sa.UniqueConstraint("once", name=op.f("uq_support_ticket_once")),
        sa.UniqueConstraint("ref", name=op.f("uq_support_ticket_ref")),
    )
    op.create_index("ix_support_ticket_of_user", "support_ticket", ["user_id", "last_message_at", "id"])
    op.create_index(
        "ix_support_ticket_of_email", "support_ticket", [sa.literal_column("lower(email)"), "last_message_at"]
    )
    op.create_index(
        "ix_support_ticket_owed",
        "support_ticket",
        ["answer_due_at", "id"],
        postgresql_where=sa.text("answer_due_at IS NOT NULL"),
    )
    op.create_index("ix_support_ticket_activity", "support_ticket", ["last_message_at", "id"])
    op.create_index(op.f("ix_support_ticket_purchase_id"), "support_ticket", ["purchase_id"])
    op.create_index(op.f("ix_support_ticket_assignee_id"), "support_ticket", ["assignee_id"])

    op.create_table(
        "ticket_message",
        sa.Column("ticket_id", sa.BigInteger(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("once", sa.Text(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("side IN ('customer', 'staff', 'note')", name=op.f("ck_ticket_message_known_side")),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["support_ticket.id"], name=op.f("fk_ticket_message_ticket_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket_message")),
        sa.UniqueConstraint("once", name=op.f("uq_ticket_message_once")),
    )
    op.create_index("ix_ticket_message_ticket_id", "ticket_message", ["ticket_id", "id"])

    op.create_table(
        "ticket_attachment",
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("draft", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('png', 'jpeg', 'webp')", name=op.f("ck_ticket_attachment_known_kind")),
        sa.CheckConstraint(
            "(message_id IS NULL) = (draft IS NOT NULL)", name=op.f("ck_ticket_attachment_in_a_message_or_a_draft")
        ),
        sa.CheckConstraint("octet_length(data) BETWEEN 1 AND 6291456", name=op.f("ck_ticket_attachment_size")),
        sa.ForeignKeyConstraint(
            ["message_id"], ["ticket_message.id"], name=op.f("fk_ticket_attachment_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket_attachment")),
    )
    op.create_index("ix_ticket_attachment_message_id", "ticket_attachment", ["message_id", "id"])
    op.create_index("ix_ticket_attachment_owner", "ticket_attachment", ["owner", "created_at"])


def downgrade() -> None:
    op.drop_table("ticket_attachment")
    op.drop_table("ticket_message")
    op.drop_table("support_ticket")
