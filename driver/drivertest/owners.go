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
	group := e.group(e.conn())
	group.Each = 2 * time.Millisecond
	stop := e.feed(group, e.conn())
	group.Join(far(), "far")
	group.until("the far instance to own everything", func() bool { return group.owns("far") == 4 })
	group.Join(e.conn(), "near")
	p.Stall()
	group.until("the near instance to take everything over", func() bool { return group.owns("near") == 4 })
	p.Heal()
	group.until("the far instance to get a share again", func() bool { return group.owns("far") > 0 })
	stop()
	group.Check()
}

// testOwnersChange replaces one of two instances every second, as often as the
// period has seconds. One in four goes without a word, with all that it has
// in hand, and the next change waits until it is succeeded.
func testOwnersChange(e *env) {
	c := e.conn()
	group := e.group(c)
	group.Each = time.Millisecond
	stop := e.feed(group, c)
	type member struct {
		c     driver.Conn
		leave func()
		dead  atomic.Bool // nobody hears of its errors
	}
	var members []*member
	join := func() (name string) {
		name = fmt.Sprint("member-", e.seq.Add(1))
		m := &member{c: e.conn()}
		m.leave = group.join(m.c, name, func(format string, args ...any) {
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
			group.until(name+" to succeed one that died", func() bool { return group.owns(name) > 0 })
			continue
		}
		oldest.leave()
		join()
	}
	stop()
	group.Check()
	group.checkMarked()
}

func testOwnersShare(e *env) {
	c := e.conn()
	group := e.group(c)
	stop := e.feed(group, c)
	names := []string{"first", "second"}
	for _, name := range names {
		group.Join(e.conn(), name)
	}
	group.until("two partitions for each of two instances", func() bool { return group.owns(names[0]) == 2 && group.owns(names[1]) == 2 })
	stop()
	group.Check()
}
