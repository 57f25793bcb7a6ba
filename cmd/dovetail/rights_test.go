package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/examples/eshop/shop"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// connecting opens a connection for a user.
type connecting func(ctx context.Context, user string) (driver.Conn, error)

// rightsSuffice runs the eShop with all rights, and again while each service has
// a user with the rights that follow from what it did. start makes a new broker,
// or a part of one; nil gives the user "all" every right.
func rightsSuffice(t *testing.T, start func(t *testing.T, users map[string][]driver.Grant) connecting) {
	all := start(t, map[string][]driver.Grant{"all": nil})
	services := sell(t, func(ctx context.Context, _ string) (driver.Conn, error) { return all(ctx, "all") })
	users := map[string][]driver.Grant{}
	for name, svc := range services {
		grants, err := svc.Conn().(driver.Granter).Grants(svc.Uses())
		if err != nil {
			t.Fatal(err)
		}
		users[name] = grants
	}
	if len(users) != len(shop.Services)+1 { // and the storefront
		t.Fatalf("%d services have run", len(users))
	}
	sell(t, start(t, users))
}

// sell replays invoices; the balance must hold, and nobody may be denied
// anything.
func sell(t *testing.T, connect connecting) map[string]*dovetail.Service {
	t.Helper()
	var mu sync.Mutex
	services := map[string]*dovetail.Service{}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	b, err := shop.Run(ctx, shop.Config{
		Orders: shop.Generated(1, 60), Patience: 30 * time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Connect: func(ctx context.Context, service string, o dovetail.Options) (*dovetail.Service, error) {
			o.Hooks.Notice = func(n dovetail.Notice) {
				if driver.Classify(n.Err) == driver.Denied {
					t.Errorf("%s: %v", service, n.Err)
				}
			}
			conn, err := connect(ctx, service)
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
			svc := dovetail.New(service, conn, o)
			mu.Lock()
			defer mu.Unlock()
			services[service] = svc
			return svc, nil
		},
		OpenStore: func(ctx context.Context, service string) (shop.Store, error) {
			return sqlitestore.Open(ctx, filepath.Join(dir, service+".db"), sqlitestore.Options{Unsafe: true})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !b.Balanced {
		t.Errorf("the balance does not hold: %+v", b)
	}
	return services
}

func TestRights_that_are_printed_run_the_eshop_on_Kafka(t *testing.T) {
	operations := map[string]kmsg.ACLOperation{"Create": kmsg.ACLOperationCreate, "DescribeConfigs": kmsg.ACLOperationDescribeConfigs,
		"Read": kmsg.ACLOperationRead, "Write": kmsg.ACLOperationWrite}
	rightsSuffice(t, func(t *testing.T, users map[string][]driver.Grant) connecting {
		opts := []kfake.Opt{kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs()}
		for user, grants := range users {
			if grants == nil {
				opts = append(opts, kfake.Superuser("PLAIN", user, "x"))
				continue
			}
			var acls []kfake.ACL
			for _, g := range grants {
				kind, name, _ := strings.Cut(g.On, " ")
				acl := kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: operations[g.Verb], Allow: true}
				if kind == "group" {
					acl.Resource = kmsg.ACLResourceTypeGroup
				}
				if prefix, is := strings.CutSuffix(name, "*"); is {
					acl.Name, acl.Pattern = prefix, kmsg.ACLResourcePatternTypePrefixed
				}
				acls = append(acls, acl)
			}
			opts = append(opts, kfake.User("PLAIN", user, "x", acls...))
		}
		fake, err := kfake.NewCluster(opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fake.Close)
		return func(ctx context.Context, user string) (driver.Conn, error) {
			return kafkabus.Connect(ctx, kafkabus.Options{Brokers: fake.ListenAddrs(), User: user, Password: "x", Partitions: 2,
				Heartbeat: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		}
	})
}

func TestRights_that_are_printed_run_the_eshop_on_RabbitMQ(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	u, err := url.Parse(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(filepath.Join(srv.Dir(), "rabbitmq.conf"))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(string(conf), "management.tcp.port = ")
	port, _, _ = strings.Cut(port, "\n")
	management := "http://127.0.0.1:" + port
	n := 0
	rightsSuffice(t, func(t *testing.T, users map[string][]driver.Grant) connecting {
		n++
		vhost := fmt.Sprintf("eshop-rights-%d", n)
		manageRabbit(t, management+"/api/vhosts/"+vhost, map[string]any{})
		for user, grants := range users {
			manageRabbit(t, management+"/api/users/"+user, map[string]any{"password": "x", "tags": ""})
			may := map[string]any{}
			for _, verb := range []string{"configure", "write", "read"} {
				var names []string
				for _, g := range grants {
					if g.Verb == verb {
						names = append(names, g.On)
					}
				}
				may[verb] = "^(" + strings.Join(names, "|") + ")$"
				if grants == nil {
					may[verb] = ".*"
				}
			}
			manageRabbit(t, management+"/api/permissions/"+vhost+"/"+user, may)
		}
		return func(ctx context.Context, user string) (driver.Conn, error) {
			o, err := rabbitbus.ParseURL(u)
			if err != nil {
				return nil, err
			}
			o.User, o.Password, o.VHost, o.Logger = user, "x", vhost, slog.New(slog.DiscardHandler)
			return rabbitbus.Connect(ctx, o)
		}
	})
}

// manageRabbit puts something by the management plugin.
func manageRabbit(t *testing.T, to string, body any) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPut, to, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("guest", "guest")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("put %s: %s", to, resp.Status)
	}
}
