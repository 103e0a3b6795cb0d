"""Pictures that were chosen in a form and not sent yet: they hang on the form until its faults are mended."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import SlowDown
from sts_app.support.models import TicketAttachment
from sts_app.support.pictures import MOST_PICTURES, Picture

# What one person may send within a day, and what may hang on their unsent forms: the database is not a picture store.
PICTURES_A_DAY = 30
UNSENT_PICTURES = 2 * MOST_PICTURES
DAY = timedelta(days=1)


class TooManyPictures(SlowDown):
    sentence = (
        f"These are more than {PICTURES_A_DAY} pictures within a day, which is more than can be kept. Please send your "
        "message without them; we ask for what we need."
    )


def once(owner: str, nonce: str, *parts: str) -> str:
    """One name for what `owner` sent from the form `nonce`: the same again is the same, a change makes another."""
    told = "\x1f".join((owner, nonce, *parts))
    return hashlib.sha256(told.encode()).hexdigest()


def kept(owner: str, nonce: str) -> Sequence[TicketAttachment]:
    """The pictures that hang on this form, without their bytes, the first one first."""
    return db.session.scalars(
        sa.select(TicketAttachment).where(_hangs_on(owner, nonce)).order_by(TicketAttachment.id)
    ).all()


def keep(
    owner: str, nonce: str, new: Sequence[Picture], *, still: Collection[int]
) -> tuple[Sequence[TicketAttachment], int]:
    """Hang new pictures on a form, of which `still` are to stay of those that hang there.

    The pictures that hang there now, and how many were left out because three are the most. Raises
    `TooManyPictures`.
    """
    for each in kept(owner, nonce):
        if each.id not in still:
            db.session.delete(each)
    db.session.flush()
    room = MOST_PICTURES - len(kept(owner, nonce))
    if new and _sent_since(owner, clock.now() - DAY) + len(new) > PICTURES_A_DAY:
        raise TooManyPictures(retry_after=int(DAY.total_seconds()))
    for picture in new[:room]:
        db.session.add(row_of(picture, owner=owner, draft=_name(owner, nonce)))
    db.session.flush()
    _forget_oldest(owner, but=_name(owner, nonce))
    return kept(owner, nonce), max(len(new) - room, 0)


def row_of(
    picture: Picture, *, owner: str, draft: str | None = None, message_id: int | None = None
) -> TicketAttachment:
    """The row of a picture, in a message or on a form. It is not stored yet."""
    return TicketAttachment(
        owner=owner,
        draft=draft,
        message_id=message_id,
        kind=picture.kind,
        width=picture.width,
        height=picture.height,
        size=len(picture.data),
        digest=picture.digest,
        data=picture.data,
    )


def move_to(message_id: int, owner: str, nonce: str) -> None:
    """What hangs on the form belongs to the message from now on."""
    statement = sa.update(TicketAttachment).where(_hangs_on(owner, nonce)).values(message_id=message_id, draft=None)
    db.session.execute(statement.execution_options(synchronize_session="fetch"))


def drop(owner: str, nonce: str) -> None:
    """Nothing hangs on this form any more."""
    _delete(_hangs_on(owner, nonce))


def drop_before(moment: datetime) -> None:
    """Forget the pictures of forms that were never sent."""
    _delete(sa.and_(TicketAttachment.draft.is_not(None), TicketAttachment.created_at < moment))


def _name(owner: str, nonce: str) -> str:
    return once(owner, nonce)


def _hangs_on(owner: str, nonce: str) -> sa.ColumnElement[bool]:
    return sa.and_(TicketAttachment.owner == owner, TicketAttachment.draft == _name(owner, nonce))


def _sent_since(owner: str, moment: datetime) -> int:
    statement = sa.select(sa.func.count()).select_from(TicketAttachment)
    return (
        db.session.scalar(statement.where(TicketAttachment.owner == owner, TicketAttachment.created_at > moment)) or 0
    )


def _forget_oldest(owner: str, *, but: str) -> None:
    """Of somebody's other unsent forms only the latest keep their pictures."""
    others = sa.and_(
        TicketAttachment.owner == owner, TicketAttachment.draft.is_not(None), TicketAttachment.draft != but
    )
    newest = sa.select(TicketAttachment.id).where(others).order_by(TicketAttachment.id.desc()).offset(UNSENT_PICTURES)
    _delete(TicketAttachment.id.in_(newest))


def _delete(condition: sa.ColumnElement[bool]) -> None:
    statement = sa.delete(TicketAttachment).where(condition)
    db.session.execute(statement.execution_options(synchronize_session="fetch"))
