package filebus_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/filebus"
	"github.com/dovetail-go/dovetail/transport/internal/keytest"
)

func TestKey_is_not_handled_beside_a_requeue_of_it(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	keytest.CheckRequeue(t, func() driver.Conn {
		c, err := filebus.Open(t.Context(), filebus.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(context.Background()); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return c
	}, dovetail.Options{}, 8)
}
