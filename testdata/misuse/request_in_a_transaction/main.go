// Command request_in_a_transaction must not compile.
package main

import (
	"context"

	"github.com/dovetail-go/dovetail"
)

func handle(ctx context.Context, out dovetail.Sender) {
	dovetail.NewCall[string, string]("catalog.reserve").Request(ctx, out, "x") // want: does not implement dovetail.Caller
}

func main() { handle(context.Background(), nil) }
