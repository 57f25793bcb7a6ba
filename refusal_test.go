package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
)

func TestRefusal_of_another_service_is_a_failure_of_the_handler_that_returns_it(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		catalog := h.Service("catalog")
		reserve.Handle(catalog, func(context.Context, item) (item, error) {
			return item{}, dovetail.Refuse("out-of-stock", "no %s", "tea")
		})
		shop := h.Service("shop", dovetail.Options{Retry: dovetail.RetryPolicy{Attempts: 3}})
		shop.Declare(reserve, welcome, ranLow)
		attempts := 0
		welcome.Handle(shop, func(ctx context.Context, i item) error {
			attempts++
			_, err := reserve.Request(ctx, shop, i)
			var remote *dovetail.RemoteRefusal
			if !errors.As(err, &remote) || *remote != (dovetail.RemoteRefusal{Service: "catalog", Code: "out-of-stock", Message: "no tea"}) {
				t.Errorf("got %#v", err)
			}
			var asOwn *dovetail.Refusal // how callers read it before there was a RemoteRefusal
			if !errors.As(err, &asOwn) || asOwn.Code != "out-of-stock" || asOwn.Message != "no tea" {
				t.Errorf("got %#v", err)
			}
			switch i.SKU {
			case "plain":
				return err
			case "wrapped":
				return fmt.Errorf("reserve: %w", errors.Join(errors.New("x"), err))
			case "extracted":
				return asOwn
			}
			return dovetail.Refuse(remote.Code, "%s", remote.Message)
		})
		h.Start()
		for i, sku := range []string{"plain", "wrapped", "extracted"} {
			attempts = 0
			if err := welcome.Send(t.Context(), shop, item{SKU: sku}); err != nil {
				t.Fatal(err)
			}
			h.Advance(time.Minute)
			if n := len(h.DeadLetters("shop")); attempts != 3 || n != i+1 {
				t.Errorf("%s: %d attempts, %d dead letters", sku, attempts, n)
			}
		}
		if err := welcome.Send(t.Context(), shop, item{SKU: "passed on"}); err != nil {
			t.Fatal(err)
		}
		h.Advance(time.Minute)
		if s := shop.Stats(); s.Refused != 1 || s.Dead != 3 || s.Handled != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestRefusalOf_finds_only_what_Refuse_made(t *testing.T) {
	own, remote := dovetail.Refuse("no", "no"), &dovetail.RemoteRefusal{Code: "no"}
	var none *dovetail.Refusal
	for _, err := range []error{nil, none, remote, fmt.Errorf("a: %w", remote), errors.New("x"), errors.Join(remote, none)} {
		if dovetail.RefusalOf(err) != nil {
			t.Errorf("%v is taken for a refusal", err)
		}
	}
	for _, err := range []error{own, fmt.Errorf("a: %w", own), errors.Join(remote, own), dovetail.Permanent(own)} {
		if dovetail.RefusalOf(err) == nil {
			t.Errorf("%v is not taken for a refusal", err)
		}
	}
}
