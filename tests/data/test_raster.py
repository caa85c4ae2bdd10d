import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

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


@pytest.mark.parametrize("array", [GREY8, GREY16, FLOAT, GREY16.view(np.int16), COLOUR])
def test_pages_are_slices_and_come_back_as_pages(tmp_path, array):
    pages = [array, array[::-1], array // 2]
    write_pages(tmp_path / "p.tif", pages)
    scan = read_scan(tmp_path / "p.tif")
    shown = np.moveaxis(scan.pixels, 1, -1)
    assert np.array_equal(shown, np.stack(pages).reshape(shown.shape).astype(np.float32))
    with Image.open(scan.write(scan.pixels, tmp_path / "out")) as again:
        assert again.n_frames == 3
    after = read_scan(tmp_path / "out.tif")
    assert after.stored == str(array.dtype)
    assert np.array_equal(after.pixels, scan.pixels)
    mask = read_scan(scan.write_mask(scan.pixels[:, 0] > 50, tmp_path / "mask"))
    assert np.array_equal(mask.pixels[:, 0] > 0, scan.pixels[:, 0] > 50)


def write_pages(path, pages):
    signed = {"tiffinfo": {339: 2}} if pages[0].dtype == np.int16 else {}
    first, *rest = [Image.fromarray(page.view(np.uint16) if page.dtype == np.int16 else page) for page in pages]
    first.save(path, save_all=True, append_images=rest, **signed)


def test_pages_of_different_sizes_and_animations_are_refused(tmp_path):
    write_pages(tmp_path / "p.tiff", [GREY8, GREY8[:5]])
    with pytest.raises(ScanError, match="2 pages of different sizes"):
        read_scan(tmp_path / "p.tiff")
    write_pages(tmp_path / "a.png", [GREY8, GREY8[::-1]])
    with pytest.raises(ScanError, match="animation"):
        read_scan(tmp_path / "a.png")


def test_nan_is_refused_with_its_number(picture):
    broken = FLOAT.copy()
    broken[0, :3] = np.nan
    broken[1, 0] = np.inf
    with pytest.raises(ScanError, match=r"3 NaN and 1 infinite values \(0\.033 of all\)"):
        read_scan(picture(broken, "n.tiff"))


def test_of_a_photograph_with_pictures_beside_it_the_first_is_taken(tmp_path):
    first, second = Image.fromarray(COLOUR), Image.fromarray(COLOUR[::2])
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert read_scan(tmp_path / "a.jpg").pixels.shape == (1, 3, 12, 10)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_a_turned_picture_is_read_upright_and_its_results_are_turned_like_it(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((24, 40), np.uint8)
    stored[:8, :16] = 200
    Image.fromarray(stored).save(tmp_path / name, exif=exif)
    scan = read_scan(tmp_path / name)
    with Image.open(tmp_path / name) as source:
        upright = np.asarray(ImageOps.exif_transpose(source))
    assert np.array_equal(scan.pixels[0, 0], upright)
    written = scan.write(scan.pixels, tmp_path / "out"), scan.write_mask(scan.pixels[:, 0] > 100, tmp_path / "mask")
    for path, shown in zip(written, (upright > 100, upright > 100), strict=True):
        with Image.open(path) as again:
            assert again.getexif().get(0x0112, 1) == orientation
            assert np.array_equal(np.asarray(ImageOps.exif_transpose(again)) > 100, shown)
        assert np.array_equal(read_scan(path).pixels[0, 0] > 100, shown)


def test_signed_and_twelve_bit_tiffs_keep_their_values(tmp_path):
    signed = np.linspace(-1024, 3000, 120).astype(np.int16).reshape(12, 10)
    write_pages(tmp_path / "s.tif", [signed])
    scan = read_scan(tmp_path / "s.tif")
    assert scan.stored == "int16"
    assert np.array_equal(scan.pixels[0, 0], signed)
    after = read_scan(scan.write(scan.pixels - 10, tmp_path / "out.tif"))
    assert after.stored == "int16"
    assert np.array_equal(after.pixels[0, 0], signed - 10.0)
    (tmp_path / "t.tif").write_bytes(twelve_bits(np.array([[0, 1, 4095, 2048]])))
    scan = read_scan(tmp_path / "t.tif")
    assert scan.pixels.ravel().tolist() == [0, 1, 4095, 2048]
    assert scan.window.high <= 4095


def twelve_bits(values):
    """A TIFF that packs 12 bits a sample, which Pillow reads and does not write."""
    bits = "".join(f"{value:012b}" for value in values.ravel())
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = [(256, values.shape[1]), (257, values.shape[0]), (258, 12), (259, 1), (262, 1), (277, 1), (279, len(data))]
    tags = sorted([*tags, (273, 8), (278, values.shape[0])])
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_numbers_beyond_float32_stay_where_nothing_changes(picture, tmp_path):
    large = np.array([[2**24 + 1, 2**24 + 3], [5, -7]], np.int32)
    scan = read_scan(picture(large, "l.tif"))
    changed = scan.pixels.copy()
    changed[..., 1, 1] += 2
    with Image.open(scan.write(changed, tmp_path / "out.tif")) as again:
        assert np.asarray(again).tolist() == [[2**24 + 1, 2**24 + 3], [5, -5]]


def test_transparency_and_resolution_go_back(picture, tmp_path):
    for array in (np.dstack([COLOUR, GREY8]), np.dstack([GREY8, GREY8[::-1]])):
        scan = read_scan(picture(array, "a.png", dpi=(300, 300)))
        with Image.open(scan.write(255 - scan.pixels, tmp_path / "out.png")) as again:
            assert np.array_equal(np.asarray(again)[..., :-1], 255 - array[..., :-1])
            assert np.array_equal(np.asarray(again)[..., -1], array[..., -1])
            assert np.allclose(again.info["dpi"], 300, atol=0.1)


def test_a_palette_of_greys_is_grey_and_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(GREY8).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    assert np.array_equal(read_scan(tmp_path / "p.png").pixels[0, 0], GREY8)
    Image.fromarray(GREY8 > 50).save(tmp_path / "b.png")
    scan = read_scan(tmp_path / "b.png")
    assert np.array_equal(scan.pixels[0, 0], (GREY8 > 50) * 255.0)
    with Image.open(scan.write(scan.pixels / 2, tmp_path / "out.png")) as again:
        assert (again.mode, again.getextrema()) == ("L", (0, 128))


@pytest.mark.parametrize(("mode", "words"), [("CMYK", "amounts of ink"), ("LAB", "of kind LAB")])
def test_ink_and_perceived_colour_are_refused(tmp_path, mode, words):
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(ScanError, match=words):
        read_scan(tmp_path / "a.tif")


def test_a_jpeg_of_twelve_bits_is_named_as_such(picture):
    path = picture(GREY8, "a.jpg")
    content = path.read_bytes()
    frame = content.index(b"\xff\xc0")
    path.write_bytes(content[: frame + 4] + b"\x0c" + content[frame + 5 :])
    with pytest.raises(ScanError, match="JPEG of 12 bits"):
        read_scan(path)


def test_a_large_picture_in_a_small_file_is_refused_at_once(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(20_000, 20_000, 8, 0, bytes(20_001) * 50))
    tracemalloc.start()
    with pytest.raises(ScanError, match="too many pixels"):
        read_scan(tmp_path / "bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.parametrize(("depth", "colour", "row"), [(8, 2, 300), (16, 0, 200), (8, 3, 100), (1, 0, 13), (8, 6, 400)])
def test_a_picture_whose_rows_end_early_is_not_read_as_black(tmp_path, depth, colour, row):
    def rows(there):
        return b"".join(b"\0" + bytes(row) for _ in range(there))

    content = png(100, 100, depth, colour, rows(100)), png(100, 100, depth, colour, rows(99))
    if colour == 3:
        content = tuple(map(with_palette, content))
    (tmp_path / "whole.png").write_bytes(content[0])
    assert not read_scan(tmp_path / "whole.png").pixels.any()
    (tmp_path / "cut.png").write_bytes(content[1])
    with pytest.raises(ScanError, match=f"holds {99 * (row + 1):,} of {100 * (row + 1):,} bytes"):
        read_scan(tmp_path / "cut.png")
    (tmp_path / "bomb.png").write_bytes(png(50_000, 1000, depth, 0 if colour == 3 else colour, rows(2)))
    with pytest.raises(ScanError, match="bytes of pixels, but only"):
        read_scan(tmp_path / "bomb.png")


def with_palette(content):
    """The PNG with a palette of black before its pixels."""
    start = content.index(b"IDAT") - 4
    palette = b"PLTE" + bytes(3)
    chunk = struct.pack(">I", 3) + palette + struct.pack(">I", zlib.crc32(palette))
    return content[:start] + chunk + content[start:]


def test_a_tiff_whose_strips_leave_rows_out_is_not_read_as_black(picture):
    path = picture(FLOAT, "a.tif")
    content = path.read_bytes()
    rows = struct.pack("<HHII", 257, 4, 1, 12)
    assert content.count(rows) == 1
    path.write_bytes(content.replace(rows, struct.pack("<HHII", 257, 4, 1, 1_000_000)))
    with pytest.raises(ScanError, match="holds 120 of 10,000,000 pixels"):
        read_scan(path)


def png(width, height, depth, colour, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_of_grey_and_transparency_are_refused_rather_than_halved(tmp_path):
    (tmp_path / "c.png").write_bytes(png(4, 4, 16, 4, bytes(17) * 4))
    with pytest.raises(ScanError, match="16-bit grey with transparency"):
        read_scan(tmp_path / "c.png")


def test_a_jpeg_that_goes_over_its_pixels_for_ever_is_refused(tmp_path):
    """Of 4 Mpixels each scan takes 2.5 ms, and there is room for a hundred thousand in a small file."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    (tmp_path / "fine.jpg").write_bytes(content)
    assert read_scan(tmp_path / "fine.jpg").pixels.shape == (1, 1, 64, 64)
    scan = content[content.rindex(b"\xff\xda") : -2]
    (tmp_path / "scans.jpg").write_bytes(content[:-2] + scan * 1000 + content[-2:])
    with pytest.raises(ScanError, match=r"scans\.jpg goes over its pixels 1,006 times"):
        read_scan(tmp_path / "scans.jpg")
