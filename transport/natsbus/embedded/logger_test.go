package embedded_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/nats-io/nats-server/v2/server"
)

// output keeps what is logged.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) has(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Contains(o.buf.String(), text)
}

// A service that Open made has one log, also for what its transport has to tell.
func TestOpen_logs_where_the_service_does(t *testing.T) {
	drivertest.CheckLeaks(t)
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	var mine, others output
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&others, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	svc, err := dovetail.Open(t.Context(), "shop", ns.ClientURL(), dovetail.Options{Logger: slog.New(slog.NewTextHandler(&mine, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ns.Shutdown()
	for until := time.Now().Add(20 * time.Second); !mine.has("natsbus: "); <-time.After(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the loss of the link is not in the service's log")
		}
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if others.has("natsbus") {
		t.Error("the loss of the link is in another log")
	}
}
