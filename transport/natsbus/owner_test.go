package natsbus_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

func ordered(channel string) driver.Subscription {
	s := work(channel)
	s.Ordered = true
	return s
}

// changing is how long owners change every second; DOVETAIL_OWNER_CHANGES=1m for
// a full minute.
func changing(t *testing.T) time.Duration {
	d := 10 * time.Second
	if v := os.Getenv("DOVETAIL_OWNER_CHANGES"); v != "" {
		var err error
		if d, err = time.ParseDuration(v); err != nil || d <= 0 {
			t.Fatalf("DOVETAIL_OWNER_CHANGES is %q: want a duration as in 1m", v)
		}
	}
	return d
}

// stream sends batches of each key's next message until ctx ends, and returns how
// many it sent.
func stream(ctx context.Context, t *testing.T, c *natsbus.Conn, channel string, keys int) (sent int) {
	for ; ctx.Err() == nil; sent += 2 * keys {
		if err := sendAll(within(t), c, keyed(channel, sent, sent+2*keys, keys)); err != nil {
			t.Errorf("send: %v", err)
			return sent
		}
		pause(ctx, 25*time.Millisecond)
	}
	return sent
}

func TestOwners_change_every_second_without_loss_or_inversion(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	o := partitioned(srv.URL(), 4)
	c := connect(t, o)
	s := ordered("owners-change")
	provision(t, c, s)
	w := newCrew(t)
	w.drain = time.Millisecond
	w.join(connect(t, o), s, "stays")
	ctx, cancel := context.WithTimeout(context.Background(), changing(t))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		guest := connect(t, o)
		for n := 0; ctx.Err() == nil; n++ {
			leave := w.join(guest, s, "guest-"+strconv.Itoa(n))
			pause(ctx, time.Second)
			leave()
		}
	})
	sent := stream(ctx, t, c, s.Channel.Name, 40)
	wg.Wait()
	w.await(sent)
	w.check(sent)
	if w.changes < 6 {
		t.Errorf("owners changed %d times, so that this shows little", w.changes)
	}
}

func TestPartitions_are_shared_among_the_instances(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	o := partitioned(srv.URL(), 6)
	c := connect(t, o)
	s := ordered("shares")
	provision(t, c, s)
	w := newCrew(t)
	for i := range 3 {
		w.join(connect(t, o), s, strconv.Itoa(i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	sent := 0
	wg.Go(func() { sent = stream(ctx, t, c, s.Channel.Name, 60) })
	w.until("two partitions for each of three instances", func() bool {
		shares := map[string]int{}
		for _, instance := range w.owner {
			shares[instance]++
		}
		return len(w.owner) == 6 && shares["0"] == 2 && shares["1"] == 2 && shares["2"] == 2
	})
	cancel()
	wg.Wait()
	w.await(sent)
	w.check(sent)
}

// An owner whose link is silent for longer than its pins last is succeeded, and
// does no harm when it is back.
func TestOwner_with_a_half_open_link_is_succeeded(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	o := partitioned(srv.URL(), 3)
	c := connect(t, o)
	s := ordered("half-open")
	provision(t, c, s)
	w := newCrew(t)
	w.drain = 2 * time.Millisecond
	p := servers.NewProxy(t, srv.Addr())
	far := o
	far.URL = p.URL(srv.URL())
	w.join(connect(t, far), s, "far")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	sent := 0
	wg.Go(func() { sent = stream(ctx, t, c, s.Channel.Name, 30) })
	all := func(instance string) func() bool {
		return func() bool {
			for _, owner := range w.owner {
				if owner != instance {
					return false
				}
			}
			return len(w.owner) == 3
		}
	}
	w.until("the far instance to own everything", all("far"))
	w.join(connect(t, o), s, "near")
	p.Stall()
	w.until("the near instance to take everything over", all("near"))
	p.Heal()
	w.until("the far instance to get a share again", func() bool { return !all("near")() })
	stop := flaky(p, 2*time.Second)
	defer stop()
	pause(ctx, 4*time.Second)
	stop()
	cancel()
	wg.Wait()
	w.await(sent)
	w.check(sent)
}

// consumeInChild is a consumer in a process of its own: it says what it handles
// on its standard output, then acknowledges it.
func consumeInChild(raw string) {
	url, name, _ := strings.Cut(raw, " ")
	fail := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	c, err := natsbus.Connect(ctx, partitioned(url, 4))
	fail(err)
	r, err := c.OpenReceiver(ctx, ordered(name))
	fail(err)
	go func() {
		for parts := range r.(driver.Revoker).Revoked() {
			fail(r.(driver.Revoker).Release(ctx, parts))
		}
	}()
	for {
		ds, err := r.Receive(ctx, 20)
		if c.Classify(err) == driver.Retryable {
			continue
		}
		fail(err)
		for _, d := range ds {
			fmt.Println(d.Message.Key, string(d.Message.Body), d.Partition, d.Attempt)
			if err := r.Settle(ctx, []driver.Settlement{{Delivery: d}}); err != nil && c.Classify(err) != driver.Retryable {
				fail(err)
			}
		}
	}
}

// spawn starts a consumer process and notes what it handles; kill kills it.
func (w *crew) spawn(url, channel, instance string) (kill func()) {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "DOVETAIL_TEST_CONSUMER="+url+" "+channel)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			if len(f) != 4 || f[0] == "error" {
				w.t.Errorf("consumer %s says %q", instance, lines.Text())
				continue
			}
			var n [3]int
			for i, text := range f[1:] {
				n[i], _ = strconv.Atoi(text)
			}
			w.note(instance, f[0], f[0]+"/"+f[1], n[0], n[1], n[2])
		}
	}()
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		<-read // what it said before it died comes first
		_ = cmd.Wait()
	})
	w.t.Cleanup(kill)
	return kill
}

func TestConsumer_killed_again_and_again_is_succeeded_in_order(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	c := connect(t, partitioned(srv.URL(), 4))
	s := ordered("consumer-killed")
	provision(t, c, s)
	w := newCrew(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	sent := 0
	wg.Go(func() { sent = stream(ctx, t, c, s.Channel.Name, 40) })
	kill := w.spawn(srv.URL(), s.Channel.Name, "0")
	for n := 1; n <= 3; n++ {
		before := strconv.Itoa(n - 1)
		w.until("consumer "+before+" to own something", func() bool {
			for _, owner := range w.owner {
				if owner == before {
					return true
				}
			}
			return false
		})
		next := w.spawn(srv.URL(), s.Channel.Name, strconv.Itoa(n))
		kill()
		kill = next
	}
	w.until("the last consumer to own everything", func() bool {
		for _, owner := range w.owner {
			if owner != "3" {
				return false
			}
		}
		return true
	})
	cancel()
	wg.Wait()
	w.await(sent)
	w.check(sent)
}
