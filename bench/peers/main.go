// Peers measures other libraries beside Dovetail and the raw clients: the same
// work, on the same servers, in the same rounds. It is a module of its own,
// outside the workspace, so that their versions weigh on nobody.
//
//	cd bench/peers && GOWORK=off go run . -transport nats,rabbitmq,kafka -html peers.html
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/dovetail-go/dovetail/bench"
)

func main() {
	if bench.Serve() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o bench.Options
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = strings.Split(s, ","); return nil }
	}
	flag.Func("transport", "where: nats, rabbitmq, kafka, postgres, or URLs (default nats)", list(&o.Transports))
	flag.Func("path", "what: send, receive, e2e, outbox (default all)", list(&o.Paths))
	flag.Func("callers", "how many send at once (default 1,16,64)", func(s string) error {
		for c := range strings.SplitSeq(s, ",") {
			n, err := strconv.Atoi(c)
			if err != nil {
				return err
			}
			o.Callers = append(o.Callers, n)
		}
		return nil
	})
	flag.IntVar(&o.Rounds, "rounds", 3, "of each side")
	flag.Float64Var(&o.Seconds, "seconds", 1, "that a round takes, about, of the raw client and of Dovetail; peers do the same work and may take longer")
	flag.IntVar(&o.Backlog, "backlog", 20_000, "messages in an outbox that is drained")
	flag.IntVar(&o.Rate, "rate", 1000, "messages per second where latency is measured")
	output := flag.String("o", "table", "table or json")
	page := flag.String("html", "", "file to write the report to as a page with plots")
	document := flag.String("markdown", "", "document to write the tables into")
	flag.Parse()
	if len(o.Transports) == 0 {
		o.Transports = []string{"nats"}
	}
	if len(o.Paths) == 0 {
		o.Paths = []string{bench.PathSend, bench.PathReceive, bench.PathE2E, bench.PathOutbox}
	}
	o.Peers = []bench.Peer{watermill("watermill, default", setting{}), watermill("watermill, best", best)}
	last := 0
	o.Progress = func(p bench.Progress) {
		if p.Test != last {
			last = p.Test
			fmt.Fprintf(os.Stderr, "%d of %d: %s\n", p.Test, p.Tests, p.Name)
		}
	}
	report, err := bench.Run(ctx, o)
	if err != nil {
		return err
	}
	if *output == "json" {
		err = json.NewEncoder(os.Stdout).Encode(report)
	} else {
		err = report.WriteText(os.Stdout)
	}
	if err == nil && *document != "" {
		err = report.UpdateMarkdown(*document)
	}
	if err != nil || *page == "" {
		return err
	}
	f, err := os.Create(*page)
	if err != nil {
		return err
	}
	return errors.Join(report.WriteHTML(f), f.Close())
}
