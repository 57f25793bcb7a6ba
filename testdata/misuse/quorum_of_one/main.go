// Command quorum_of_one must not compile.
package main

import (
	"context"

	"github.com/dovetail-go/dovetail"
)

func main() {
	var svc *dovetail.Service
	dovetail.NewCall[string, string]("catalog.reserve").Request(context.Background(), svc, "x", dovetail.Quorum(2)) // want: does not implement dovetail.RequestOption
}
