package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/examples/eshop/shop"
	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
	"github.com/spf13/cobra"
)

// What processes of services are told: where broker and store are. The URLs may
// have passwords in them and do not belong on a command line.
const (
	demoBroker = "DOVETAIL_DEMO_BROKER"
	demoStore  = "DOVETAIL_DEMO_STORE"
)

// wire says what the shop runs on. What it returns ends that.
func (d *demo) wire(ctx context.Context, cfg *shop.Config) (release func() error, err error) {
	dir, removeDir, err := d.dir()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeDir())
		}
	}()
	tables := or(d.a.store, "sqlite:"+url.PathEscape(dir))
	if err := checkHome(tables); err != nil {
		return nil, err
	}
	broker := d.a.broker
	if broker == "" {
		broker = "embedded:?dir=" + url.QueryEscape(filepath.Join(dir, "broker"))
	}
	scheme, _, ok := strings.Cut(broker, ":")
	switch {
	case !ok || !slices.Contains(driver.Schemes(), scheme):
		return nil, misuse("no transport for %s: is linked in: want one of %s", scheme, strings.Join(driver.Schemes(), ":, ")+":")
	case broker == "mem:":
		broker = "mem:demo" // one for all services of this process
	}
	if d.killEvery == 0 {
		return removeDir, on(cfg, broker, tables)
	}
	stop := func() error { return nil }
	switch scheme {
	case "mem":
		return nil, misuse("--kill-every runs the services as processes, which memory does not reach: name a broker that they share, as in file:DIR or nats://HOST:PORT")
	case "embedded":
		if broker, stop, err = listen(ctx, broker, cfg.Logger); err != nil {
			return nil, err
		}
	case "nats", "tls":
		broker = withParam(broker, "ack-wait", "1s") // what a killed process had in hand comes again after it
	}
	self, err := os.Executable()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("find the program to run the services with: %w", err), stop())
	}
	if err := on(cfg, broker, tables); err != nil {
		return nil, errors.Join(err, stop())
	}
	cfg.Process = func(ctx context.Context, service, instance string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, self, "demo", "serve", service, instance)
		cmd.Env = append(os.Environ(), demoBroker+"="+broker, demoStore+"="+tables)
		return cmd
	}
	return func() error { return errors.Join(stop(), removeDir()) }, nil
}

// listen starts the embedded broker so that processes reach it.
func listen(ctx context.Context, broker string, log *slog.Logger) (address string, stop func() error, err error) {
	u, err := url.Parse(broker)
	if err != nil {
		return "", nil, misuse("--broker %s: want scheme:path", driver.Redact(broker))
	}
	o, _, err := embedded.ParseURL(u)
	if err != nil {
		return "", nil, misuse("--broker %s: %w", driver.Redact(broker), err)
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Token == "" {
		o.Token = rand.Text()
	}
	o.Logger = log
	server, err := embedded.Start(ctx, o)
	if err != nil {
		return "", nil, err
	}
	return server.ClientURL() + "?ack-wait=1s&token=" + url.QueryEscape(o.Token),
		func() error { return server.Close(context.WithoutCancel(ctx)) }, nil
}

func withParam(raw, name, value string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Query().Has(name) { // checkBroker has refused what Query drops
		return raw
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// dir is a directory for what is not to outlive the demo.
func (d *demo) dir() (dir string, remove func() error, err error) {
	if d.a.broker != "" && d.a.store != "" {
		return "", func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "dovetail-demo-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// on has the services connect to a broker and keep their tables in a store.
func on(cfg *shop.Config, broker, tables string) (err error) {
	cfg.Connect = func(ctx context.Context, service string, o dovetail.Options) (*dovetail.Service, error) {
		return dovetail.Open(ctx, service, broker, o)
	}
	cfg.OpenStore, err = homeOf(tables)
	return err
}

// demoServe is the program as one service's process.
func (a *app) demoServe() *cobra.Command {
	return &cobra.Command{
		Use:     "serve SERVICE INSTANCE",
		Short:   "Run one service of the demo; the demo itself calls it",
		Example: "  dovetail demo --kill-every 300ms",
		Hidden:  true,
		Args:    arguments(2, 2, "SERVICE INSTANCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			broker, tables := os.Getenv(demoBroker), os.Getenv(demoStore)
			if broker == "" || tables == "" {
				return misuse("serve is for the program itself: see dovetail demo --help")
			}
			// A Ctrl-C at the terminal goes to all processes; the services wait
			// for the shop to end them.
			ctx := context.WithoutCancel(cmd.Context())
			cfg := shop.Config{Logger: slog.Default()}
			if err := on(&cfg, broker, tables); err != nil {
				return err
			}
			return shop.Serve(ctx, cfg, args[0], args[1], a.in, bare(a.out))
		},
	}
}
