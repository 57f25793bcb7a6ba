// Package kafkabus carries channels over Apache Kafka, and whatever else speaks
// its protocol as well as Kafka 2.8 does.
//
// # Mapping
//
// A channel is a topic of the same name. A message's key is the record's key and
// chooses the partition as Java's default does (murmur2), so that programs in
// other languages put it beside ours; messages without a key are spread. A group
// is the consumer group "<group>@<channel>": receivers of different channels do
// not take part in each other's rebalances.
//
//   - Point-to-point: a topic with one group, which begins at the earliest.
//   - Publish–subscribe: each group begins where the topic ended when the group
//     was provisioned, and at the start of partitions that are added later.
//   - A broadcast subscription: no consumer group at all; the receiver reads every
//     partition from where it ended when the receiver was first opened, and one
//     that is opened again goes on where the Conn knows that the last one was.
//   - A reply channel "reply.<service>.<instance>": the topic "reply.<service>",
//     with the channel's name in a header, read like a broadcast and filtered.
//
// What Kafka has no room for – a channel's kind, and where each group begins – is
// written to the compacted topic "__dovetail". A group's beginning is kept there
// for good, so that committed offsets that expire on the server are replaced by
// the beginning and never by the end.
//
// # Sending
//
// Always with the idempotent producer and acknowledgement by all replicas that
// are in sync. A record that fails takes with it those that were sent later to its
// partition and are not confirmed either, so that several unconfirmed batches of a
// key keep their order. Every record has a deadline (Options.Timeout).
//
// # Receiving
//
// Settlements come in any order and are committed before Settle returns: the
// contiguous prefix as the offset, what was settled beyond it as runs in the
// commit's metadata, which the next owner reads and passes over. A retry is held
// in memory, since Kafka has none: its position stays unsettled.
//
// Partitions move cooperatively. One that is taken away is announced through
// driver.Revoker, and given up when the core has released it or
// Options.DrainTimeout is over; its last commit is made in the generation that
// owned it, and one of a later generation never concerns it.
//
// Others' transactions are read committed. Keys and header values of others that
// are no text come as driver.ForeignText.
//
// A position that the server no longer has is driver.ErrPositionLost.
package kafkabus
