// Package sdkgo has tests of our transports together with sdk-go.
package sdkgo
