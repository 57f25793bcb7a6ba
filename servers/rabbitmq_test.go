package servers

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestRabbitMQ_keeps_what_it_confirmed_before_a_kill(t *testing.T) {
	t.Parallel()
	s := Start(t, RabbitMQ)
	if !strings.HasPrefix(s.URL(), "amqp://guest:guest@127.0.0.1:") || s.Version() == "" {
		t.Errorf("URL %q, version %q", s.URL(), s.Version())
	}
	// RabbitMQ answers for a new queue a moment before it has written it down: where
	// the kill comes first, the test begins again.
	const get = `{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}`
	for try := 1; ; try++ {
		manage(t, s, "PUT", "queues/%2F/kept", `{"durable":true,"arguments":{"x-queue-type":"classic"}}`)
		if got := manage(t, s, "POST", "exchanges/%2F/amq.default/publish",
			`{"properties":{"delivery_mode":2},"routing_key":"kept","payload":"a message","payload_encoding":"string"}`); !strings.Contains(got, `"routed":true`) {
			t.Fatalf("publish: %s", got)
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := request(t, s, "POST", "queues/%2F/kept/get", get)
		if err == nil && strings.Contains(got, `"payload":"a message"`) {
			return
		}
		if try == 5 {
			t.Fatalf("after a kill and a restart it has %s, %v", got, err)
		}
	}
}

// manage sends one request to the management API, which must succeed.
func manage(t *testing.T, s *Server, method, path, body string) string {
	t.Helper()
	answer, err := request(t, s, method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func request(t *testing.T, s *Server, method, path, body string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.in.Addr("management")+"/api/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("guest", "guest")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return string(answer), err
}
