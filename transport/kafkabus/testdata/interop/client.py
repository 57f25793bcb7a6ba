"""A program that knows Kafka and nothing of Dovetail.

client.py BROKER FROM TO   reads the first message of the topic FROM and prints it,
                           a field a line, then sends a CloudEvent to the topic TO
"""
import sys

import kafka

_, broker, source, target = sys.argv


def first():
    """The first record of the topic. A consumer now and then never gets going; the next one does."""
    for _ in range(6):
        consumer = kafka.KafkaConsumer(source, bootstrap_servers=broker, auto_offset_reset="earliest",
                                       consumer_timeout_ms=15_000)
        try:
            for record in consumer:
                return record
        finally:
            consumer.close()
    sys.exit("nothing came from " + source)


record = first()
print("partition", record.partition, sep="\t")
print("key", record.key.decode(), sep="\t")
for name, value in record.headers:
    print("header " + name, value.decode(), sep="\t")
print("body", record.value.decode(), sep="\t")

producer = kafka.KafkaProducer(bootstrap_servers=broker, acks="all")
sent = producer.send(target, key="17850".encode(), value='{"sku":"85123A","name":"铁皮 lantern"}'.encode(), headers=[
    ("ce_specversion", b"1.0"), ("ce_id", b"python/1"), ("ce_source", b"/python"),
    ("ce_type", b"ordering.order-placed.v1"), ("ce_time", b"2010-12-01T08:26:00Z"), ("ce_comexampleextension", b"kept"),
    ("content-type", b"application/json"), ("tenant", b"acme"), ("tag", b"a"), ("tag", b"b")])
print("sent to", sent.get(timeout=60).partition, sep="\t")
producer.close()
