// Package drivertest is the conformance suite that every transport passes
// against its real engine: one function, [Run], over a small [Harness].
//
// What is tested follows from what the transport declares in
// driver.Capabilities and from the optional interfaces that it implements. A
// declared gap is verified where that can be done (a transport without
// Broadcast must refuse a broadcast subscription) and is listed in a table at
// the end of the run, so that nothing is left out in silence. A test that needs
// a field of Harness that is not set fails, unless Harness.KnownGaps says why
// there can be none.
//
// [Faults] breaks the engine, links and processes while messages flow, and
// [Interop] runs a program in another language; both take the same harness. A
// transport's own tests of faults use a [ConsumerGroup] as Faults does.
//
// The suite never sleeps. Every wait ends after Harness.Patience with a message
// that says what was awaited and what had come until then.
package drivertest
