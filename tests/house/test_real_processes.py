"""The ground of the tests that need a store of real processes."""

from __future__ import annotations

import pytest
import requests
from redis.exceptions import RedisError


def test_a_world_serves_its_seeded_catalog(world):
    world.start("web")

    assert requests.get(f"{world.url}/health/ready", timeout=5).status_code == 200
    assert world.sql("SELECT count(*) FROM strategy")[0][0] >= 6
    assert world.sql("SELECT 1 FROM users WHERE email = :email", email="sam@staff.example")


def test_a_killed_worker_leaves_no_process_and_comes_back(world):
    world.start("worker", "scheduler")
    world.eventually(lambda: "Connected to Redis" in world.log("worker"))

    world.kill("worker")
    before = world.log("worker").count("Connected to Redis")
    world.start("worker")

    world.eventually(lambda: world.log("worker").count("Connected to Redis") == before + 1)


def test_a_redis_that_went_away_comes_back_empty_at_the_same_address(world):
    world.redis.set("what", "was here")

    world.stop_redis()
    with pytest.raises(RedisError):
        world.redis.ping()
    world.start_redis()

    assert world.redis.get("what") is None


def test_a_command_runs_in_this_world(world):
    world.execute("UPDATE strategy SET name = 'renamed' WHERE slug = (SELECT min(slug) FROM strategy)")

    assert "hold" in world.run("sts invariants")
