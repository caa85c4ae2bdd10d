"""Pictures of a study: one length, one form, nothing but pixels, whatever they were made of."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from counterscan.errors import CounterscanError
from counterscan.study.pictures import EPOCH, Form, broken, encoded, fitted, form_for, has_colour, instructed
from counterscan.study.pictures import write_picture as write


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.booleans())
def test_a_smooth_picture_is_as_long_as_a_noisy_one(height, width, colour):
    form = Form(20, 24, colour)
    smooth, rough = np.full((1, height, width), 0.5, np.float32), noise(1, 40, 48)
    assert len(encoded(smooth, form)) == len(encoded(rough, form))


def test_a_file_holds_pixels_and_nothing_else(tmp_path):
    path = write(tmp_path / "a.png", encoded(noise(1, 30, 30), Form(16, 16)))
    content, chunks, place = path.read_bytes(), [], 8
    while place < len(content):
        chunks.append(content[place + 4 : place + 8])
        place += 12 + int.from_bytes(content[place : place + 4])
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}
    assert path.stat().st_mtime == EPOCH
    with Image.open(io.BytesIO(content)) as image:
        assert (image.size, image.mode, image.info) == ((16, 16), "L", {})


def test_what_has_the_size_already_keeps_its_levels():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    with Image.open(io.BytesIO(encoded(levels.astype(np.float32) / 255, Form(16, 16)))) as image:
        assert np.array_equal(np.asarray(image), levels[0])


def test_no_picture_is_enlarged_and_other_forms_are_cut_to_the_square():
    assert form_for([(1, 100, 80), (1, 50, 40)]) == Form(50, 40)
    assert form_for([(1, 100, 80), (1, 60, 60)]) == Form(60, 60)
    assert form_for([(1, 100, 80)], 50) == Form(50, 40)
    with pytest.raises(CounterscanError, match="--size 100 or less"):
        form_for([(1, 100, 80)], 128)


def test_the_middle_is_kept_where_a_picture_is_cut():
    plane = np.zeros((1, 10, 30), np.float32)
    plane[:, :, 10:20] = 1
    assert fitted(plane, Form(10, 10)).min() == 1


def test_a_broken_picture_has_the_same_tiles_elsewhere():
    plane, form = noise(1, 32, 32), Form(32, 32)
    shuffled = broken(plane, form, 1, "one")
    assert np.allclose(np.sort(shuffled.ravel()), np.sort(plane.ravel()))
    assert np.abs(shuffled - plane).mean() > 0.2


@pytest.mark.parametrize("side", [64, 128, 512])
def test_an_instruction_stands_out_at_any_size(side):
    plane = instructed(np.full((1, side, side), 0.9, np.float32), Form(side, side), ("CHECK", "answer", "PRESENT"))
    assert (plane > 0.8).mean() > 0.01
    assert plane[0, 0].max() < 0.5
    assert plane[0, :, [0, -1]].max() < 0.5


def test_colour_is_told_by_channels_that_differ():
    assert has_colour(noise(3, 8, 8))
    assert not has_colour(np.repeat(noise(1, 8, 8), 3, 0))
