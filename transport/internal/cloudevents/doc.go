// Package cloudevents has a test that runs those in testdata/sdkgo, a module of
// its own outside the workspace: there sdk-go, the CloudEvents SDK for Go, reads
// what our transports send, and they read what it sends.
package cloudevents
