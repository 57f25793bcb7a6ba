package driver_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/membus"
)

func TestOpen_gives_the_services_logger_to_its_transport(t *testing.T) {
	driver.Register("logger-test", func(ctx context.Context, _ *url.URL) (driver.Conn, error) {
		driver.Logger(ctx).Warn("the link is slow", "transport", "logger-test")
		bus, err := membus.New(membus.Options{})
		if err != nil {
			return nil, err
		}
		return bus.Connect(), nil
	})
	var mine, others bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&others, nil)))
	defer slog.SetDefault(before)
	svc, err := dovetail.Open(t.Context(), "shop", "logger-test:", dovetail.Options{Logger: slog.New(slog.NewTextHandler(&mine, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(mine.String(), "the link is slow") || others.Len() > 0 {
		t.Errorf("logged %q, and elsewhere %q", mine.String(), others.String())
	}
	if svc, err = dovetail.Open(t.Context(), "shop", "logger-test:"); err != nil {
		t.Fatal(err)
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(others.String(), "the link is slow") {
		t.Error("the default logger was not told")
	}
}
