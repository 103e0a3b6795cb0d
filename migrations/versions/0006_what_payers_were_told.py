"""What is with the bank, for which time a purchase was paid, and what its payer was told of it.

A dispute keeps the day of which staff were warned, and a purchase the tries to ask Stripe about it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("purchase", sa.Column("with_bank", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("purchase", sa.Column("period_end", sa.DateTime(timezone=True), nullable=True))
    op.add_column("purchase", sa.Column("told_ref", sa.Text(), nullable=True))
    op.add_column("purchase", sa.Column("tries", sa.Integer(), server_default="0", nullable=False))
    op.add_column("purchase", sa.Column("last_reason", sa.Text(), nullable=True))
    op.add_column("dispute", sa.Column("warned_of", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("dispute", "warned_of")
    for name in ("last_reason", "tries", "told_ref", "period_end", "with_bank"):
        op.drop_column("purchase", name)
