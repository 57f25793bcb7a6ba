// Package rabbitbus carries channels over RabbitMQ (AMQP 0-9-1), version 3.10 or
// later, with quorum queues.
//
// A point-to-point channel is a queue of the channel's name; a publish–subscribe
// channel is a fan-out exchange with a queue for each group. With
// [Options.Partitions] each of these is as many queues, of which each has one
// consumer at a time (x-single-active-consumer): then order by key holds across
// instances, and they share the partitions among themselves. Without, instances
// share one queue, and order holds while there is one of them.
//
// Every message is confirmed by the server before Send returns. Many are under
// way at once, but of one key only one: a queue with a bound on its length
// refuses single messages, and what follows a refused one would be ahead of it
// when it is sent again. Where no queue has a bound, by option or by policy,
// [Options.PipelineKeys] lifts that.
//
// The client blocks for ever in calls on a dead link. Here each call has a
// deadline ([Options.Timeout]), after which the link is ended and made again.
//
// What is promised assumes of the server: the default policy (no message TTL, no
// max-length with drop-head, no dead-lettering of ours), and a
// consumer_timeout above the longest handler ([Options.AckTimeout]). docs/transports/rabbitmq.md
// has the mapping, the limits, and how to look at it with the server's tools.
package rabbitbus
