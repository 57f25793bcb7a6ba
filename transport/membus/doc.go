// Package membus carries messages within one process: for tests, for programs
// that are one process, and as the transport by which the others are measured.
//
// It declares everything that memory can do. Nothing survives the process.
// Order by key has an owner for each partition: a key's messages are with one
// receiver of a group at a time, and a partition moves to another only once its
// owner has settled, or given back, what it had in hand. There are no
// goroutines and no timers beyond those of waiting calls, so that it can be
// used inside a testing/synctest bubble.
//
// Memory is bounded: each channel holds so many messages and bytes (see
// [Options]), and Send waits while its channel is full. A group that nobody
// consumes therefore stops the senders of its channel. They get an error that
// names the channel and the group when their context ends, and after
// Options.Wait at the latest: a handler that sends to the channel it consumes
// does not wait for itself for ever.
//
// The group of a broadcast instance outlives its receivers. It ends with the
// connection of its instance; and while it has no receiver, as soon as the
// channel is full.
//
// The URL is mem:name for a bus that all of the process share by that name, for
// as long as one of its connections is open, and mem: for one of its own.
// Parameters: messages, bytes, message-bytes, partitions and wait, as in
// [Options].
package membus
