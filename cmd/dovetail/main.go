// Dovetail runs, watches, measures and repairs a system of services that talk
// by message. Data goes to standard output, everything else to standard error.
// It exits with 0 when done, 1 when it could not be done, and 2 when it was used
// wrongly.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/dovetail-go/dovetail/bench"

	_ "github.com/dovetail-go/dovetail/transport/filebus"          // file:
	_ "github.com/dovetail-go/dovetail/transport/kafkabus"         // kafka:
	_ "github.com/dovetail-go/dovetail/transport/membus"           // mem:
	_ "github.com/dovetail-go/dovetail/transport/natsbus"          // nats:
	_ "github.com/dovetail-go/dovetail/transport/natsbus/embedded" // embedded:
	_ "github.com/dovetail-go/dovetail/transport/rabbitbus"        // amqp:
)

func main() {
	if bench.Serve() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := newApp(in, out, errOut)
	out, errOut = a.out, a.err
	cmd := a.root()
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(errOut)
	used, err := cmd.ExecuteContextC(ctx)
	var wrong *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return 1
	case errors.As(err, &wrong):
		a.note("dovetail: %v\nsee %s --help", err, used.CommandPath())
		return 2
	}
	a.note("dovetail: %v", err)
	return 1
}

// errReported is a failure that has been told already, item by item.
var errReported = errors.New("reported")

// A usageError is a command line that makes no sense.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// misuse makes a usageError.
func misuse(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }
