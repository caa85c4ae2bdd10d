import pytest

from counterscan.data.dataset import DatasetFile, read_dataset_file, write_dataset_file
from counterscan.data.window import Window
from counterscan.errors import ManifestError


def test_what_is_written_is_read(tmp_path):
    told = DatasetFile(
        classes=("tumour", 'a "quoted" one'),
        window=(-160, 240, "HU"),
        intercept=-1024,
        licence="CC BY 4.0",
        modality="CT",
    )
    assert read_dataset_file(write_dataset_file(tmp_path / "dataset.toml", told)) == told
    assert told.shown == Window(-160, 240, "HU")


def test_no_file_means_the_defaults_unless_it_was_asked_for(tmp_path):
    assert read_dataset_file(tmp_path / "dataset.toml") == DatasetFile()
    with pytest.raises(ManifestError, match="does not exist"):
        read_dataset_file(tmp_path / "dataset.toml", needed=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clases = ['a']", "'clases'; did you mean 'classes'"),
        ("window = [1, 'x', 'HU']", "window"),
        ("window = [240, -160, 'HU']", "lower to a higher"),
        ("slope = 0", "slope"),
        ("slope = inf", "slope"),
        (f"classes = ['a', '{'x' * 3000}']", "classes is not as it should be .* at most 200 characters"),
        ("intercept = nan", "intercept"),
        ("classes = " + "[" * 5000, "cannot be read|nested too deep"),
        ("classes = [", "cannot be read"),
    ],
)
def test_a_fault_is_one_line_that_names_the_file(tmp_path, text, words):
    (tmp_path / "dataset.toml").write_text(text)
    with pytest.raises(ManifestError, match=words) as caught:
        read_dataset_file(tmp_path / "dataset.toml")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
