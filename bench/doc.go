// Package bench measures Dovetail beside the raw client of each transport: the
// same work, in the same run, round by round in turn (A B A B), on a channel of
// its own in each round. What it reports first is the ratio, since ratios hold
// from machine to machine and absolute figures do not.
//
// "Raw" is the client library used as well as it can be: pipelined, with the
// same durability (confirmed, persisted, acknowledged after handling), an empty
// handler and no envelope. For memory it is a Go channel, for a directory an
// append with fdatasync, shared by those who wait for one. Servers are started
// for a run, of those that are installed; the URL of any other will do.
//
// Messages are counted at the handler. Latency is an open loop at a fixed rate:
// a message bears the time at which it was due to be sent, not the time at
// which it was, so that a stall counts for all who would have sent meanwhile.
package bench
