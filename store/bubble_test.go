package store_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/dovetail-go/dovetail/store"
)

func TestNetworked_tells_a_bubble_from_the_world(t *testing.T) {
	if err := store.Networked(); err != nil {
		t.Errorf("outside: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := store.Networked(); !errors.Is(err, store.ErrBubble) {
			t.Errorf("inside: %v", err)
		}
	})
}
