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
// Beside the main path there are others ([Paths]), each with a contract, keys
// and a group of effects of its own: two versions of a contract during a rolling
// deploy, a database of the consumers that is away, a broadcast group, dead
// letters that are sent again, messages that cannot be handled, a slow key, plain
// JSON of another program.
//
// A [Checker] compares them in one pass and names each message that was lost,
// invented, handled twice, overtaken within its key or damaged, and each commit
// of which the writer was told something else than the database says. What is
// kept as a dead letter, as it should be or not, and what is stuck with the
// broker or in an outbox it tells from what is lost.
//
// The program runs it as dovetail verify.
package verify
