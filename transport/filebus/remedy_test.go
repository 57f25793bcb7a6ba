package filebus

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

// A wreck is a bus whose files somebody has damaged: 30 messages in three
// segments, of which the group has handled the first three.
type wreck struct {
	*bench
	log      string   // the directory of the segments
	segments []string // their paths
	first    []int    // the first message of each, and how many there are
}

func newWreck(t *testing.T) wreck {
	b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 2, Sync: SyncOS})
	w := wreck{bench: b, log: filepath.Join(b.opts.Dir, "channels", b.ch.Name, "log")}
	c := b.open()
	b.sendBig(c, 0, 30)
	b.take(b.receiver(c), 3, true)
	b.close(c)
	bases := must(segments(w.log))
	if len(bases) != 3 {
		t.Fatalf("%d segments, want 3", len(bases))
	}
	for _, base := range bases {
		w.segments = append(w.segments, segmentPath(w.log, base))
		w.first = append(w.first, int(base-bases[0]))
	}
	w.first = append(w.first, 30)
	return w
}

// use does what a service does, up to the first error.
func (w wreck) use() error {
	c, err := Open(w.ctx(), w.opts)
	if err != nil {
		return err
	}
	defer w.close(c)
	if err := c.Provision(w.ctx(), []driver.Channel{w.ch}, []driver.Subscription{w.sub}); err != nil {
		return err
	}
	r, err := c.OpenReceiver(w.ctx(), w.sub)
	for err == nil {
		_, err = r.Receive(w.ctx(), 1)
	}
	return err
}

// damage overwrites the beginning of a file, or all of a small one.
func (w wreck) damage(path, text string) {
	w.Helper()
	if filepath.Ext(path) == ".json" {
		write(w, path, []byte(text))
		return
	}
	f := must(os.OpenFile(path, os.O_WRONLY, 0))
	must(f.WriteAt([]byte(text), 0))
	if err := f.Close(); err != nil {
		w.Fatal(err)
	}
}

// moveAway moves a file out of its directory.
func (w wreck) moveAway(path string) {
	w.Helper()
	if err := os.Rename(path, filepath.Join(w.TempDir(), "away")); err != nil {
		w.Fatal(err)
	}
}

// handles checks that the group gets those messages and no others, and then one
// that is sent.
func (w wreck) handles(what string, want []string) {
	w.Helper()
	c := w.open()
	defer w.close(c)
	r := w.receiver(c)
	var got []string
	for _, d := range w.take(r, len(want), true) {
		if d.Fault != nil {
			got = append(got, "fault")
			continue
		}
		got = append(got, d.Message.ID)
	}
	if !slices.Equal(got, want) {
		w.Errorf("%s: got %v, want %v", what, got, want)
	}
	w.nothing(r)
	w.send(c, 99, 1)
	if got := ids(w.take(r, 1, true)); got[0] != "99" {
		w.Errorf("%s: then got %v, want 99", what, got)
	}
}

// Each error about a damaged file says what to do. Done to the letter, that
// works, and takes no more than it says.
func TestErrors_of_damaged_files_name_remedies_that_are_right(t *testing.T) {
	drivertest.CheckLeaks(t)
	for name, c := range map[string]struct {
		path   func(w wreck) string
		text   string // what is in it then; none: it is moved away
		says   string
		kind   driver.Kind                // unclassified for what another try does not help
		remedy func(w wreck, path string) // none: restore the file
		kept   func(w wreck) []string
	}{
		"a channel.json, restored": {
			path: func(w wreck) string { return filepath.Join(w.log, "..", "channel.json") }, text: "{{",
			says: "channel.json: invalid character '{' looking for beginning of object key string: restore it from a backup, or close every process that uses it and remove the directory it stands in, with all that is there"},
		"a channel.json, removed with the channel": {
			path: func(w wreck) string { return filepath.Join(w.log, "..", "channel.json") }, text: "{{",
			says: "remove the directory it stands in, with all that is there",
			remedy: func(w wreck, path string) {
				if err := os.RemoveAll(filepath.Dir(path)); err != nil {
					w.Fatal(err)
				}
			},
			kept: func(w wreck) []string { return nil }},
		"a group.json, restored": {
			path: func(w wreck) string { return filepath.Join(w.log, "..", "groups", "worker", "group.json") }, text: "{{",
			says: "restore it from a backup"},
		"a group.json, removed with the group": {
			path: func(w wreck) string { return filepath.Join(w.log, "..", "groups", "worker", "group.json") }, text: "{{",
			says: "remove the directory it stands in, with all that is there",
			remedy: func(w wreck, path string) {
				if err := os.RemoveAll(filepath.Dir(path)); err != nil {
					w.Fatal(err)
				}
			},
			kept: func(w wreck) []string { return numbers(0, 30) }}, // it begins with the oldest
		"another number in channel.json": {
			path: func(w wreck) string { return filepath.Join(w.log, "..", "channel.json") }, text: `{"partitions":3,"name":"orders"}`,
			says: "the segment has 2 partitions, and the channel's channel.json says 3: restore channel.json"},
		"an impossible number in channel.json": {
			path: func(w wreck) string { return filepath.Join(w.log, "..", "channel.json") }, text: `{"partitions":0,"name":"orders"}`,
			says: "channel.json says 0 partitions: restore it from a backup"},
		"the last segment, restored": {
			path: func(w wreck) string { return w.segments[2] }, text: "damaged",
			says: ".seg: the segment's header is damaged: restore the file from a backup, or move it away to go on without its messages"},
		"the last segment, moved away": {
			path: func(w wreck) string { return w.segments[2] }, text: "damaged",
			says:   "move it away to go on without its messages",
			remedy: wreck.moveAway,
			kept:   func(w wreck) []string { return numbers(3, w.first[2]) }},
		"a segment in the middle, restored": {
			path: func(w wreck) string { return w.segments[1] }, text: "damaged",
			says: ".seg: the segment's header is damaged: restore the file from a backup, or move it away to go on without its messages"},
		"a segment in the middle, moved away": {
			path: func(w wreck) string { return w.segments[1] }, text: "damaged",
			says:   "move it away to go on without its messages",
			remedy: wreck.moveAway,
			kept: func(w wreck) []string {
				return slices.Concat(numbers(3, w.first[1]), []string{"fault"}, numbers(w.first[2], 30))
			}},
		"the first segment, put back": {
			path: func(w wreck) string { return w.segments[0] },
			says: "put the files back", kind: driver.PositionLost},
		"the first segment, done without": {
			path: func(w wreck) string { return w.segments[0] },
			says: "or remove the group (dovetail topology remove CHANNEL --group GROUP --force) and provision it again, to go on without the messages", kind: driver.PositionLost,
			remedy: func(w wreck, _ string) {
				c := w.open()
				defer w.close(c)
				if err := c.RemoveGroup(w.ctx(), w.ch.Name, w.sub.Group); err != nil {
					w.Fatal(err)
				}
			},
			kept: func(w wreck) []string { return numbers(w.first[1], 30) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWreck(t)
			path := c.path(w)
			backup := must(os.ReadFile(path))
			if c.text == "" {
				w.moveAway(path)
			} else {
				w.damage(path, c.text)
			}
			if err := w.use(); err == nil || !strings.Contains(err.Error(), c.says) || driver.Classify(err) != c.kind {
				t.Fatalf("error %v, want a %q that says %q", err, c.kind, c.says)
			}
			if c.remedy != nil {
				c.remedy(w, path)
			} else {
				write(t, path, backup)
			}
			want := numbers(3, 30)
			if c.kept != nil {
				want = c.kept(w)
			}
			w.handles("once that was done", want)
		})
	}
}

// Whoever reads finds a damaged mark, and not whoever opens the channel: that
// looks for the end of the log.
func TestMark_damaged_under_a_receiver_is_deleted_as_its_error_says(t *testing.T) {
	drivertest.CheckLeaks(t)
	w := newWreck(t)
	c := w.open()
	r := w.receiver(c)
	w.take(r, 2, true)
	w.damage(w.mark(), "damaged")
	_, err := r.Receive(w.ctx(), 1)
	const says = "mark is damaged: close every process that uses the channel, delete this file and start again; no message is lost by that"
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Fatalf("error %v, want one that says %q", err, says)
	}
	w.close(c)
	if err := os.Remove(w.mark()); err != nil {
		t.Fatal(err)
	}
	w.handles("once that was done", numbers(5, 30))
}

func TestOpen_of_another_format_works_once_its_remedy_is_followed(t *testing.T) {
	drivertest.CheckLeaks(t)
	w := newWreck(t)
	format := filepath.Join(w.opts.Dir, "format")
	backup := must(os.ReadFile(format))
	write(t, format, []byte("dovetail file transport, format 2\n"))
	err := w.use()
	if driver.Classify(err) != driver.Conflict || !strings.Contains(err.Error(), "use the release that wrote it, or another directory") {
		t.Fatalf("error %v", err)
	}
	other := w
	other.bench = newBench(t, Options{})
	other.handles("another directory", nil)
	write(t, format, backup) // as it would be to the release that wrote it
	w.handles("its own release", numbers(3, 30))
}

func TestGroup_that_expired_goes_on_once_its_remedy_is_followed(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{Expire: time.Nanosecond})
	b.ch.Kind = driver.PublishSubscribe
	b.sub = driver.Subscription{Channel: b.ch, Group: "cache", Instance: "one", Broadcast: true, Window: 10}
	c, victim := b.open(), b.open()
	if _, err := victim.OpenReceiver(b.ctx(), b.sub); err != nil {
		t.Fatal(err)
	}
	if err := victim.crash(); err != nil {
		t.Fatal(err)
	}
	b.send(c, 0, 1)
	c.channels[b.ch.Name].removeOrphans()
	b.sub.Resume = true
	_, err := c.OpenReceiver(b.ctx(), b.sub)
	if driver.Classify(err) != driver.PositionLost || !strings.Contains(err.Error(), "open it without Resume to go on from now") {
		t.Fatalf("error %v", err)
	}
	b.sub.Resume = false
	r := b.receiver(c)
	b.send(c, 1, 1)
	if got := ids(b.take(r, 1, true)); !slices.Equal(got, []string{"1"}) {
		t.Errorf("got %v, want 1", got)
	}
}

// A full disk's directory goes on on another.
func TestDirectory_that_is_moved_to_another_disk_has_everything(t *testing.T) {
	drivertest.CheckLeaks(t)
	w := newWreck(t)
	if err := explain(syscall.ENOSPC); !strings.Contains(err.Error(), "free space or move the directory") {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "bus")
	if err := os.CopyFS(to, os.DirFS(w.opts.Dir)); err != nil {
		t.Fatal(err)
	}
	w.opts.Dir = to
	w.handles("moved", numbers(3, 30))
}

// Nobody is told of the mark of what is not due yet: whoever moves it finds the
// end of its log again.
func TestMark_damaged_of_delayed_messages_delays_them_no_longer(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{Sync: SyncOS})
	c := b.open()
	m := b.message(0)
	m.Due = time.Now().Add(100 * time.Millisecond)
	later := must(c.channel(b.ctx(), b.ch.Name)).laterDir()
	if err := os.Mkdir(later, 0o700); err != nil {
		t.Fatal(err)
	}
	owner := must(openFile(filepath.Join(later, "owner"), os.O_RDWR|os.O_CREATE))
	if ok, err := tryLock(owner); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := c.Send(b.ctx(), []*driver.Message{m}); err != nil {
		t.Fatal(err)
	}
	wreck{bench: b}.damage(filepath.Join(later, "mark"), "damaged")
	if err := owner.Close(); err != nil { // the lock is free
		t.Fatal(err)
	}
	if got := ids(b.take(b.receiver(c), 1, true)); got[0] != "0" {
		t.Errorf("got %v, want 0", got)
	}
}
