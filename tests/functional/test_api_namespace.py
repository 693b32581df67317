"""A system that shares its Kafka says which one it is, wherever somebody looks at it."""

from __future__ import annotations


def test_answers_and_pages_say_which_namespace_they_show(make_api):
    """Two dashboards look alike, and a pause in the wrong one stops somebody else's work."""
    api, bare = make_api(namespace="acme"), make_api()
    page = {"Accept": "text/html"}
    for path in ("/", "/workers", "/control", "/submit"):
        assert "· acme</title>" in api.request("GET", path, headers=page).text
        assert "acme" not in bare.request("GET", path, headers=page).text
    assert ("acme", "") == tuple(one.get("/api/workers").json()["namespace"] for one in (api, bare))
    assert 'ebs_namespace="acme"' in api.get("/metrics").text
    assert "acme.dead-letters" in api.get("/api/asyncapi.json").json()["channels"]


def test_readiness_says_the_namespace_only_where_there_is_one(make_api):
    """A probe's answer stays as short as it was."""
    api, bare = make_api(namespace="acme"), make_api()
    for one in (api, bare):
        one.view.caught_up_once = True
    assert {"status": "ok", "namespace": "acme"} == api.get("/readyz").json()
    assert {"status": "ok"} == bare.get("/readyz").json()


def test_command_is_written_to_the_control_topic_of_the_namespace(make_api):
    """The view waits for it there, and shows it."""
    api = make_api(namespace="acme")
    assert 202 == api.post("/api/control/pause", json={"kind": "mail"}).status_code
    (record,) = api.topics.records["acme.control", 0]
    assert b"pause:mail" == record.key
