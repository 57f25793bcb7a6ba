package servers

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestNATS_keeps_what_it_stored_before_a_kill(t *testing.T) {
	t.Parallel()
	s := Start(t, NATS)
	if s.Version() != strings.TrimPrefix(natsVersion, "v") {
		t.Errorf("it is version %s, want %s", s.Version(), natsVersion)
	}
	natsRequest(t, s, "$JS.API.STREAM.CREATE.KEPT", `{"name":"KEPT","subjects":["kept"],"storage":"file"}`)
	natsRequest(t, s, "kept", "a message")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := natsRequest(t, s, "$JS.API.STREAM.INFO.KEPT", ""); !strings.Contains(got, `"messages":1,`) {
		t.Errorf("after a kill and a restart the stream is %s", got)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// natsRequest sends one request of NATS's protocol and returns the answer,
// which must not be an error of JetStream.
func natsRequest(t *testing.T, s *Server, subject, body string) string {
	t.Helper()
	answer, err := natsAsk(t, s, subject, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// natsAsk is natsRequest where there may be no answer.
func natsAsk(t *testing.T, s *Server, subject, body string) (answer string, err error) {
	conn, err := dial(t.Context(), s.Addr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT {\"verbose\":false}\r\nSUB answer 1\r\nPUB %s answer %d\r\n%s\r\n", subject, len(body), body); err != nil {
		return "", err
	}
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		fields := strings.Fields(line)
		if fields[0] != "MSG" {
			continue
		}
		n, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil {
			return "", err
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(r, text); err != nil {
			return "", err
		}
		if strings.Contains(string(text), `"error"`) {
			err = fmt.Errorf("%s: %s", subject, text)
		}
		return string(text), err
	}
}

func TestNATS_restarts_on_its_ports_with_a_log_of_its_own(t *testing.T) {
	t.Parallel()
	s := Start(t, NATS)
	for range 3 {
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(s.Log(1000), "Server is ready"); n != 1 {
			t.Errorf("the log of the server that runs tells of %d starts, want its own alone", n)
		}
	}
}
