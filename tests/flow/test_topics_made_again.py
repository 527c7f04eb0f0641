"""A topic that is deleted and made again is another topic: its events are new, and none of them is lost."""

from __future__ import annotations

import contextlib

import msgspec
from kafka import KafkaAdminClient

from schemas.models import MODELS
from schemas.topics import TECHNIQUES, TRIGGERS, Topic
from tests.flow.events import technique
from tests.flow.graph import expected_graph, stored_graph
from tests.flow.roles import terminate, until
from tests.flow.world import World, in_journal, pure_fold, sources, triggers_of
from transport.admin import admin_client
from transport.topics import create_topics


def make_again(admin: KafkaAdminClient, world: World, topic: Topic) -> None:
    """Delete a topic and create it again."""
    admin.delete_topics([topic.name])
    until(lambda: topic.name not in admin.list_topics(), f"{topic.name} gone")
    create_topics(world.bootstrap)


def test_the_events_of_a_topic_that_was_made_again_are_journalled_and_drawn(world: World) -> None:
    world.publish(technique(n) for n in range(60))
    with world.role("journal") as journal_role, world.role("graph") as graph_role:
        for one in (journal_role, graph_role):
            one.live()
        before = sources(world)
        with contextlib.closing(admin_client(world.bootstrap)) as admin:
            make_again(admin, world, TECHNIQUES)
        world.publish(msgspec.structs.replace(technique(n), text="another text") for n in range(60))
        for one in (journal_role, graph_role):
            one.ended("since its topic is another")
            assert "was deleted, and may have been made again" in one.log
    with world.role("journal") as journal_role, world.role("graph") as graph_role:
        for one in (journal_role, graph_role):
            one.live()
        world.publish([technique(60)])
        journal_role.until(
            lambda: sorted(in_journal(world, MODELS[0])) == sorted([*before, *sources(world)]), "all of both topics"
        )
        graph_role.until(lambda: "T1060" in [node[0] for node in stored_graph(world.driver)[0]], "the last")
        assert terminate(journal_role, graph_role) == [0, 0]
    assert stored_graph(world.driver) == expected_graph((event, m.offset) for m, event in world.events())
    texts = world.driver.execute_query("MATCH (n:Technique) RETURN DISTINCT n.text AS text LIMIT 5").records
    assert {row["text"] for row in texts} == {"another text", technique(60).text}


def test_a_trigger_that_waits_for_its_answer_survives_its_topic(world: World) -> None:
    world.publish(technique(n) for n in range(60))
    with world.role("journal") as journal_role, world.role("fold") as fold_role:
        for one in (journal_role, fold_role):
            one.live()
        until(lambda: world.records(TRIGGERS), "a trigger")
        [asked] = world.records(TRIGGERS)
        with contextlib.closing(admin_client(world.bootstrap)) as admin:
            make_again(admin, world, TRIGGERS)
        fold_role.ended("since its topic is another")
    with world.role("fold") as fold_role:
        fold_role.live()
        assert world.records(TRIGGERS) == [asked] == triggers_of(pure_fold(world.journal())[1])
