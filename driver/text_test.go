package driver_test

import (
	"bytes"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

func TestValidText_refuses_what_some_engine_cannot_carry(t *testing.T) {
	for _, s := range []string{"", "a", "ключ ✓", "tab\tand more"} {
		if err := driver.ValidText(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"a\r", "\n", "\x00", "\xff", "a\xc3"} {
		if driver.ValidText(s) == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func FuzzForeignText(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 42})
	f.Add([]byte("base64:AAA="))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := driver.ForeignText(b)
		if err := driver.ValidText(s); err != nil {
			t.Fatalf("%q became %q: %v", b, s, err)
		}
		if got := driver.ForeignBytes(s); !bytes.Equal(got, b) && string(b) != s {
			t.Fatalf("%q became %q and then %q", b, s, got)
		}
	})
}

func TestForeign_changes_only_what_is_no_text(t *testing.T) {
	m := &driver.Message{ID: "1", Key: "k", Headers: driver.Headers{{Name: "a", Value: "b"}}}
	if driver.Foreign(m) != m {
		t.Error("a message that is all text was copied")
	}
	m.Key, m.Headers[0].Value = "\xff", "\x00"
	got := driver.Foreign(m)
	if got.ID != "1" || got.Key != "base64:/w==" || got.Headers.Get("a") != "base64:AA==" {
		t.Errorf("got %+v", got)
	}
	if m.Key != "\xff" || m.Headers[0].Value != "\x00" {
		t.Error("the message itself was changed")
	}
}

// Wherever in a text it stands, a byte that is refused is seen.
func TestValidText_looks_at_every_byte(t *testing.T) {
	for n := 1; n < 20; n++ {
		for at := range n {
			for c := range 256 {
				b := bytes.Repeat([]byte{'~'}, n)
				b[at] = byte(c)
				want := c < 0x80 && c != 0 && c != '\r' && c != '\n'
				if got := driver.ValidText(string(b)) == nil; got != want {
					t.Fatalf("byte %#x at %d of %d: taken %t", c, at, n, got)
				}
			}
		}
	}
}
