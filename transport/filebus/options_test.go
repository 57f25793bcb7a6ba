package filebus

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

func TestURL_names_a_directory_and_its_options(t *testing.T) {
	for raw, want := range map[string]Options{
		"file:/var/lib/bus":     {Dir: "/var/lib/bus"},
		"file:///var/lib/bus":   {Dir: "/var/lib/bus"},
		"file:bus":              {Dir: "bus"},
		"file:a%20b/c":          {Dir: "a b/c"},
		"file:":                 {Dir: "dovetail-data"},
		"file:../bus?sync=os":   {Dir: "../bus", Sync: SyncOS},
		"file:b?sync=always":    {Dir: "b"},
		"file:b?partitions=3":   {Dir: "b", Partitions: 3},
		"file:b?max-bytes=1000": {Dir: "b", MaxBytes: 1000},
		"file:b?expire=90s":     {Dir: "b", Expire: 90 * time.Second},
		"file:/b?segment-bytes=" + "65536&partitions=256": {Dir: "/b", SegmentBytes: 65536, Partitions: 256},
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseURL(u)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if err := want.setDefaults(); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", raw, got, want)
		}
	}
	for raw, remedy := range map[string]string{
		"file://host/dir":            "no host",
		"file:b#c":                   "fragment",
		"file:b?sync=never":          "always or os",
		"file:b?partitions=0":        "from 1",
		"file:b?partitions=257":      "1 to 256",
		"file:b?segment-bytes=1":     "65536 to 1073741824",
		"file:b?max-bytes=999999999": "1 to 268435456",
		"file:b?expire=0s":           "above 0",
		"file:b?partition=3":         `unknown parameter "partition"`,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseURL(u); err == nil || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: %v, want it to say %q", raw, err, remedy)
		}
	}
}

func TestOpen_of_a_directory_that_is_not_ours_says_so(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "format"), []byte("something else\n"))
	_, err := driver.Open(t.Context(), "file:"+dir)
	if !errors.Is(err, driver.ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
	_, err = driver.Open(t.Context(), "file:"+filepath.Join(dir, "no", "parent"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no/parent") || !strings.Contains(err.Error(), "make ") {
		t.Errorf("%v, want it to name what is not there", err)
	}
	file := filepath.Join(dir, "file")
	write(t, file, nil)
	if _, err = driver.Open(t.Context(), "file:"+file); err == nil {
		t.Error("opened a file as a directory")
	}
}

func TestErrors_of_the_system_are_told_with_a_remedy(t *testing.T) {
	for errno, want := range map[syscall.Errno]driver.Kind{
		syscall.ENOSPC: driver.Retryable, syscall.EDQUOT: driver.Retryable, syscall.EMFILE: driver.Retryable,
		syscall.EACCES: driver.Denied, syscall.EPERM: driver.Denied, syscall.EROFS: driver.Denied,
		syscall.EIO: driver.Unclassified,
	} {
		err := explain(&os.PathError{Op: "write", Path: "/b/0.seg", Err: errno})
		if got := driver.Classify(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
		if !errors.Is(err, errno) || !strings.Contains(err.Error(), "/b/0.seg") {
			t.Errorf("%v hides what happened where", err)
		}
	}
}

// A write that goes wrong is taken back: nothing of the batch was sent, and the
// next one is.
func TestSend_that_cannot_write_sends_nothing(t *testing.T) {
	b := newBench(t, Options{})
	c := b.open()
	b.send(c, 0, 2)
	ch := c.channels[b.ch.Name]
	whole := ch.log.seg
	broken, err := os.Open(b.lastSegment()) // for reading
	if err != nil {
		t.Fatal(err)
	}
	ch.log.seg = broken
	err = c.Send(b.ctx(), []*driver.Message{b.message(7), b.message(8)})
	var se *driver.SendError
	if !errors.As(err, &se) || len(se.Failures) != 2 || !strings.Contains(err.Error(), ".seg") {
		t.Fatalf("send: %v, want two failures that name the file", err)
	}
	broken.Close()
	ch.log.seg = whole
	b.send(c, 2, 2)
	r := b.receiver(c)
	if got := ids(b.take(r, 4, true)); strings.Join(got, " ") != "0 1 2 3" {
		t.Errorf("got %v, want 0 1 2 3", got)
	}
	b.nothing(r)
}
