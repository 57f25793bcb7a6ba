package filebus

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

func full() *driver.Message {
	return &driver.Message{
		ID: "id", Source: "source", Type: "type", Time: time.Date(1, 2, 3, 4, 5, 6, 789, time.UTC), ContentType: "text/plain",
		Key: "key", CorrelationID: "correlation", CausationID: "causation", ReplyTo: "reply", Timeout: -5,
		Due: time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), Headers: driver.Headers{{Name: "a", Value: ""}, {Name: "", Value: "b\x00"}},
		Body: []byte("body"),
	}
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(appendMessage(nil, full()))
	f.Add(appendMessage(nil, &driver.Message{}))
	f.Add([]byte{1, 255, 255, 255, 255, 0})
	f.Add([]byte{1, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, payload []byte) {
		var m driver.Message
		if decodeMessage(payload, &m) != nil {
			return
		}
		if len(m.Headers) > len(payload) || len(m.Body) > len(payload) {
			t.Fatalf("%d headers and %d bytes of body out of %d bytes", len(m.Headers), len(m.Body), len(payload))
		}
		var again driver.Message
		if err := decodeMessage(appendMessage(nil, &m), &again); err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
		if !reflect.DeepEqual(m, again) {
			t.Fatalf("decoded twice:\n%+v\n%+v", m, again)
		}
	})
}

// FuzzScanner reads arbitrary bytes as a segment: it ends, allocates no more
// than a bound, and finds every record that it says is sound where it stands.
func FuzzScanner(f *testing.F) {
	var seg []byte
	for i := range 3 {
		at := len(seg)
		seg = appendRecord(seg, full(), anyPartition)
		stamp(seg[at:], uint64(i), 4)
	}
	f.Add(seg)
	f.Add(seg[5:])
	f.Add(bytes.Replace(seg, []byte("body"), []byte("bodi"), 1))
	f.Add(append(append([]byte{}, seg[:40]...), seg[len(seg)/3:]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "seg")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		s := scanner{f: file, limit: int64(len(data))}
		for n, seq := 0, uint64(0); ; n++ {
			rec, err := s.next()
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if rec.seq != seq {
				t.Fatalf("record %d after %d", rec.seq, seq)
			}
			seq = s.seq
			if n > 2*len(data) {
				t.Fatal("reads on and on")
			}
			if !rec.damage && !bytes.Equal(rec.payload, data[rec.off+recordHeader:][:rec.length]) {
				t.Fatal("the payload is not what stands there")
			}
		}
		if cap(s.buf) > 4*readChunk+len(data) {
			t.Fatalf("%d bytes of buffer for %d bytes of file", cap(s.buf), len(data))
		}
	})
}

func FuzzDecodeCursor(f *testing.F) {
	c := cursor{gen: 3, next: position{seq: 100, base: 5, off: 5000}, taken: 9, open: []opened{{7, 1}, {90, 30}}}
	f.Add(c.encode(nil, position{seq: 7, base: 5, off: 4096}))
	f.Fuzz(func(t *testing.T, slot []byte) {
		c, hint, ok := decodeCursor(slot)
		if !ok {
			return
		}
		d, again, ok := decodeCursor(c.encode(nil, hint))
		if !ok || !reflect.DeepEqual(c, d) || hint != again {
			t.Fatalf("decoded twice: %+v %+v", c, d)
		}
	})
}

func TestCursor_of_the_longest_kind_fits_its_slot(t *testing.T) {
	c := cursor{next: position{seq: noBase}}
	for i := range maxOpen {
		c.open = append(c.open, opened{uint64(i) << 50, 1 << 30})
	}
	if worst := slotHeader + maxOpen*(10+5); worst > slotSize {
		t.Errorf("%d bytes at worst, a slot has %d", worst, slotSize)
	}
	if b := c.encode(nil, position{}); len(b) > slotSize {
		t.Errorf("%d bytes, a slot has %d", len(b), slotSize)
	}
}
