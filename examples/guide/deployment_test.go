package guide

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
)

// probes are the pages that a platform asks. ctx ends when the process is to end.
func probes(ctx context.Context, svc *dovetail.Service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(http.ResponseWriter, *http.Request) {}) // the process answers
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-svc.Ready():
			if ctx.Err() == nil {
				return
			}
		default:
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	mux.Handle("GET /stuck", health(svc)) // for people and alarms
	return mux
}

// serve runs a service, its API and its probes until ctx ends. The API ends first, since
// its requests send messages. The probes end last: the platform asks them while the service drains.
func serve(ctx context.Context, svc *dovetail.Service, api *http.Server, apiAt, probesAt net.Listener) error {
	ctx, end := context.WithCancelCause(ctx)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	pages := &http.Server{Handler: probes(ctx, svc)}
	var beside sync.WaitGroup
	beside.Go(func() { end(pages.Serve(probesAt)) }) // whatever fails ends all of it
	beside.Go(func() { end(api.Serve(apiAt)) })
	var dropped error
	beside.Go(func() {
		<-ctx.Done()
		closing, cancel := context.WithTimeout(running, 10*time.Second)
		defer cancel()
		dropped = api.Shutdown(closing) // waits for the requests under way
		stop()
	})
	err := svc.Run(running)
	end(err)
	err = errors.Join(err, pages.Close())
	beside.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(err, cause) {
		err = errors.Join(err, cause)
	}
	return errors.Join(err, dropped)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// status asks a page.
func status(t *testing.T, at net.Listener, path string) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	res, err := client.Get("http://" + at.Addr().String() + path)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

func TestServe_ends_requests_then_messages_then_probes(t *testing.T) {
	svc, err := dovetail.Open(t.Context(), "payment", "mem:", dovetail.Options{Instance: "payment-7d9f-x2x4z", DrainTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	requested, send := make(chan struct{}), make(chan struct{})
	handling, handle := make(chan struct{}), make(chan struct{})
	ChargeCard.Handle(svc, func(context.Context, Charge) error {
		close(handling)
		<-handle
		return nil
	})
	svc.Declare(ChargeCard)
	api := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(requested)
		<-send
		if err := ChargeCard.Send(r.Context(), svc, Charge{"7", 250}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		<-handling // or the service could stop receiving before
	})}
	page := httptest.NewRecorder()
	probes(t.Context(), svc).ServeHTTP(page, httptest.NewRequest("GET", "/ready", nil))
	if page.Code != http.StatusServiceUnavailable {
		t.Errorf("ready before it serves: %d", page.Code)
	}

	ctx, terminate := context.WithCancel(t.Context())
	defer terminate()
	apiAt, probesAt := listen(t), listen(t)
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, svc, api, apiAt, probesAt) }()
	<-svc.Ready()
	if live, ready := status(t, probesAt, "/live"), status(t, probesAt, "/ready"); live != 200 || ready != 200 {
		t.Errorf("live %d, ready %d", live, ready)
	}
	answered := make(chan int, 1)
	go func() { answered <- status(t, apiAt, "/charge") }()
	<-requested
	terminate()
	close(send) // the request that is under way sends all the same
	if code := <-answered; code != 200 {
		t.Errorf("the request under way got %d", code)
	}
	if live, ready := status(t, probesAt, "/live"), status(t, probesAt, "/ready"); live != 200 || ready != 503 {
		t.Errorf("while it drains: live %d, ready %d", live, ready)
	}
	close(handle)
	if err := <-ended; err != nil || svc.Stats().Handled != 1 || svc.Instance() != "payment-7d9f-x2x4z" {
		t.Errorf("%v, %+v, instance %s", err, svc.Stats(), svc.Instance())
	}
}

func TestServe_ends_when_a_part_of_it_fails(t *testing.T) {
	svc, err := dovetail.Open(t.Context(), "payment", "mem:")
	if err != nil {
		t.Fatal(err)
	}
	closed := listen(t)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := serve(t.Context(), svc, &http.Server{}, closed, listen(t)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := serve(t.Context(), svc, &http.Server{}, listen(t), listen(t)); err == nil || strings.Count(err.Error(), "a service runs once") != 1 {
		t.Errorf("got %v", err)
	}
}

func TestUses_name_the_channels_of_a_service(t *testing.T) {
	svc, err := dovetail.Open(t.Context(), "payment", "mem:")
	if err != nil {
		t.Fatal(err)
	}
	ChargeCard.Handle(svc, func(context.Context, Charge) error { return nil })
	svc.Declare(Paid)
	var text strings.Builder
	if err := errors.Join(json.NewEncoder(&text).Encode(svc.Uses()), svc.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"payment.charge-card", "shop.paid", "dead.payment", "requeue.payment"} {
		if !strings.Contains(text.String(), `"`+name+`"`) {
			t.Errorf("no %s in %s", name, text.String())
		}
	}
}
