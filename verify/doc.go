// Package verify proves on somebody's own servers that nothing is lost. It runs
// writers, relays and consumers as processes of their own, breaks them and
// their connections in the ways that were asked for, and compares what was
// committed with what was handled.
//
// Writers update a row of a key and publish events through the outbox in one
// transaction; some transactions are rolled back, some have a part undone, some
// take long. Each event carries its key's number, which was assigned while the
// transaction held the row of the key. Consumers handle each event behind the
// inbox and write down what they did in the same transaction. So the two
// databases themselves tell what was committed and what was handled, whatever
// was killed in between; what a process was told about its commits is in a file
// that it appends to.
//
// A [Checker] compares them in one pass and names each message that was lost,
// invented, handled twice, overtaken within its key or damaged, and each commit
// of which the writer was told something else than the database says.
//
// The program runs it as dovetail verify.
package verify
