// Package filebus carries messages in files: channels are directories that the
// processes of one machine share, with no server between them. A kill of any
// process at any moment loses nothing that Send confirmed; with the default
// [SyncAlways] neither does a loss of power.
//
// The URL is file:/path/to/dir, or file:dir for one in the working directory,
// with the parameters sync, partitions, segment-bytes, max-bytes and expire as in
// [Options]. The directory has to be on a local disk: it is locked with
// flock(2), which network file systems keep to various degrees. Linux and macOS
// only.
//
// # One log for a channel, not one for a partition
//
// A channel is one append-only log, and a partition is a number in each of its
// records. A batch over many keys is then one write and one fsync; with a log
// for each partition it would be eight, and the fsync is what sending costs.
// The price is that each receiver of a group reads past the records of the
// others' partitions; a page cache reads them at gigabytes a second. A single
// receiver sees the channel in the order in which it was written, unkeyed
// messages too.
//
// # The mark
//
// Appending holds an exclusive lock, taken in the order of arrival. Concurrent
// Sends of one process share a write and an fsync. When the records are synced,
// the appender moves the mark, a few bytes in the file that is also the lock,
// which say how far the log is valid; then Send returns. Readers go by the mark.
// So nobody sees a record that may yet be torn, what an appender wrote before it
// died is cut off by the next one (it had confirmed nothing), and a full disk
// is undone by a truncation. What is unreadable below the mark is damage, and is
// delivered as a Fault with its bytes; the records behind it are found again.
//
// The mark is not synced. It carries the boot id of the machine, and the first
// process after a start looks for the end of the last segment instead. Should
// the log have lost, with [SyncOS] in a loss of power, what a cursor on disk has
// passed, it goes on beyond that cursor: a sequence number that is given twice
// would be taken for settled.
//
// # Groups
//
// A group has, for each partition, an owner and a cursor. The owner holds a lock
// on a file, which the kernel takes from the dead, so that no lease has to run
// out and no two processes ever own a partition. The cursor is a position and
// the list of messages before it that were handed out and not settled, with
// their attempts; it is written before Receive returns and before Settle does,
// in two slots by turns, without fsync. A successor begins with that list, in
// order. So a kill repeats what was in hand and nothing else, and attempts are
// counted beyond it; a loss of power may set cursors back and repeat more.
//
// Members hold locked files too. Each looks at them every 200 ms, computes the
// same shares, takes free partitions up to its own and hands over those beyond:
// it stops fetching, tells the core through driver.Revoker, and unlocks when
// what is in hand is settled or released.
//
// What other processes append is heard of through inotify on Linux; elsewhere,
// and where inotify has run out, receivers look every 1 to 25 ms.
//
// # Bounds
//
// A partition has at most 4096 messages handed out and not settled, those that
// wait for a retry included; beyond that it waits until half of them are. A
// Receive takes at most 8 MiB beyond its first message. Of delayed messages the
// 100,000 that are due first are known in memory, a position each. The backlog
// stays in the files; a segment is deleted once every group has passed it.
//
// docs/transports/file.md has the mapping, the limits and how to look at it.
package filebus
