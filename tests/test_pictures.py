from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from counterscan import pictures
from counterscan.core import Explanation, Target
from counterscan.errors import CounterscanError


def explanation(n=1, side=32, counterfactual=True):
    torch.manual_seed(0)
    images = torch.rand(n, 1, side, side) - 0.5
    changed = images.clone()
    changed[:, :, 8:16, 8:16] += 0.4
    before, after = torch.full((n, 2), 2.0), torch.full((n, 2), -2.0)
    return Explanation(
        images=images,
        target=Target(((1, 0.0),)),
        heatmap=(changed - images).abs() / 2,
        before=before,
        found=torch.ones(n, dtype=torch.bool),
        counterfactual=changed if counterfactual else None,
        after=after if counterfactual else None,
        meta={"classes": ["nodule", "effusion"]},
    )


def test_grey_spans_black_to_white_and_keeps_colour():
    ramp = torch.tensor([[[-1.0, 0.0, 1.0]]])
    assert np.asarray(pictures.grey(ramp)).tolist() == [[0, 128, 255]]
    assert pictures.grey(ramp.expand(3, 1, 3)).mode == "RGB"
    assert pictures.grey(ramp).size == (3, 1)


@pytest.mark.parametrize("dark", [False, True])
def test_difference_is_neutral_at_zero_and_warm_where_it_got_brighter(dark):
    shown = pictures.difference_picture(torch.tensor([[[-0.4, 0.0, 0.4]]]), limit=0.2, dark=dark)
    less, none, more = np.asarray(shown).astype(int)[0]
    assert none.max() - none.min() <= 4
    assert (none.mean() < 30) == dark
    assert less[2] > less[0]
    assert more[0] > more[2]


def test_difference_beyond_the_limit_has_the_last_colour():
    inside, beyond = (pictures.difference_picture(torch.tensor([[[x]]]), limit=0.2) for x in (0.4, 1.9))
    assert np.array_equal(np.asarray(inside), np.asarray(beyond))


def test_the_limit_fits_the_change_in_shares_of_the_window():
    assert pictures.difference_limit(torch.full((1, 4, 4), 0.1)) == 0.1
    assert pictures.difference_limit(torch.full((1, 4, 4), -0.5)) == 0.3
    assert pictures.difference_limit(torch.full((1, 4, 4), 2.0)) == 1.0
    assert pictures.difference_limit(torch.zeros(1, 4, 4)) == pictures.LIMITS[0]


def test_heat_grows_brighter_and_one_limit_makes_maps_comparable():
    weak, strong = torch.tensor([[[0.0, 0.1]]]), torch.tensor([[[0.0, 1.0]]])
    own = np.asarray(pictures.heat_picture(weak)).sum(-1)
    shared = np.asarray(pictures.heat_picture(weak, limit=1.0)).sum(-1)
    assert own[0, 1] == np.asarray(pictures.heat_picture(strong)).sum(-1)[0, 1]
    assert shared[0, 0] < shared[0, 1] < own[0, 1]
    assert np.asarray(pictures.heat_picture(weak * 0)).sum() == 2 * sum(pictures.HEAT[0])


def test_heat_over_an_image_leaves_the_rest_of_it():
    image = torch.full((1, 1, 2), 0.5)
    over = np.asarray(pictures.heat_picture(torch.tensor([[[0.0, 1.0]]]), image))
    assert over[0, 0].tolist() == [191, 191, 191]
    assert over[0, 1].tolist() != [191, 191, 191]


def test_an_outline_is_a_thin_border_and_a_tint_the_whole_area():
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, 4:12, 4:12] = True
    line = np.asarray(pictures.outline(mask, (64, 64), (255, 0, 0)))
    area = np.asarray(pictures.tint(mask, (64, 64), (255, 0, 0)))
    assert line[32, 32, 3] == 0
    assert area[32, 32, 3] > 0
    assert line[16:48, 32, 3].any()
    assert not line[:, :8, 3].any()
    assert (line[..., 3] > 0).sum() < (area[..., 3] > 0).sum() / 3


def test_figure_of_a_counterfactual_has_a_panel_more_than_that_of_an_attribution():
    mask = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    with_change = pictures.case_figure(explanation(), mask=mask)
    without = pictures.case_figure(explanation(counterfactual=False), mask=mask)
    assert with_change.width > without.width + 32
    assert with_change.getpixel((1, 1)) == (255, 255, 255)
    assert pictures.case_figure(explanation()).width < with_change.width


def test_figure_shows_truth_and_title():
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    mask[..., 8:16, 8:16] = True
    plain, told = (
        pictures.case_figure(explanation(), mask=mask),
        pictures.case_figure(explanation(), mask=mask, truth=mask),
    )
    assert plain.size == told.size
    assert plain.tobytes() != told.tobytes()
    assert pictures.case_figure(explanation(), title="case 7").height > pictures.case_figure(explanation()).height


def test_figure_is_of_one_image():
    with pytest.raises(AssertionError, match="one image"):
        pictures.case_figure(explanation(2))


def test_the_explanation_plots_itself():
    shown = explanation(2).plot(1)
    assert shown.size == pictures.case_figure(explanation(2).select(slice(1, 2))).size


def test_a_volume_shows_the_slice_where_most_was_found():
    flat = explanation()
    stacked = {name: getattr(flat, name)[..., None] * torch.tensor([0.0, 1.0, 0.5]) for name in ("images", "heatmap")}
    volume = Explanation(
        flat.images[..., None].expand(-1, -1, -1, -1, 3), flat.target, stacked["heatmap"], flat.before, flat.found
    )
    assert torch.equal(pictures.shown_plane(volume).heatmap, flat.heatmap)


def test_contact_sheet_has_a_cell_for_each_picture():
    picture = pictures.grey(torch.ones(1, 8, 4) * 0.2)
    sheet = pictures.contact_sheet([[picture, picture], [picture]], titles=["a", "b"], side=20)
    assert sheet.size == (2 * 26 + 6, 2 * 26 + 6 + 24)


def walk(frames=5):
    flat = explanation()
    shares = torch.linspace(0, 1, frames).view(1, -1, 1, 1, 1)
    path = flat.images[:, None] + shares * flat.difference[:, None]
    cases = [{"answers": [[0.0, 2.0 - 4 * float(share)] for share in shares.flatten()]}]
    return replace(flat, path=path, meta={**flat.meta, "cases": cases})


def test_a_film_strip_shows_each_frame_and_what_has_changed_by_then():
    strip = pictures.film_strip(walk(), side=32)
    assert strip.size == (5 * 38 + 6, 2 * 38 + 6 + 24)
    changes = np.asarray(strip)[24 + 6 + 38 :, :].astype(int)
    first, last = changes[:32, 6:38], changes[:32, 6 + 4 * 38 : 38 + 4 * 38]
    assert np.ptp(first.reshape(-1, 3), axis=0).max() == 0, "nothing has changed in the first"
    assert np.ptp(last.reshape(-1, 3), axis=0).max() > 100
    silent = replace(walk(), meta={})  # nobody asked about the frames
    assert pictures.film_strip(silent, side=32).height == strip.height - 24


@pytest.mark.parametrize("ending", pictures.FILMS)
def test_a_film_runs_there_and_back(tmp_path, ending):
    with Image.open(pictures.save_film(walk(), tmp_path / f"film{ending}", side=64)) as film:
        assert film.n_frames == 5 + 3
        assert film.size == (64, 64 + 28)
        shown = []
        for index in (1, 4, 7):
            film.seek(index)
            shown.append(np.asarray(film.convert("L"))[28:].astype(int))
    there, end, back = shown
    assert abs(there - back).mean() < 2
    assert abs(there - end).mean() > 2


def test_a_film_needs_a_path_and_a_known_ending(tmp_path):
    with pytest.raises(CounterscanError, match="path=true"):
        pictures.film_strip(explanation())
    with pytest.raises(CounterscanError, match=r"ends in \.gif"):
        pictures.save_film(walk(), tmp_path / "film.mp4")
