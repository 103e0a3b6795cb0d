"""What became of letters: the provider's events, addresses that had trouble, letters that are kept back

Everything here is new, has a default, or allows more than before, so that code older than this runs beside it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BEFORE = "state IN ('queued', 'sending', 'sent', 'failed', 'unsure')"
NOW = "state IN ('queued', 'sending', 'sent', 'failed', 'unsure', 'withheld')"
BLANK = "NOT secret OR state IN ({}) OR (text = '' AND html = '')"
TROUBLES = "'delayed', 'failed', 'suppressed', 'bounced_softly', 'bounced', 'complained'"


def upgrade() -> None:
    op.create_table(
        "mail_event",
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("happened", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"happened IN ('delivered', {TROUBLES})", name=op.f("ck_mail_event_known_happened")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_event")),
        sa.UniqueConstraint("external_id", name=op.f("uq_mail_event_external_id")),
    )
    op.create_index("ix_mail_event_provider_id", "mail_event", ["provider_id"])

    op.create_table(
        "mail_address",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("bounced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("complained_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_address")),
        sa.UniqueConstraint("address", name=op.f("uq_mail_address_address")),
    )

    op.add_column("email_message", sa.Column("reply_to", sa.Text(), nullable=True))
    op.add_column("email_message", sa.Column("need", sa.Text(), server_default="needed", nullable=False))
    op.add_column("email_message", sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("email_message", sa.Column("trouble", sa.Text(), nullable=True))
    op.add_column("email_message", sa.Column("trouble_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("email_message", sa.Column("trouble_words", sa.Text(), server_default="", nullable=False))
    op.add_column("email_message", sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("email_message", sa.Column("seen_by", sa.Text(), nullable=True))
    op.drop_constraint(op.f("ck_email_message_known_state"), "email_message", type_="check")
    op.create_check_constraint(op.f("ck_email_message_known_state"), "email_message", NOW)
    op.drop_constraint(op.f("ck_email_message_secret_blank_when_done"), "email_message", type_="check")
    op.create_check_constraint(
        op.f("ck_email_message_secret_blank_when_done"),
        "email_message",
        BLANK.format("'queued', 'sending', 'withheld'"),
    )
    op.create_check_constraint(
        op.f("ck_email_message_known_need"), "email_message", "need IN ('asked', 'needed', 'spare')"
    )
    op.create_check_constraint(op.f("ck_email_message_known_trouble"), "email_message", f"trouble IN ({TROUBLES})")
    op.create_check_constraint(
        op.f("ck_email_message_trouble_has_its_time"), "email_message", "(trouble IS NULL) = (trouble_at IS NULL)"
    )
    op.create_index("ix_email_message_provider_id", "email_message", ["provider_id"])
    op.create_index(
        "ix_email_message_withheld",
        "email_message",
        [sa.text("lower(to_address)")],
        postgresql_where=sa.text("state = 'withheld'"),
    )
    op.create_index(
        "ix_email_message_lost",
        "email_message",
        ["id"],
        postgresql_where=sa.text("state IN ('failed', 'unsure', 'withheld') OR trouble IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_email_message_lost", "email_message")
    op.drop_index("ix_email_message_withheld", "email_message")
    op.drop_index("ix_email_message_provider_id", "email_message")
    op.drop_constraint(op.f("ck_email_message_trouble_has_its_time"), "email_message", type_="check")
    op.drop_constraint(op.f("ck_email_message_known_trouble"), "email_message", type_="check")
    op.drop_constraint(op.f("ck_email_message_known_need"), "email_message", type_="check")
    op.drop_constraint(op.f("ck_email_message_secret_blank_when_done"), "email_message", type_="check")
    op.drop_constraint(op.f("ck_email_message_known_state"), "email_message", type_="check")
    # Nobody sent them, and the older code has no other word for that.
    op.execute("UPDATE email_message SET text = '', html = '' WHERE state = 'withheld' AND secret")
    op.execute("UPDATE email_message SET state = 'failed' WHERE state = 'withheld'")
    op.create_check_constraint(
        op.f("ck_email_message_secret_blank_when_done"), "email_message", BLANK.format("'queued', 'sending'")
    )
    op.create_check_constraint(op.f("ck_email_message_known_state"), "email_message", BEFORE)
    for column in (
        "seen_by", "seen_at", "trouble_words", "trouble_at", "trouble", "delivered_at", "need", "reply_to",
    ):  # fmt: skip
        op.drop_column("email_message", column)
    op.drop_table("mail_address")
    op.drop_table("mail_event")
