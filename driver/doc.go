// Package driver is what a transport must do for Dovetail: carry messages over
// channels, in batches, and say honestly what became of them.
//
// A transport implements [Conn] and [Receiver], registers a URL scheme with
// [Register], and passes the suite of package drivertest against its real
// server. It never retries, batches over time, logs, traces or decides: retry,
// scheduling by key, shutdown, dead letters and telemetry are written once, in
// package dovetail, on top of it.
//
// The words are those of Hohpe and Woolf, Enterprise Integration Patterns
// (Addison-Wesley, 2003), and Richardson, Microservices Patterns (Manning,
// 2018).
package driver
