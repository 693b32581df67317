"""Where a request goes: the topic by the queue of its kind, the partition by its object."""

from __future__ import annotations

import pytest
from histories import task_event
from plain_names import BARE

from app.events import JOIN_SEQUENCE, SPLIT_SEQUENCE, TaskCreated
from app.names import MAX_NAMESPACE_CHARS, PROCESSING, Names
from app.rules.routing import Routes
from ebs import Context, Project, Task
from ebs.errors import ProjectRefused
from ebs.queues import MAX_QUEUE_CHARS, why_no_queue
from ebs.task import CALLBACK_KIND


def project_of(**queues: str | None) -> Project:
    """Return a project with a function for each kind, in a queue."""
    project = Project()
    for kind, queue in queues.items():

        @project.task({"any": "*"}.get(kind, kind), queue=queue)
        def work(task: Task, context: Context) -> None:
            """Do nothing."""

    return project


def request(kind: str, sequence: int = 1, **fields: object) -> TaskCreated:
    """Return the request of a task of an object in partition 3."""
    made = task_event(TaskCreated, "a", sequence, at_ms=1)
    return TaskCreated(*(made.id, "a", made.task_id, 3, kind, sequence, 5, 1, 1), **fields)


def test_kinds_go_to_the_topics_of_their_queues() -> None:
    """Kinds without a queue, and without a function, go to the default one; a namespace stands before both."""
    routes = Routes(Names("acme"), 4, project_of(embed="gpu", mail=None, page="default").queues)
    assert ("acme.task-requests-gpu", 0) == routes.of(request("embed"))
    assert {"acme.task-requests"} == {routes.of(request(kind))[0] for kind in ("mail", "page", "other")}
    assert {"acme.task-requests-gpu", "acme.task-requests"} == routes.topics
    assert ["gpu", "default"] == [routes.queue(kind) for kind in ("embed", "other")]


def test_queue_for_any_kind_takes_the_kinds_without_a_function() -> None:
    """Not those with a function that names no queue, and not the callbacks, which no function runs."""
    routes = Routes(BARE, 4, project_of(any="bulk", mail=None).queues)
    queues = [routes.queue(kind) for kind in ("other", "mail", CALLBACK_KIND)]
    assert ["bulk", "default", "default"] == queues
    assert "task-requests-bulk" == routes.topic("other")


@pytest.mark.parametrize("worker", ["embed", "any"])
def test_split_and_join_go_to_the_queue_of_the_tasks(worker: str) -> None:
    """Also where the tasks are worked by the function for any kind."""
    project = project_of(**{worker: "gpu"})
    project.split("embed")(project.function("task", "embed").call)
    routes = Routes(BARE, 4, project.queues)
    for sequence, role in ((SPLIT_SEQUENCE, "split"), (JOIN_SEQUENCE, "join")):
        assert ("task-requests-gpu", 3) == routes.of(request("embed", sequence, role=role))


@pytest.mark.parametrize(
    "name", ["", "GPU", "g_u", "g.u", "-gpu", "gpu-", "gpu\n", "ä", "a" * (MAX_QUEUE_CHARS + 1), 3, "retry-1s"]
)
def test_queue_that_could_not_name_a_topic_is_refused(name: object) -> None:
    """At the import of the project, with kind, function and what it may be."""
    with pytest.raises(ProjectRefused, match=r"the function of kind embed, .*:project_of.*work, has queue=.* must "):
        project_of(embed=name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "gpu", "gpu-2", "0", "a" * MAX_QUEUE_CHARS])
def test_names_of_queues_fit_into_topics(name: str) -> None:
    """With the longest namespace, and each queue has names of its own."""
    assert why_no_queue(name) is None
    names = Names("n" * MAX_NAMESPACE_CHARS)
    assert len(names.requests(name)) <= 249
    assert names.group(PROCESSING) != names.requests(name) != names.task_requests
    assert names.is_of_requests(names.requests(name))
    assert not names.is_former_retry_topic(names.requests(name))
