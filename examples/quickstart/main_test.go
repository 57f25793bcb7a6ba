package main

import (
	"os"
	"testing"
)

// TestMain has the example's files in a directory of their own.
func TestMain(m *testing.M) {
	dir := must(os.MkdirTemp("", "quickstart"))
	if err := os.Chdir(dir); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func Example() {
	main()
	// Output:
	// {mug 9} <nil>
	// ran low: {mug 9}
	// ended: <nil>
}
