"""python-eventflow: one consumer, as its README shows it, on a stream that is filled beforehand."""

import argparse
import asyncio
import importlib.metadata
import json
import sys
import time
import uuid

from eventflow import InboxConsumer, RedisStreamsTransport
from eventflow.patterns.inbox.models import Base
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

PEER = "python-eventflow"
STREAM = "orders"
GROUP = "peer"
BATCH = 100
PUBLISHED_AT_ONCE = 1_000
# How long the consumer may do nothing before the run has failed.
PATIENCE = 120
EFFECTS = "CREATE TABLE effects (order_id uuid NOT NULL, sku text NOT NULL, quantity integer NOT NULL)"
PROCESSED = "SELECT count(*) FROM event_inbox WHERE status = 'processed'"
EFFECT = text("INSERT INTO effects (order_id, sku, quantity) VALUES (:order_id, :sku, :quantity)")


class Handlers:
    def __init__(self, workload):
        self.inserts = workload == "insert"
        self.handled = 0

    async def handle_event(self, session, inbox):
        if self.inserts:
            order = inbox.payload
            await session.execute(EFFECT, order | {"order_id": uuid.UUID(order["order_id"])})
        self.handled += 1


def entry():
    order_id = str(uuid.uuid4())
    event = {
        "event_id": str(uuid.uuid4()),
        "event_type": "OrderCreated",
        "aggregate_id": order_id,
        "occurred_on": "2026-01-01T00:00:00Z",
        "payload": {"order_id": order_id, "sku": "book", "quantity": 1},
    }
    return {"data": json.dumps(event)}


async def publish(redis, events):
    await redis.delete(STREAM)
    for first in range(0, events, PUBLISHED_AT_ONCE):
        pipeline = redis.pipeline(transaction=False)
        for _ in range(min(PUBLISHED_AT_ONCE, events - first)):
            pipeline.xadd(STREAM, entry())
        await pipeline.execute()


async def count(engine, query):
    async with engine.connect() as connection:
        return await connection.scalar(text(query))


async def consume(consumer, handlers, engine, events):
    """The seconds from the consumer's start until the database says that all is processed."""
    started = progressed = time.monotonic()
    handled = 0
    task = asyncio.create_task(consumer.start())
    # Counting rows costs what is measured, so the handlers are counted first.
    while handled < events or await count(engine, PROCESSED) < events:
        if task.done():
            await task
            sys.exit(f"the consumer ended after {handled} of {events} events")
        await asyncio.sleep(0.02)
        if handlers.handled > handled:
            handled, progressed = handlers.handled, time.monotonic()
        if time.monotonic() - progressed > PATIENCE:
            sys.exit(f"nothing was done for {PATIENCE} s after {handled} of {events} events")
    seconds = time.monotonic() - started
    task.cancel()
    return seconds


async def main(arguments):
    engine = create_async_engine("postgresql+asyncpg://" + arguments.database_url.split("://", 1)[1])
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(text(EFFECTS))
    address = Redis.from_url(arguments.redis_url).connection_pool.connection_kwargs
    redis = RedisStreamsTransport(host=address["host"], port=address.get("port", 6379)).build_client()
    await publish(redis, arguments.events)

    handlers = Handlers(arguments.workload)
    InboxConsumer.BATCH_SIZE = BATCH
    consumer = InboxConsumer(
        redis_client=redis,
        session_factory=async_sessionmaker(engine, expire_on_commit=False),
        stream_name=STREAM,
        consumer_group=GROUP,
        consumer_name_prefix=PEER,
        event_handlers=handlers,
    )
    seconds = await consume(consumer, handlers, engine, arguments.events)
    effects = await count(engine, "SELECT count(*) FROM effects")
    if handlers.inserts and effects != arguments.events:
        sys.exit(f"{effects} effects of {arguments.events} events")
    report = {
        "peer": PEER,
        "version": importlib.metadata.version(PEER),
        "workload": arguments.workload,
        "events": arguments.events,
        "seconds": seconds,
        "tuned": f"batches of {BATCH}, one consumer; the insert is in the event's transaction",
    }
    print(json.dumps(report), flush=True)
    await redis.aclose()
    await engine.dispose()


parser = argparse.ArgumentParser()
parser.add_argument("--database-url", required=True)
parser.add_argument("--redis-url", required=True)
parser.add_argument("--workload", required=True, choices=["noop", "insert"])
parser.add_argument("--events", required=True, type=int)
asyncio.run(main(parser.parse_args()))
