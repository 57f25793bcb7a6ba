package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// aChannel has the dead letters of a service.
type aChannel struct {
	driver.Conn
	letters []driver.StoredMessage
	read    int
	sent    []*driver.Message
}

func (c *aChannel) put(position, key, id string, body []byte) {
	c.letters = append(c.letters, driver.StoredMessage{Position: position, Message: &driver.Message{ID: "letter " + id, Key: key, Body: body,
		Headers: driver.Headers{{Name: "dovetail-dead-group", Value: "g"}, {Name: "dovetail-dead-service", Value: "s"}, {Name: "dovetail-original-id", Value: id}}}})
	slices.SortStableFunc(c.letters, func(a, b driver.StoredMessage) int { return cmp.Compare(a.Position, b.Position) })
}

func (c *aChannel) Browse(_ context.Context, _, after string, most int) (page []driver.StoredMessage, _ error) {
	for _, s := range c.letters {
		if s.Position > after && len(page) < most {
			page = append(page, s)
		}
	}
	c.read += len(page)
	return page, nil
}

func (c *aChannel) Remove(_ context.Context, _ string, positions []string) error {
	c.letters = slices.DeleteFunc(c.letters, func(s driver.StoredMessage) bool { return slices.Contains(positions, s.Position) })
	return nil
}

func (c *aChannel) Send(_ context.Context, messages []*driver.Message) error {
	c.sent = append(c.sent, messages...)
	return nil
}

func newLetters(c *aChannel) *letters {
	return &letters{conn: c, browser: c, run: &run{id: "r1", groups: []Group{{Name: "all"}, {Name: poison, Path: poison}, {Name: requeues, Path: requeues}, {Name: foreign, Path: foreign}}}}
}

func TestLetters_that_were_read_are_not_read_again_where_that_takes_long(t *testing.T) {
	c := &aChannel{}
	for i := range 250 {
		c.put(fmt.Sprintf("%04d", 10+i), keyOf(poison, 1), fmt.Sprint(i, badMark), nil)
	}
	l := newLetters(c)
	l.look(t.Context())
	l.whole, l.took = time.Now(), time.Minute // as in a run of hours
	c.read = 0
	c.put("9000", keyOf(poison, 1), "new"+badMark, nil)
	c.put("9001", keyOf(requeues, 1), "again", nil)
	l.look(t.Context())
	if n := l.counts()[poison]; n != 251 || c.read != 2 || len(c.sent) != 1 || l.err != nil {
		t.Errorf("%d are kept, %d were read, %d sent again, %v: want 251, and the new two read", n, c.read, len(c.sent), l.err)
	}
	c.put("0002", keyOf(requeues, 1), "early again", nil) // by a clock that is behind
	l.look(t.Context())
	if len(c.sent) != 1 {
		t.Errorf("%d sent again, want the first alone: the other is not seen yet", len(c.sent))
	}
	l.wholly.Store(true)
	l.look(t.Context())
	if len(c.sent) != 1 {
		t.Errorf("%d sent again, want the first alone: to read everything takes too long", len(c.sent))
	}
	l.took = time.Second
	l.look(t.Context())
	if len(c.sent) != 2 {
		t.Errorf("%d sent again, want the second as well: the run waits for it", len(c.sent))
	}
	c.put("0001", keyOf(poison, 1), "early"+badMark, nil)
	l.lookWell(t.Context())
	if n := l.counts()[poison]; n != 252 {
		t.Errorf("%d are kept, want the one as well that is before those that were read", n)
	}
}

func TestLetters_are_not_sent_again_to_consumers_that_have_ended(t *testing.T) {
	c := &aChannel{}
	c.put("1", keyOf(requeues, 1), "late", nil)
	l := newLetters(c)
	l.lookWell(t.Context())
	if len(c.sent) > 0 || len(c.letters) != 1 || !l.kept[requeues]["late"] {
		t.Errorf("sent again %d, left %d, kept %v: want it to stay, and to be told of", len(c.sent), len(c.letters), l.kept)
	}
}

func TestLetters_of_plain_messages_are_known_by_their_bodies(t *testing.T) {
	c := &aChannel{}
	for i := range 2 {
		body, err := json.Marshal(Note{Key: keyOf(foreign, 1), N: int64(i)})
		if err != nil {
			t.Fatal(err)
		}
		c.put(fmt.Sprint(i), keyOf(foreign, 1), "", body)
	}
	l := newLetters(c)
	l.lookWell(t.Context())
	ch := NewChecker(l.run.groups)
	for i := range 3 {
		n := Note{Key: keyOf(foreign, 1), N: int64(i)}
		if err := ch.Sent(Sent{ID: foreignID(n), Tx: foreign, Key: n.Key, N: n.N}); err != nil {
			t.Fatal(err)
		}
	}
	l.tell(ch)
	if v := ch.Verdict(); v.Abandoned != 2 || v.Lost != 1 {
		t.Errorf("abandoned %d, lost %d: want the two letters abandoned", v.Abandoned, v.Lost)
	}
}

func TestRun_finds_what_waits_to_be_handled_again(t *testing.T) {
	r := &run{id: "r1", caps: driver.Capabilities{Order: driver.OrderOwner}, groups: []Group{{Name: "all"}, {Name: requeues, Path: requeues}, {Name: poison, Path: poison}}}
	service := groupName("r1", "all")
	for channel, want := range map[string]string{
		dovetail.RequeueChannel(service): requeues,
		sharedName("r1"):                 requeues + " " + poison,
		eventName("r1"):                  "all",
		"other":                          "",
	} {
		if got := strings.Join(r.groupsOn(channel, service), " "); got != want {
			t.Errorf("channel %s has messages of %q, want %q", channel, got, want)
		}
	}
}
