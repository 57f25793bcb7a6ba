package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// stranger is a program that knows nothing of Dovetail and sends plain JSON to a
// channel: no type, no id, no transaction. What it was told of each message it
// keeps in memory; nobody kills it.
type stranger struct {
	conn    driver.Conn
	channel string

	mu   sync.Mutex
	sent []Sent
	sure int64
}

const foreignEvery = 50 * time.Millisecond

// foreignID names a note that came without an id.
func foreignID(n Note) string { return fmt.Sprintf("%s/%d", n.Key, n.N) }

// send sends until ctx ends, each message until it is confirmed. What was not
// sent in the end it forgets.
func (s *stranger) send(ctx context.Context) {
	for n := int64(1); backoff.Sleep(ctx, foreignEvery); n++ {
		note := Note{Key: keyOf(foreign, int(n%keysPerPath)), N: n, Text: "known to nobody"}
		note.Sum = note.Check()
		body, err := json.Marshal(note)
		if err != nil {
			return
		}
		at, unsure := time.Now(), false
		for again := true; again; again = backoff.Sleep(ctx, foreignEvery) {
			sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			err = s.conn.Send(sending, []*driver.Message{{Channel: s.channel, ContentType: "application/json", Key: note.Key, Body: body}})
			cancel()
			if err == nil {
				unsure = false
				break
			}
			var failed *driver.SendError
			unsure = unsure || errors.As(err, &failed) && len(failed.Failures) > 0 && failed.Failures[0].Unknown
		}
		if err != nil && !unsure {
			continue
		}
		s.mu.Lock()
		s.sent = append(s.sent, Sent{ID: foreignID(note), Tx: foreign, Key: note.Key, N: n, Sum: note.Sum, At: at, Unsure: unsure})
		if !unsure {
			s.sure++
		}
		s.mu.Unlock()
	}
}

// doubtful is the id of the message of which it was not told whether it was sent; ""
// for none. It is the last one: any other was sent until it was confirmed.
func (s *stranger) doubtful() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.sent); n > 0 && s.sent[n-1].Unsure {
		return s.sent[n-1].ID
	}
	return ""
}

// confirmed is how many messages it was told were sent.
func (s *stranger) confirmed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sure
}
