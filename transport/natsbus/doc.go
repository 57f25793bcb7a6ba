// Package natsbus carries channels over NATS: JetStream for what must not be
// lost, plain NATS for what nobody misses. Package natsbus/embedded runs the
// server inside the process.
//
// # Mapping
//
// A channel is a stream of its own. One stream for all would share one
// retention, one dedupe window and one writer, and a channel could not be
// bounded or removed alone. The stream is called like the channel with "+" for
// "." (which the server forbids and channel names do not contain), and keeps
// the subjects <channel>.*, of which a message travels on <channel>.p<k>: k is
// the FNV-1a hash of its key modulo the channel's partitions. Subjects have one
// token more than their channel's name, so no two channels overlap.
//
//   - Point-to-point: work-queue retention. A message stays until the one group
//     has settled it.
//   - Publish–subscribe: interest retention. A message stays until every group
//     that was provisioned before it has settled it, whether that listens or not.
//   - A group: a durable pull consumer with explicit acknowledgement; of a channel
//     with partitions, one for each, which delivers to one owner at a time.
//   - A broadcast subscription: a durable consumer of its instance's own, which
//     outlives receivers. The server removes it a while after the instance was
//     last seen (Options.Expire).
//   - A transient channel: the plain subject <channel>.t, with a queue group for
//     each group. Broadcasts, and replies, for which one instance listens, have
//     none. Nothing is stored, confirmed or provisioned. Who sends to a channel
//     that has no stream, as to a caller's reply channel, finds out whether
//     somebody listens; if nobody does the channel is not found.
//
// # Sending
//
// Several messages for one stream go as a fast batch (nats-server 2.14) in the
// mode that ends at a gap: the server stores a prefix of the batch and nothing
// behind, whatever is refused or lost. To a server before that, of each key one
// message at a time is under way. Either way, no message is confirmed ahead of
// an earlier one of its key in the same Send that may be sent again.
//
// Atomic batches (2.12) were not taken: they are staged and written twice, are
// bounded to 1,000 messages and 50 at a time for a stream, and one duplicate
// refuses the whole batch.
//
// The server drops a second copy of (source, id, type) on publish–subscribe
// channels for Options.Dedupe. On point-to-point channels it does not: who takes a
// message out of the dead letters and puts it back soon after would be told
// that it is stored when it is not.
//
// Delay is left to the core: the server's message schedules (2.12) fire at most
// every quarter of a second, and what is due within one firing comes in the
// order in which it was sent, not in which it was due.
//
// # Receiving
//
// A receiver asks for as many messages and bytes as its window has room for; the
// partitions share it. Its acknowledgements are answered before Settle returns;
// one that was sent and not answered is named in a *driver.StaleError when it is
// settled again.
// When a Receive is cancelled, it withdraws its requests until the next: what is
// sent while handlers come to their end goes to others. Messages of one key come
// in order while one receiver of a group is open (driver.OrderInstance), also
// across a loss of the link or a restart of the server: what was on its way is
// asked back before anything later is handed out. With several receivers it
// comes again when its lease ends. Receivers of a group find each other over
// plain NATS.
//
// With Options.Partitions, each partition has one owner among the receivers of a
// group, whom the server pins (nats-server 2.11), and order holds across
// instances (driver.OrderOwner); see docs/decisions/0014.
//
// # Messages
//
// Attributes are headers "ce-…", percent-encoded as CloudEvents' NATS binding
// says. Other headers go through as they are; one that NATS would act on or
// change ("Nats-…", a value that begins or ends with a space) travels in a
// header "dovetail-header" and comes out as it was.
package natsbus
