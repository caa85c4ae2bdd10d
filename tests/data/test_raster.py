import numpy as np
import pytest
from PIL import Image

from counterscan.data.scans import read_scan
from counterscan.data.window import Window
from counterscan.errors import ScanError


@pytest.fixture
def picture(tmp_path):
    def save(array, name, **settings):
        path = tmp_path / name
        Image.fromarray(array).save(path, **settings)
        return path

    return save


GREY8 = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
GREY16 = np.linspace(0, 65535, 12 * 10).astype(np.uint16).reshape(12, 10)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
FLOAT = np.linspace(-3, 5, 120, dtype=np.float32).reshape(12, 10)


@pytest.mark.parametrize(
    ("array", "name", "kind"),
    [
        (GREY8, "a.png", "png"),
        (GREY16, "a.png", "png"),
        (COLOUR, "a.png", "png"),
        (GREY8, "a.tif", "tiff"),
        (GREY16, "a.tiff", "tiff"),
        (FLOAT, "a.tiff", "tiff"),
        (COLOUR, "a.tif", "tiff"),
    ],
)
def test_pixels_survive_the_way_there_and_back(picture, tmp_path, array, name, kind):
    scan = read_scan(picture(array, name))
    channels_first = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    assert scan.format == kind
    assert scan.stored == str(array.dtype)
    assert np.array_equal(scan.pixels[0], channels_first.astype(np.float32))
    written = scan.write(scan.pixels, tmp_path / "out")
    assert written.suffix == scan.suffix == "." + name.split(".")[1]
    with Image.open(written) as again:
        assert np.array_equal(np.asarray(again), array)


def test_a_jpeg_comes_back_as_a_jpeg_and_its_mask_as_a_png(picture, tmp_path):
    smooth = np.tile(np.linspace(20, 220, 64).astype(np.uint8), (48, 1))
    scan = read_scan(picture(smooth, "a.jpeg", quality=95))
    written = scan.write(scan.pixels, tmp_path / "cf")
    assert written.name == "cf.jpeg"
    with Image.open(written) as again:
        assert again.format == "JPEG"
        assert np.abs(np.asarray(again).astype(int) - scan.pixels[0, 0]).max() <= 3
    mask = scan.write_mask(scan.pixels[:, 0] > 100, tmp_path / "mask")
    with Image.open(mask) as again:
        assert (mask.name, again.format) == ("mask.png", "PNG")
        assert np.array_equal(np.asarray(again) > 0, scan.pixels[0, 0] > 100)


def test_texts_of_the_source_stay_behind_and_the_orientation_does_not(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "Erika Mustermann"
    Image.fromarray(GREY8).save(tmp_path / "a.jpg", exif=exif, comment=b"Erika Mustermann")
    scan = read_scan(tmp_path / "a.jpg")
    written = scan.write(scan.pixels, tmp_path / "b.jpg")
    assert b"Mustermann" not in written.read_bytes()
    with Image.open(written) as again:
        assert again.getexif()[0x0112] == 6
        assert again.size == (10, 12)


def test_values_beyond_the_type_are_held_at_its_ends(picture, tmp_path):
    scan = read_scan(picture(GREY8, "a.png"))
    written = scan.write(np.where(scan.pixels > 50, 300.0, -4.0), tmp_path / "b.png")
    with Image.open(written) as again:
        assert set(np.unique(np.asarray(again))) == {0, 255}


def test_declared_slope_and_intercept_give_hounsfield_units_and_go_back(picture, tmp_path):
    hu = np.linspace(-1000, 1500, 120).round().reshape(12, 10)
    window = Window(-160, 240, "HU")
    scan = read_scan(picture((hu + 1024).astype(np.uint16), "ct.png")).declared(window, 1.0, -1024.0)
    assert np.array_equal(scan.pixels[0, 0], hu.astype(np.float32))
    assert (scan.unit, scan.window) == ("HU", window)
    written = scan.write(scan.pixels, tmp_path / "out.png")
    with Image.open(written) as again:
        assert np.array_equal(np.asarray(again), (hu + 1024).astype(np.uint16))


def test_a_slope_without_a_window_takes_the_window_along(picture):
    scan = read_scan(picture(GREY8, "a.png")).declared(None, 2.0, -10.0)
    assert scan.window.as_tuple() == (-10, 500, "")


def test_eight_bits_are_shown_whole_and_sixteen_by_their_range(picture):
    assert read_scan(picture(GREY8, "a.png")).window.as_tuple() == (0, 255, "")
    window = read_scan(picture(GREY16 // 16, "b.png")).window
    assert 0 <= window.low < 100
    assert 3900 < window.high <= 4095


def test_transparency_and_palettes_become_plain_colour(tmp_path):
    Image.fromarray(COLOUR).convert("P").save(tmp_path / "p.png")
    Image.fromarray(np.dstack([COLOUR, COLOUR[..., :1]])).save(tmp_path / "a.png")
    Image.fromarray(GREY8).convert("LA").save(tmp_path / "la.png")
    assert read_scan(tmp_path / "p.png").pixels.shape == (1, 3, 12, 10)
    assert np.array_equal(read_scan(tmp_path / "a.png").pixels[0], COLOUR.transpose(2, 0, 1))
    assert np.array_equal(read_scan(tmp_path / "la.png").pixels[0, 0], GREY8)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tiff"])
def test_a_truncated_picture_is_refused_by_name(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for kept in (0.6, 0.02, 10 / len(content)):
        (tmp_path / name).write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(ScanError, match="damaged") as caught:
            read_scan(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factor", [0.9, 0.3])  # Pillow itself warns up to twice its limit, and refuses beyond
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused(picture, monkeypatch, factor):
    path = picture(GREY8, "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(120 * factor))
    with pytest.raises(ScanError, match="too many pixels"):
        read_scan(path)


def test_several_pages_and_nan_are_refused(picture, tmp_path):
    pages = [Image.fromarray(GREY8), Image.fromarray(GREY8)]
    pages[0].save(tmp_path / "p.tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(ScanError, match="2 pages"):
        read_scan(tmp_path / "p.tiff")
    broken = FLOAT.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ScanError, match="NaN"):
        read_scan(picture(broken, "n.tiff"))


def test_sixteen_bit_colour_is_refused_rather_than_halved(tmp_path):
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(4 * 6) for _ in range(4))
    head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "c.png").write_bytes(content)
    with pytest.raises(ScanError, match="16-bit colour"):
        read_scan(tmp_path / "c.png")
