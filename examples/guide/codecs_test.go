package guide

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/codec"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
)

type Offer struct {
	XMLName xml.Name `json:"-" xml:"offer"`
	SKU     string   `json:"sku" xml:"sku,attr"`
	Pence   int      `json:"pence" xml:"pence"`
}

// The contract says how its bodies are encoded.
var (
	Priced   = dovetail.NewEvent[Offer]("catalog.priced") // JSON
	PricedV2 = dovetail.NewEvent[Offer]("catalog.priced").Version(2).Encoded(codec.XML)
	Scanned  = dovetail.NewDocument[[]byte]("catalog.scanned")                   // bytes as they are
	Noted    = dovetail.NewCommand[string]("catalog.noted").Encoded(codec.Bytes) // text without quotes
	Pictured = dovetail.NewDocument[[]byte]("catalog.pictured").Encoded(png{codec.Bytes})
	Paid     = dovetail.NewEvent[url.Values]("shop.paid").Encoded(form{})
)

// png is codec.Bytes with another media type.
type png struct{ codec.Codec }

func (png) ContentType() string { return "image/png" }

// form carries url.Values as web forms and web hooks do.
type form struct{}

func (form) ContentType() string { return "application/x-www-form-urlencoded" }

func (form) Marshal(v any) ([]byte, error) {
	values, ok := v.(url.Values)
	if !ok {
		return nil, fmt.Errorf("a form carries url.Values, not %T", v)
	}
	return []byte(values.Encode()), nil
}

func (form) Unmarshal(data []byte, v any) (err error) {
	values, ok := v.(*url.Values)
	if !ok {
		return fmt.Errorf("a form carries url.Values, not %T", v)
	}
	*values, err = url.ParseQuery(string(data))
	return err
}

func init() { codec.Register(form{}) }

func TestEncoded_says_what_travels(t *testing.T) {
	rec, ctx := dovetailtest.NewRecorder("catalog"), t.Context()
	offer := Offer{SKU: "mug", Pence: 450}
	if err := errors.Join(
		Priced.Publish(ctx, rec, offer),
		PricedV2.Publish(ctx, rec, offer),
		Scanned.Send(ctx, rec, []byte("x=3")),
		Noted.Send(ctx, rec, "x=3"),
		Pictured.Send(ctx, rec, []byte("\x89PNG")),
		Paid.Publish(ctx, rec, url.Values{"order": {"7"}, "pence": {"450"}}),
	); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range rec.Messages() {
		got = append(got, fmt.Sprintf("%s %s %q", m.Type, m.ContentType, m.Body))
	}
	want := []string{
		`catalog.priced.v1 application/json "{\"sku\":\"mug\",\"pence\":450}"`,
		`catalog.priced.v2 application/xml "<offer sku=\"mug\"><pence>450</pence></offer>"`,
		`catalog.scanned.v1 application/octet-stream "x=3"`,
		`catalog.noted.v1 application/octet-stream "x=3"`,
		`catalog.pictured.v1 image/png "\x89PNG"`,
		`shop.paid.v1 application/x-www-form-urlencoded "order=7&pence=450"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %s", strings.Join(got, "\n"))
	}
}

// The handler of one contract gets the same value from different encodings.
func TestDecoding_follows_the_content_type(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		handled := 0
		svc := h.Service("shop", dovetail.Options{Concurrency: 1})
		Priced.Subscribe(svc, func(_ context.Context, o Offer) error {
			if handled++; o.SKU != "mug" || o.Pence != 450 {
				t.Errorf("got %+v", o)
			}
			return nil
		})
		h.Start()
		for contentType, body := range map[string]string{
			"":                                `{"sku":"mug","pence":450}`, // the contract's codec
			"application/json; charset=utf-8": `{"sku":"mug","pence":450}`,
			"application/vnd.shop.offer+json": `{"sku":"mug","pence":450,"new":true}`,
			"application/xml":                 `<offer sku="mug"><pence>450</pence></offer>`,
		} {
			h.Deliver(&driver.Message{Channel: "catalog.priced", Type: "catalog.priced.v1", ContentType: contentType, Body: []byte(body)})
		}
		h.Settle()
		if handled != 4 {
			t.Errorf("handled %d of 4; dead letters %+v", handled, h.DeadLetters("shop"))
		}
	})
}

// A body that nobody here can decode is a dead letter at once, and the next
// message of its key goes on.
func TestContentType_that_is_unknown_makes_a_dead_letter(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		handled := 0
		svc := h.Service("shop")
		Priced.Subscribe(svc, func(context.Context, Offer) error { handled++; return nil })
		h.Start()
		for _, contentType := range []string{"text/csv", "no media type", "application/json"} {
			h.Deliver(&driver.Message{Channel: "catalog.priced", Type: "catalog.priced.v1", Key: "mug", ContentType: contentType, Body: []byte(`{}`)})
			h.Settle()
		}
		dead := h.DeadLetters("shop")
		if handled != 1 || len(dead) != 2 || dead[0].Attempts != 1 ||
			!strings.HasPrefix(dead[0].Error, `decode catalog.priced.v1: no codec for content type "text/csv" (registered: application/json, `) {
			t.Errorf("handled %d, dead letters %+v", handled, dead)
		}
	})
}

func TestEncoding_that_fails_sends_nothing(t *testing.T) {
	rec := dovetailtest.NewRecorder("catalog")
	rate := dovetail.NewEvent[float64]("catalog.rate")
	named := dovetail.NewDocument[png]("catalog.named").Encoded(codec.Bytes)
	for name, err := range map[string]error{
		"no JSON": rate.Publish(t.Context(), rec, math.NaN()), "no bytes": named.Send(t.Context(), rec, png{}),
	} {
		if !errors.Is(err, dovetail.ErrInvalid) || len(rec.Messages()) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type scan []byte

// A call encodes both ways. A refusal is a problem document whatever the codec is.
func TestCodec_of_a_call_is_for_both_ways(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		quote := dovetail.NewCall[Offer, Offer]("catalog.quote").Encoded(codec.XML)
		catalog, shop := h.Service("catalog"), h.Service("shop")
		quote.Handle(catalog, func(_ context.Context, o Offer) (Offer, error) {
			if o.SKU == "cup" {
				return o, dovetail.Refuse("unknown", "no cups")
			}
			o.Pence = 450
			return o, nil
		})
		shop.Declare(quote)
		h.Start()
		got, err := quote.Request(t.Context(), shop, Offer{SKU: "mug"})
		_, refused := quote.Request(t.Context(), shop, Offer{SKU: "cup"})
		var r *dovetail.RemoteRefusal
		if got.Pence != 450 || err != nil || !errors.As(refused, &r) || r.Code != "unknown" {
			t.Errorf("%+v, %v, %v", got, err, refused)
		}
	})
}

// Only []byte itself travels as it is by default.
func TestBytes_by_another_name_are_JSON(t *testing.T) {
	if got := dovetail.NewDocument[scan]("catalog.scan").Spec().ContentType; got != "application/json" {
		t.Errorf("content type %s", got)
	}
}
