"""A program that knows NATS and nothing of Dovetail.

client.py URL FROM TO   reads the first message of the stream FROM through a consumer
                        of its own and prints it, a field a line, then sends a
                        CloudEvent to the subject TO
"""
import asyncio
import sys
from urllib.parse import quote, unquote

import nats

CONTENT = '{"sku":"85123A","name":"铁皮 lantern"}'


async def main(url, source, target):
    nc = await nats.connect(url)
    js = nc.jetstream()
    consumer = await js.pull_subscribe("", durable="python", stream=source)
    m = (await consumer.fetch(1, timeout=60))[0]
    print("subject", m.subject, sep="\t")
    for name, value in m.headers.items():
        print("header " + name, unquote(value) if name.startswith("ce-") else value, sep="\t")
    print("body", m.data.decode(), sep="\t")
    await m.ack_sync()
    await js.publish(target, CONTENT.encode(), headers={
        "ce-specversion": "1.0", "ce-id": "python/1", "ce-source": "/python", "ce-type": "ordering.order-placed.v1",
        "ce-time": "2010-12-01T08:26:00Z", "ce-datacontenttype": "application/json",
        "ce-partitionkey": quote("顾客 17850"), "ce-comexampleextension": "kept", "tenant": "acme"})
    await nc.close()


asyncio.run(main(*sys.argv[1:]))
