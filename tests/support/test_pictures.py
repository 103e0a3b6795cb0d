"""Nothing of a file is kept but what can be seen, and what is no picture is refused with a sentence."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sts_app.support.pictures import LARGEST_FILE, LONGEST_SIDE, NotAPicture, from_file
from tests.support.conftest import file_of

POLYGLOT = b"<html><script>alert(1)</script></html>"


def seen(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("kind", "kept_as"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp"), ("GIF", "png")])
def test_each_kind_is_read_by_its_content_and_encoded_anew(kind, kept_as):
    found = from_file("called.exe", file_of(kind))

    assert (found.kind, found.width, found.height) == (kept_as, 64, 48)
    assert seen(found.data).format == kept_as.upper()


def test_what_a_camera_writes_beside_the_picture_is_gone_and_the_picture_stands_upright():
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "SecretCamera", 6

    found = from_file("photo.jpg", file_of("JPEG", exif=exif, comment=b"my address"))

    assert (found.width, found.height) == (48, 64)
    assert b"SecretCamera" not in found.data
    assert b"my address" not in found.data
    assert not seen(found.data).getexif()


def test_texts_and_profiles_in_a_picture_are_gone():
    told = PngInfo()
    told.add_text("Comment", POLYGLOT.decode())

    found = from_file("chart.png", file_of(pnginfo=told, icc_profile=b"profile"))

    assert b"script" not in found.data
    assert not {"icc_profile", "Comment"} & seen(found.data).info.keys()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_what_hides_behind_a_picture_is_gone(kind):
    found = from_file("chart.png", file_of(kind) + POLYGLOT)

    assert b"script" not in found.data


def test_clear_parts_stay_clear():
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(out, "PNG")

    assert seen(from_file("icon.png", out.getvalue()).data).getpixel((0, 0)) == (0, 0, 0, 0)


def test_of_an_animation_the_first_frame_is_kept():
    out = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])

    kept = seen(from_file("dance.gif", out.getvalue()).data)

    assert getattr(kept, "n_frames", 1) == 1
    assert kept.getpixel((0, 0)) == (255, 0, 0)


def test_of_the_two_pictures_that_a_telephone_puts_into_one_file_the_first_is_kept():
    out = io.BytesIO()
    Image.new("RGB", (64, 48)).save(out, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])

    found = from_file("photo.jpg", out.getvalue())

    assert (found.kind, found.width, seen(found.data).format) == ("jpeg", 64, "JPEG")


def test_a_sixteen_bit_grey_stays_grey():
    out = io.BytesIO()
    Image.new("I;16", (8, 8), 0x8000).save(out, "PNG")

    assert seen(from_file("scan.png", out.getvalue()).data).getpixel((0, 0)) == (128, 128, 128)


def test_a_header_that_claims_a_huge_picture_is_not_believed_into_memory():
    out = io.BytesIO()
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    told = bytearray(out.getvalue())
    at = told.index(b"VP8X") + 12
    told[at : at + 6] = (16_382).to_bytes(3, "little") * 2

    with pytest.raises(NotAPicture, match="too many pixels"):
        from_file("huge.webp", bytes(told))


def test_a_picture_with_more_than_a_screen_shows_is_made_smaller():
    found = from_file("wide.png", file_of(size=(6000, 1000)))

    assert (found.width, found.height) == (LONGEST_SIDE, round(1000 * LONGEST_SIDE / 6000))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("chart.svg", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
        ("page.png", POLYGLOT),
        ("bitmap.png", file_of("BMP")),
        ("scan.tiff", file_of("TIFF")),
        ("paper.pdf", b"%PDF-1.7\n"),
        ("cut.png", file_of(size=(900, 900))[:200]),
        ("cut.jpg", file_of("JPEG", size=(900, 900))[:-100]),
        ("nothing.gif", b""),
        ("head.gif", b"GIF89a"),
    ],
)
def test_what_is_no_whole_picture_of_a_known_kind_is_refused_by_its_name(name, data):
    with pytest.raises(NotAPicture) as refused:
        from_file(name, data)

    assert refused.value.sentence.startswith(f"“{name}” cannot be read as a picture.")


def test_more_than_two_megabytes_are_refused():
    with pytest.raises(NotAPicture, match="larger than 2 MB"):
        from_file("big.png", os.urandom(LARGEST_FILE + 1))


@pytest.mark.parametrize("size", [(5000, 5000), (12_000, 12_000), (20_001, 1000)])
def test_a_bomb_of_pixels_is_refused_before_it_goes_off(size):
    out = io.BytesIO()
    Image.new("1", size).save(out, "PNG")
    assert len(out.getvalue()) < 100_000

    with pytest.raises(NotAPicture, match="too many pixels"):
        from_file("bomb.png", out.getvalue())


@given(data=st.binary(max_size=400), kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), at=st.integers(0, 300))
def test_whatever_the_bytes_are_the_answer_is_a_picture_or_a_sentence(data, kind, at):
    sound = file_of(kind)
    sentence = ""
    try:
        from_file("odd", sound[:at] + data + sound[at + len(data) :])
    except NotAPicture as refusal:
        sentence = refusal.sentence

    assert sentence == "" or sentence.startswith("“odd”")
