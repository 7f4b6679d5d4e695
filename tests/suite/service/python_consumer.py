"""A consumer of python-eventflow 1.0.1: `python_consumer.py MODE REDIS_PORT DATABASE_URL`.

`create` makes the table as the package does, `fill` stores what is in the stream and handles the
first batch of it, `run` consumes until it is killed.
"""

import asyncio
import sys

from eventflow import InboxConsumer, RedisStreamsTransport
from eventflow.patterns.inbox.models import Base
from eventflow.patterns.inbox.repository import EventInboxRepository
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

EFFECT = text("INSERT INTO effects (event_id, done_by) VALUES (:event_id, 'python')")


class Handlers:
    async def handle_event(self, session, inbox):
        await session.execute(EFFECT, {"event_id": inbox.event_id})


async def main(mode, redis_port, database_url):
    engine = create_async_engine(database_url)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    if mode == "create":
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        return
    consumer = InboxConsumer(
        redis_client=RedisStreamsTransport(host="127.0.0.1", port=int(redis_port)).build_client(),
        session_factory=sessions,
        stream_name="work",
        consumer_group="billing",
        consumer_name_prefix="python",
        event_handlers=Handlers(),
    )
    if mode == "run":
        print("running", flush=True)
        await consumer.start()
        return
    await consumer._ensure_consumer_group()
    while await consumer._drain_stream_once():
        pass
    async with sessions() as session:
        repository = EventInboxRepository(session)
        for row in await repository.acquire_due_events(InboxConsumer.BATCH_SIZE):
            await repository.mark_processing(row)
            await Handlers().handle_event(session, row)
            await repository.mark_processed(row)
        await session.commit()


asyncio.run(main(*sys.argv[1:]))
