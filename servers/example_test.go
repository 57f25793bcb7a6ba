package servers_test

import (
	"context"
	"fmt"
	"log"

	"github.com/dovetail-go/dovetail/servers"
)

// A program, or a TestMain, has no test to end the server with.
func ExampleLaunch() {
	ctx := context.Background()
	srv, err := servers.Launch(ctx, servers.NATS)
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	fmt.Println(srv.Name(), "answers:", srv.Answers(ctx) == nil)
	if err := srv.Kill(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("killed, answers:", srv.Answers(ctx) == nil)
	if err := srv.Restart(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("restarted, answers:", srv.Answers(ctx) == nil)
	// Output:
	// nats answers: true
	// killed, answers: false
	// restarted, answers: true
}
