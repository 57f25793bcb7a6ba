// Command wrong_body must not compile.
package main

import (
	"context"

	"github.com/dovetail-go/dovetail"
)

func main() {
	var svc *dovetail.Service
	dovetail.NewEvent[int]("catalog.ran-low").Publish(context.Background(), svc, "x") // want: cannot use "x"
}
