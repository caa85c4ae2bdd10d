import pytest

from counterscan.data.archive import write_phantoms


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTERSCAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def eyes(tmp_path_factory):
    return write_phantoms("fundus", 24, tmp_path_factory.mktemp("fundus"), size=64)
