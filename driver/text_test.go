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
