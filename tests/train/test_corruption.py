"""Invented lesions stay in their place, and grafts come where they fit."""

import torch

from counterscan.train.corruption import anywhere, blobs, changed, corrupt, erase, graft, grown, where_it_looks


def test_blobs_are_soft_shapes_of_bounded_size():
    torch.manual_seed(0)
    shape = blobs(anywhere(64), (64, 64))
    assert shape.shape == (64, 1, 64, 64)
    assert shape.min() >= 0
    assert shape.max() <= 1
    share = (shape > 0.5).float().mean((1, 2, 3))
    assert share.max() < 0.5
    assert (share > 0).float().mean() > 0.8


def test_corruption_stays_near_its_shape():
    torch.manual_seed(0)
    images = torch.rand(32, 1, 64, 64) - 0.5
    shape = torch.zeros(32, 1, 64, 64)
    shape[..., 20:30, 20:30] = 1
    spoilt = corrupt(images, shape)
    changed = (spoilt - images).abs() > 1e-4
    assert not changed[..., :8, :].any()
    assert not changed[..., 44:, :].any()
    assert changed[..., 20:30, 20:30].float().mean() > 0.9
    assert spoilt.abs().max() <= 1


def test_no_shape_no_corruption():
    torch.manual_seed(0)
    images = torch.rand(8, 1, 32, 32) - 0.5
    torch.testing.assert_close(corrupt(images, torch.zeros(8, 1, 32, 32)), images, atol=1e-5, rtol=0)


def a_square(y, x, value, edge=6, size=64, ground=-0.2):
    image = torch.full((1, 1, size, size), ground)
    image[..., y : y + edge, x : x + edge] = value
    return image


def test_a_graft_comes_where_its_surroundings_fit():
    donor = a_square(24, 24, 0.3, edge=16)  # an organ, with a lesion in it
    donor[..., 28:34, 28:34] = 0.9
    where = a_square(28, 28, 1.0, ground=0.0)
    hosts = torch.cat([a_square(24, 40, 0.3, edge=16), a_square(28, 20, 0.3, edge=16), a_square(4, 4, 0.3, edge=16)])
    spoilt, placed, host = graft(donor, where, hosts)
    assert torch.equal(host, hosts[1:2])
    assert torch.equal(placed, where.roll((4, -4), (2, 3)))
    assert (spoilt[placed > 0] == 0.9).all()
    assert torch.equal(spoilt[placed == 0], host[placed == 0])


def test_a_graft_of_nothing_is_the_host():
    hosts = torch.rand(3, 1, 64, 64)
    spoilt, _, host = graft(torch.rand(2, 1, 64, 64), torch.zeros(2, 1, 64, 64), hosts)
    assert torch.equal(spoilt, host)


def test_changes_are_found_and_noise_is_not():
    before = torch.zeros(2, 1, 64, 64)
    after = before + 0.002
    after[0, :, 20:30, 20:30] = -0.6
    where = changed(before, after)
    assert where[0, :, 22:28, 22:28].min() == 1
    assert where[0, :, :14].max() == 0
    assert where[1].max() == 0


def test_a_margin_is_grown_around_each_by_its_own_draw():
    torch.manual_seed(0)
    where = a_square(20, 30, 0.7, edge=10, ground=0.0)
    areas = {int((one > 0).sum()) ** 0.5 for one in grown(where.expand(50, -1, -1, -1))}
    assert areas == {10, 12, 14, 16}
    assert grown(where).max() == where.max()


def test_a_hole_holds_nothing_of_the_image():
    hole = a_square(20, 30, 1.0, edge=10, ground=0.0) > 0
    image = torch.full((1, 1, 64, 64), 0.25)
    erased = erase(image, hole)
    assert torch.equal(erased[~hole], image[~hole])
    assert set(erased[hole].tolist()) == {-0.5, 0.5}


def test_places_are_drawn_where_the_classifier_looks():
    torch.manual_seed(0)
    saliency = torch.zeros(200, 1, 64, 64)
    saliency[:, :, 40:44, 8:12] = 1
    place = where_it_looks(saliency)
    assert place[:, 0].sub(0.3).abs().max() < 0.3
    assert place[:, 1].add(0.7).abs().max() < 0.3
    shape = blobs(place, (64, 64))
    assert shape[..., 40:44, 8:12].mean() > 0.5
