// Command await_an_event must not compile.
package main

import (
	"context"

	"github.com/dovetail-go/dovetail"
)

func main() {
	var svc *dovetail.Service
	dovetail.NewEvent[string]("catalog.ran-low").Publish(context.Background(), svc, "x", dovetail.Within(1)) // want: does not implement dovetail.SendOption
}
