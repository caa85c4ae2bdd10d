"""Whatever is asked of the study's server, by its own description, it never falls over."""

import pytest

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")
pytest.importorskip("itsdangerous")

from fastapi.testclient import TestClient  # noqa: E402
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from counterscan.web.study_server import make_app  # noqa: E402


@pytest.fixture
def app(yes_no):
    return make_app(yes_no)


@pytest.mark.parametrize("inside", [False, True], ids=["a stranger", "a reader"])
def test_nothing_asked_by_the_description_ends_in_a_5xx(app, inside):
    client = TestClient(app, raise_server_exceptions=False)
    headers = {}
    if inside:
        client.get("/enter/token-of-ada")
        client.get(f"/owner/enter/{app.state.desk.keys.owner_token()}")
        headers = {"X-Study-Key": client.get("/api/state").json()["csrf"]}
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    asked = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def once(operation, data):
            case = data.draw(operation.as_strategy())
            case.headers = {**(case.headers or {}), **headers}
            answer = case.call()
            asked.add((operation.label, answer.status_code))
            assert answer.status_code < 500, f"{operation.label}: {answer.text}"

        once(operation)
    assert {"POST /api/answers", "GET /api/state", "GET /api/pictures/{name}", "GET /owner"} <= {
        one for one, _ in asked
    }
    if inside:
        assert ("GET /api/state", 200) in asked
