"""A program that knows RabbitMQ and nothing of Dovetail.

client.py URL FROM TO   takes one message from the queue FROM and prints it, a field
                        a line, then publishes a CloudEvent to the queue TO
"""
import sys

import pika

_, url, source, target = sys.argv
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()

method, properties, body = channel.basic_get(source)
if method is None:
    sys.exit("the queue is empty")
print("content-type", properties.content_type, sep="\t")
print("message-id", properties.message_id, sep="\t")
print("delivery-mode", properties.delivery_mode, sep="\t")
for name, value in properties.headers.items():
    for v in value if isinstance(value, list) else [value]:
        print("header " + name, v, sep="\t")
print("body", body.decode(), sep="\t")
channel.basic_ack(method.delivery_tag)

channel.confirm_delivery()
channel.basic_publish("", target, '{"sku":"85123A","name":"铁皮 lantern"}'.encode(), mandatory=True, properties=pika.BasicProperties(
    content_type="application/json", delivery_mode=2, headers={
        "cloudEvents_specversion": "1.0", "cloudEvents_id": "python/1", "cloudEvents_source": "/python",
        "cloudEvents_type": "ordering.order-placed.v1", "cloudEvents_time": "2010-12-01T08:26:00Z",
        "cloudEvents_partitionkey": "17850", "cloudEvents_comexampleextension": "kept",
        "tenant": "acme", "tag": ["a", "b"], "count": 3}))
connection.close()
