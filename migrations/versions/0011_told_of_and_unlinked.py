"""Whom a letter to staff is about, and Google accounts that stay out once they are unlinked

Both columns are empty for everybody, and older code leaves them so.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("email_message", sa.Column("about", postgresql.ARRAY(sa.BigInteger()), nullable=True))
    op.add_column("google_identity", sa.Column("unlinked_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """The older code knows a Google account as linked or not at all: one that was unlinked is forgotten."""
    op.execute("DELETE FROM google_identity WHERE unlinked_at IS NOT NULL")
    op.drop_column("google_identity", "unlinked_at")
    op.drop_column("email_message", "about")
