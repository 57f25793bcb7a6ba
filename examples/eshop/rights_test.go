package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/examples/eshop/shop"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats-server/v2/server"
)

// The shop runs while each of its services has a user of its own, with exactly
// the rights that "dovetail topology --rights" prints for it.
func TestEshop_runs_with_the_rights_that_are_printed(t *testing.T) {
	var mu sync.Mutex
	services := map[string]*dovetail.Service{}
	learn := func(service string, svc *dovetail.Service) {
		mu.Lock()
		defer mu.Unlock()
		services[service] = svc
	}
	anybody := startBroker(t, []*server.User{{Username: "all", Password: "x"}})
	sell(t, anybody, func(string) natsbus.Options { return natsbus.Options{User: "all"} }, learn)

	users := []*server.User{}
	for service, svc := range services {
		conn := connectAs(t, anybody, natsbus.Options{User: "all", Inbox: "_INBOX_" + service})
		grants, err := conn.(driver.Granter).Grants(svc.Uses())
		if err != nil {
			t.Fatal(err)
		}
		may := &server.Permissions{Publish: &server.SubjectPermission{}, Subscribe: &server.SubjectPermission{}}
		for _, g := range grants {
			if g.Verb == "publish" {
				may.Publish.Allow = append(may.Publish.Allow, g.On)
			} else {
				may.Subscribe.Allow = append(may.Subscribe.Allow, g.On)
			}
		}
		users = append(users, &server.User{Username: service, Password: "x", Permissions: may})
	}
	if len(users) != len(shop.Services)+1 { // and the storefront
		t.Fatalf("%d services have run", len(users))
	}
	granting := startBroker(t, users)
	sell(t, granting, func(service string) natsbus.Options {
		return natsbus.Options{User: service, Inbox: "_INBOX_" + service}
	}, func(string, *dovetail.Service) {})
}

func startBroker(t *testing.T, users []*server.User) (url string) {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(),
		NoSigs: true, NoLog: true, Users: users})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return ns.ClientURL()
}

func connectAs(t *testing.T, url string, o natsbus.Options) driver.Conn {
	t.Helper()
	o.URL, o.Password, o.Logger = url, "x", slog.New(slog.NewTextHandler(t.Output(), nil))
	conn, err := natsbus.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// sell replays invoices; the balance must hold, and nobody may be denied
// anything.
func sell(t *testing.T, url string, as func(service string) natsbus.Options, learn func(string, *dovetail.Service)) {
	t.Helper()
	dir := t.TempDir()
	cfg := shop.Config{
		Orders: shop.Generated(1, 60), Patience: 10 * time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Connect: func(_ context.Context, service string, o dovetail.Options) (*dovetail.Service, error) {
			o.Hooks.Notice = func(n dovetail.Notice) {
				if driver.Classify(n.Err) == driver.Denied {
					t.Errorf("%s: %v", service, n.Err)
				}
			}
			svc := dovetail.New(service, connectAs(t, url, as(service)), o)
			learn(service, svc)
			return svc, nil
		},
		OpenStore: func(ctx context.Context, service string) (shop.Store, error) {
			return sqlitestore.Open(ctx, filepath.Join(dir, service+".db"), sqlitestore.Options{Unsafe: true})
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := shop.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !b.Balanced {
		t.Errorf("the balance does not hold: %+v", b)
	}
}
