// Package drivertest is the conformance suite that every transport passes
// against its real engine: one function, [Run], over a small [Harness].
//
// What is tested follows from what the transport declares in
// driver.Capabilities and from the optional interfaces that it implements. A
// declared gap is verified where that can be done (a transport without
// Broadcast must refuse a broadcast subscription) and is listed in a table at
// the end of the run, so that nothing is left out in silence.
//
// The suite never sleeps. Every wait ends after Harness.Patience with a message
// that says what was awaited and what had come until then.
package drivertest
