package guide

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
)

type (
	Parcel struct {
		Address string `json:"address"`
	}
	ParcelV2 struct {
		Street string `json:"street"`
		City   string `json:"city"`
	}
)

// Both versions travel on one channel, which bears the contract's name.
var (
	Shipped   = dovetail.NewEvent[Parcel]("shipping.shipped")
	ShippedV2 = dovetail.NewEvent[ParcelV2]("shipping.shipped").Version(2)
)

// deliverBoth is the new release of the receiver: it handles both versions.
func deliverBoth(svc *dovetail.Service, deliver func(ParcelV2)) {
	Shipped.Subscribe(svc, func(_ context.Context, p Parcel) error {
		deliver(ParcelV2{Street: p.Address})
		return nil
	})
	ShippedV2.Subscribe(svc, func(_ context.Context, p ParcelV2) error {
		deliver(p)
		return nil
	})
}

func TestRollingDeploy(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var got []string
		deliver := func(p ParcelV2) { got = append(got, p.Street+p.City) }
		old := h.Service("courier", dovetail.Options{Instance: "old"})
		Shipped.Subscribe(old, func(_ context.Context, p Parcel) error {
			deliver(ParcelV2{Street: p.Address})
			return nil
		})
		sender := h.Service("shipping")
		sender.Declare(Shipped, ShippedV2)
		h.Start()
		// The sender is a release ahead: version 2 reaches an instance without its handler.
		if err := errors.Join(
			Shipped.Publish(t.Context(), sender, Parcel{"1 Mill Lane"}),
			ShippedV2.Publish(t.Context(), sender, ParcelV2{"2 Mill Lane", ", Leeds"}),
		); err != nil {
			t.Fatal(err)
		}
		h.Settle()
		if s := fmt.Sprint(got, len(h.Waiting("courier"))); s != "[1 Mill Lane] 1" {
			t.Fatalf("handled and waiting: %s", s)
		}
		fresh := h.Service("courier", dovetail.Options{Instance: "new"})
		deliverBoth(fresh, deliver)
		h.Start()
		h.Settle()
		if want := []string{"1 Mill Lane", "2 Mill Lane, Leeds"}; !slices.Equal(got, want) {
			t.Errorf("handled %q", got)
		}
	})
}
