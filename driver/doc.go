// Package driver defines what a transport must do for Dovetail: carry messages
// over channels, in batches, and report what became of each message.
//
// A transport implements [Conn] and [Receiver], registers a URL scheme with
// [Register], and passes the suite of package drivertest against its real
// server. It does not retry, wait for batches to fill, trace, or decide what becomes
// of a message. Package dovetail does this once for all transports: retries,
// scheduling by key, shutdown, dead letters and telemetry.
//
// Transports implement the interfaces and use the functions of this package. Services
// use package dovetail; of this package they see [Message], [Headers] and the errors.
//
// The words are those of Hohpe and Woolf, Enterprise Integration Patterns
// (Addison-Wesley, 2003), and Richardson, Microservices Patterns (Manning,
// 2018).
package driver
