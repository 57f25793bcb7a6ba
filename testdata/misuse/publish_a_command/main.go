// Command publish_a_command must not compile.
package main

import (
	"context"

	"github.com/dovetail-go/dovetail"
)

func main() {
	var svc *dovetail.Service
	dovetail.NewCommand[string]("mail.send").Publish(context.Background(), svc, "x") // want: Publish undefined
}
