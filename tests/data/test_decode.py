from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.data.decode import Files, decode
from edgekd.data.source import open_source

WriteImage = Callable[..., Path]


def decode_folder(
    folder: Path, size: int | None = None, channels: int = 3
) -> tuple[np.ndarray, list[int], tuple[str, ...]]:
    source = open_source(folder)
    made = decode(Files(source, source.members, np.arange(len(source.members))), size, channels, lambda _: None)
    return made.images, made.labels.tolist(), made.problems


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "jpg", "gif", "tiff", "ppm"])
def test_formats_of_pil_are_decoded(tmp_path: Path, write_image: WriteImage, suffix: str) -> None:
    write_image(tmp_path / f"a.{suffix}", (200, 100, 50))
    images, _, problems = decode_folder(tmp_path)
    assert problems == ()
    assert images.shape == (1, 8, 8, 3)
    assert np.abs(images[0, 4, 4].astype(int) - (200, 100, 50)).max() <= 4


def test_images_of_any_size_become_the_size_asked_for(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.png", size=(9, 5))
    write_image(tmp_path / "b.png", size=(40, 40))
    images, labels, problems = decode_folder(tmp_path, size=6, channels=1)
    assert (images.shape, labels, problems) == ((2, 6, 6, 1), [0, 1], ())


def test_without_a_size_the_odd_ones_are_problems(tmp_path: Path, write_image: WriteImage) -> None:
    for name in "abc":
        write_image(tmp_path / f"{name}.png", size=(9, 5))
    write_image(tmp_path / "odd.png", size=(5, 9))
    images, labels, problems = decode_folder(tmp_path)
    assert images.shape == (3, 5, 9, 3)
    assert labels == [0, 1, 2]
    assert problems == ("odd.png (5x9, not 9x5 as most; --size N makes all N x N)",)


def test_every_kind_of_bad_file_is_named_with_its_reason(tmp_path: Path, write_image: WriteImage) -> None:
    good = write_image(tmp_path / "good.png", size=(32, 32)).read_bytes()
    noisy = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noisy).save(tmp_path / "cut.jpg")
    cut = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "flipped.png").write_bytes(good[:60] + b"\xff\xff" + good[62:])
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "bomb.png").write_bytes(huge_png())
    images, labels, problems = decode_folder(tmp_path, size=8)
    reasons = dict(problem.rstrip(")").split(" (", 1) for problem in problems)
    assert len(images) == len(labels) == 1
    assert set(reasons) == {"cut.jpg", "empty.png", "text.png", "flipped.png", "gone.png", "bomb.png"}
    assert reasons["empty.png"] == "empty file"
    assert reasons["text.png"] == "not an image"
    assert "truncated" in reasons["cut.jpg"]
    assert "No such file" in reasons["gone.png"]
    assert "decompression bomb" in reasons["bomb.png"]


def huge_png() -> bytes:
    """A PNG whose header promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "b.png")
    images, _, _ = decode_folder(tmp_path)
    assert (images[0] == 255).all()
    assert np.abs(images[1, 0, 0].astype(int) - (255, 127, 127)).max() <= 1


def test_sixteen_bit_gray_keeps_its_high_byte_and_floats_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0x1234, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tiff")
    images, _, problems = decode_folder(tmp_path, channels=1)
    assert (images == 0x12).all()
    assert problems == ("float.tiff (32-bit pixels (mode F) have no fixed range)",)


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    images, _, problems = decode_folder(tmp_path)
    assert problems == ()
    assert images.shape == (1, 8, 4, 3)
    assert images[0, 0, 0, 0] == 255
    assert images[0, 7, 0, 0] == 0


def test_postscript_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    _, _, problems = decode_folder(tmp_path, size=8)
    assert problems == ("a.png (not an image)",)


def test_progress_is_told_for_large_sets_only(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.png")
    source = open_source(tmp_path)
    notices: list[str] = []
    decode(Files(source, source.members * 5000, np.zeros(5000, np.int64)), None, 3, notices.append)
    assert notices == ["decoded 5,000 of 5,000 images"]
    notices.clear()
    decode(Files(source, source.members, np.zeros(1, np.int64)), None, 3, notices.append)
    assert notices == []
