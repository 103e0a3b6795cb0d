"""From a file that somebody sent to a picture of ours.

The file is decoded and its pixels are encoded anew, so that nothing else of it is kept: no place and camera in
EXIF, no second file hidden behind the first, no script in a comment. What the file calls itself is not believed.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image, ImageOps

from sts_app.core.errors import FixInput
from sts_app.support.models import LARGEST_PICTURE

MOST_PICTURES = 3
LARGEST_FILE = 2 * 1024 * 1024
# A screen of 5120 by 2880 has 15 million. Decoded, each takes up to four bytes of memory, for a moment twice.
MOST_PIXELS = 20_000_000
LONGEST_SIDE = 4096
READ = ("PNG", "GIF", "JPEG", "WEBP")
# Of an animation the first frame is kept, and of what a telephone puts into one JPEG (MPO) the first picture.
KEPT_AS = {"PNG": "png", "GIF": "png", "JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp"}
ACCEPTED = "image/png,image/jpeg,image/webp,image/gif"

# One picture at a time in a process: several of the largest at once would be too much for a small machine's memory.
_one_at_a_time = threading.Lock()


class NotAPicture(FixInput):
    code = "NOT_A_PICTURE"


@dataclass(frozen=True)
class Picture:
    """A picture as we encoded it. `kind` is `png`, `jpeg` or `webp`; the measures are in pixels."""

    kind: str
    data: bytes = field(repr=False)
    width: int
    height: int

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()


def from_file(name: str, data: bytes) -> Picture:
    """The picture in the bytes of a file. `name` is what the sender calls it, for the sentence of a refusal.

    Raises `NotAPicture` for what is larger than 2 MB or 20 million pixels, of another kind than PNG, JPEG, WebP
    and GIF, or broken.
    """
    called = f"“{name[-60:]}”" if name.strip() else "One file"
    if len(data) > LARGEST_FILE:
        raise NotAPicture(f"{called} is larger than 2 MB. Please make it smaller, or cut out what matters.")
    try:
        with _one_at_a_time, Image.open(BytesIO(data), formats=READ) as found:
            if found.width * found.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            return _encoded(found, KEPT_AS[str(found.format)])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotAPicture(
            f"{called} has too many pixels: 20 million are the most. Please make it smaller, or cut out what matters."
        ) from None
    except NotAPicture:
        raise
    # A decoder that is fed by strangers fails in as many ways as it has branches, and each means the same here.
    except Exception as error:
        raise NotAPicture(
            f"{called} cannot be read as a picture. PNG, JPEG, WebP and GIF can be sent; a picture of your screen is "
            "usually one of these.",
            cause=type(error).__name__,
        ) from None


def _encoded(found: Image.Image, kind: str) -> Picture:
    found.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # lets a JPEG that is larger than needed be read in less memory
    found.load()
    # A telephone held upright stores a picture that lies, and says so beside it.
    upright = ImageOps.exif_transpose(found)
    if upright.mode.startswith("I;16"):
        upright = upright.convert("I").point(lambda grey: grey * (1 / 256)).convert("L")
    see_through = upright.has_transparency_data
    pixels = upright.convert("RGBA" if see_through and kind != "jpeg" else "RGB")
    pixels.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    # A new picture of the same pixels: what the file said besides hangs on the old one.
    bare = Image.new(pixels.mode, pixels.size)
    bare.paste(pixels)
    data = _written(bare, kind)
    if len(data) > LARGEST_PICTURE and kind != "jpeg":
        kind, data = "webp", _written(bare, "webp")
    if len(data) > LARGEST_PICTURE:
        raise NotAPicture("One picture is too detailed to be kept. Please make it smaller, or cut out what matters.")
    return Picture(kind, data, *bare.size)


def _written(picture: Image.Image, kind: str) -> bytes:
    out = BytesIO()
    if kind == "png":
        picture.save(out, "PNG")
    else:
        picture.save(out, kind.upper(), quality=88)
    return out.getvalue()
