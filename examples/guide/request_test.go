package guide

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
)

type Stock struct {
	SKU   string `json:"sku"`
	Count int    `json:"count"`
}

var (
	Reserve   = dovetail.NewCall[Stock, Stock]("catalog.reserve")
	CacheView = dovetail.NewSurvey[string, Stock]("catalog.cache-view")
)

// reserveFor asks, and says what each outcome means to the caller.
func reserveFor(ctx context.Context, from dovetail.Caller, order string, want Stock) (string, error) {
	left, err := Reserve.Request(ctx, from, want, dovetail.Within(2*time.Second), dovetail.ID(order+"/reserve"))
	var refusal *dovetail.RemoteRefusal
	var failure *dovetail.RemoteError
	switch {
	case err == nil:
		return fmt.Sprint(left.Count, " left"), nil
	case errors.As(err, &refusal): // a business answer
		return "refused: " + refusal.Code, nil
	case errors.As(err, &failure): // the receiver gave up; the request is among its dead letters
		return "", err
	case errors.Is(err, dovetail.ErrNoReply): // it may have been done: ask again under the same id
		return "", err
	}
	return "", err // nothing was sent, or the context ended
}

func TestRequest_has_these_outcomes(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		catalog, ordering := h.Service("catalog"), h.Service("ordering")
		Reserve.Handle(catalog, func(_ context.Context, want Stock) (Stock, error) {
			switch want.SKU {
			case "mug":
				return Stock{"mug", 12 - want.Count}, nil
			case "cup":
				return Stock{}, dovetail.Refuse("out-of-stock", "no cups")
			case "jug":
				return Stock{}, dovetail.Permanent(errors.New("unknown SKU jug"))
			}
			return Stock{}, errDown // tried again for longer than the caller waits
		})
		ordering.Declare(Reserve)
		h.Start()
		for sku, want := range map[string]string{
			"mug": "9 left <nil>", "cup": "refused: out-of-stock <nil>",
			"jug": " catalog failed after 1 attempts: unknown SKU jug",
		} {
			s, err := reserveFor(t.Context(), ordering, "order-"+sku, Stock{sku, 3})
			if got := fmt.Sprint(s, " ", err); got != want {
				t.Errorf("%s: got %q, want %q", sku, got, want)
			}
		}
		if _, err := reserveFor(t.Context(), ordering, "order-pot", Stock{"pot", 3}); !errors.Is(err, dovetail.ErrNoReply) {
			t.Errorf("got %v, want ErrNoReply", err)
		}
	})
}

// agree asks every instance that listens, and ends once two have answered.
func agree(ctx context.Context, from dovetail.Caller, sku string) (counts []int, err error) {
	for a, err := range CacheView.Gather(ctx, from, sku, dovetail.Within(time.Second), dovetail.Quorum(2)) {
		switch {
		case errors.Is(err, dovetail.ErrQuorum):
			return counts, err // comes last: too few answered in time
		case err != nil:
			continue // this instance refused or failed; a.Instance says which
		}
		counts = append(counts, a.Value.Count)
	}
	return counts, nil
}

func TestGather_ends_with_the_quorum_or_says_what_is_short(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		for i, instance := range []string{"one", "two"} {
			svc := h.Service("catalog", dovetail.Options{Instance: instance})
			CacheView.Handle(svc, func(_ context.Context, sku string) (Stock, error) {
				if sku == "cup" && i == 0 {
					return Stock{}, dovetail.Refuse("cold", "the cache is empty")
				}
				return Stock{sku, 12}, nil
			})
		}
		shop := h.Service("shop")
		shop.Declare(CacheView)
		h.Start()
		if counts, err := agree(t.Context(), shop, "mug"); err != nil || len(counts) != 2 {
			t.Errorf("mug: %v, %v", counts, err)
		}
		counts, err := agree(t.Context(), shop, "cup")
		var short *dovetail.QuorumError
		if !errors.As(err, &short) || short.Got != 1 || short.Bad != 1 || len(counts) != 1 {
			t.Errorf("cup: %v, %v", counts, err)
		}
	})
}

// Ask does not wait: answers come to a handler, of any instance, whenever.
func TestAsk_has_its_answers_handled(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		catalog, shop := h.Service("catalog"), h.Service("shop")
		CacheView.Handle(catalog, func(_ context.Context, sku string) (Stock, error) { return Stock{sku, 12}, nil })
		var got []dovetail.Answer[Stock]
		CacheView.Answers(shop, func(_ context.Context, a dovetail.Answer[Stock], err error) error {
			if err == nil {
				got = append(got, a)
			}
			return nil
		})
		shop.Declare(CacheView)
		h.Start()
		if err := CacheView.Ask(t.Context(), shop, "mug", dovetail.ID("survey-1")); err != nil {
			t.Fatal(err)
		}
		h.Settle()
		if len(got) != 1 || got[0].Request != "survey-1" || got[0].Value.Count != 12 {
			t.Errorf("got %+v", got)
		}
	})
}
