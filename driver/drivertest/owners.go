package drivertest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// testOwnerHalfOpen makes the link of the owner of everything silent: others
// take over, and when it is back it does no harm and gets its share.
func testOwnerHalfOpen(e *env) {
	p, far := e.through()
	crew := e.crew(e.conn())
	crew.Each = 2 * time.Millisecond
	stop := e.feed(crew, e.conn())
	crew.Join(far(), "far")
	crew.until("the far instance to own everything", func() bool { return crew.owns("far") == 4 })
	crew.Join(e.conn(), "near")
	p.Stall()
	crew.until("the near instance to take everything over", func() bool { return crew.owns("near") == 4 })
	p.Heal()
	crew.until("the far instance to get a share again", func() bool { return crew.owns("far") > 0 })
	stop()
	crew.Check()
}

// testOwnersChange replaces one of two instances every second, as often as the
// period has seconds. One in four goes without a word, with all that it has
// in hand, and the next change waits until it is succeeded.
func testOwnersChange(e *env) {
	c := e.conn()
	crew := e.crew(c)
	crew.Each = time.Millisecond
	stop := e.feed(crew, c)
	type member struct {
		c     driver.Conn
		leave func()
		dead  atomic.Bool // nobody hears of its errors
	}
	var members []*member
	join := func() (name string) {
		name = fmt.Sprint("member-", e.seq.Add(1))
		m := &member{c: e.conn()}
		m.leave = crew.join(m.c, name, func(format string, args ...any) {
			if !m.dead.Load() {
				e.Errorf(format, args...)
			}
		})
		members = append(members, m)
		return name
	}
	join()
	join()
	for i := range max(1, int(period(e.T)/time.Second)) {
		backoff.Sleep(context.Background(), time.Second)
		oldest := members[0]
		members = members[1:]
		if i%4 == 3 {
			oldest.dead.Store(true)
			e.crash(oldest.c)
			oldest.leave()
			name := join()
			crew.until(name+" to succeed one that died", func() bool { return crew.owns(name) > 0 })
			continue
		}
		oldest.leave()
		join()
	}
	stop()
	crew.Check()
	crew.checkMarked()
}

func testOwnersShare(e *env) {
	c := e.conn()
	crew := e.crew(c)
	stop := e.feed(crew, c)
	names := []string{"first", "second"}
	for _, name := range names {
		crew.Join(e.conn(), name)
	}
	crew.until("two partitions for each of two instances", func() bool { return crew.owns(names[0]) == 2 && crew.owns(names[1]) == 2 })
	stop()
	crew.Check()
}
