// Command subscribe_to_a_command must not compile.
package main

import (
	"context"

	"github.com/dovetail-go/dovetail"
)

func main() {
	var svc *dovetail.Service
	dovetail.NewCommand[string]("mail.send").Subscribe(svc, func(context.Context, string) error { return nil }) // want: Subscribe undefined
}
