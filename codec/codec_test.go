package codec_test

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/codec"
)

type item struct {
	XMLName xml.Name `json:"-" xml:"item"`
	SKU     string   `json:"sku" xml:"sku"`
	Count   int      `json:"count" xml:"count"`
}

func TestCodecs_give_back_what_they_were_given(t *testing.T) {
	for _, c := range []codec.Codec{codec.JSON, codec.XML} {
		want := item{SKU: "85123A ✓ <&>", Count: 6}
		body, err := c.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got item
		if err := c.Unmarshal(body, &got); err != nil {
			t.Fatalf("%s: %v", c.ContentType(), err)
		}
		if got.SKU != want.SKU || got.Count != want.Count {
			t.Errorf("%s: got %+v, want %+v", c.ContentType(), got, want)
		}
	}
}

func TestLookup_ignores_parameters_and_falls_back_on_the_suffix(t *testing.T) {
	for _, name := range []string{"application/json", "application/json; charset=utf-8", "application/problem+json"} {
		if c, err := codec.Lookup(name); err != nil || c != codec.JSON {
			t.Errorf("%s: got %v, %v", name, c, err)
		}
	}
	if _, err := codec.Lookup("application/x-unheard-of"); err == nil || !strings.Contains(err.Error(), "application/json") {
		t.Errorf("want an error that lists the registered types, got %v", err)
	}
}

func TestCodecs_refuse_what_nests_too_deep(t *testing.T) {
	var v any
	deep := strings.Repeat("[", codec.MaxDepth+1) + strings.Repeat("]", codec.MaxDepth+1)
	if err := codec.JSON.Unmarshal([]byte(deep), &v); err == nil {
		t.Error("json: want an error")
	}
	wide := "[" + strings.Repeat(`["[["],`, 1000) + "[]]"
	if err := codec.JSON.Unmarshal([]byte(wide), &v); err != nil {
		t.Errorf("json: many shallow arrays are no depth: %v", err)
	}
	var x struct {
		Inner string `xml:",innerxml"`
	}
	deepXML := strings.Repeat("<a>", codec.MaxDepth+1) + strings.Repeat("</a>", codec.MaxDepth+1)
	if err := codec.XML.Unmarshal([]byte(deepXML), &x); err == nil {
		t.Error("xml: want an error")
	}
}

func TestCodecs_refuse_to_encode_what_they_would_not_decode(t *testing.T) {
	type node struct {
		XMLName xml.Name `json:"-" xml:"node"`
		Next    []node   `json:"next,omitempty" xml:"node"`
	}
	for depth, ok := range map[int]bool{codec.MaxDepth / 2: true, codec.MaxDepth + 1: false} {
		var n node
		for range depth - 1 {
			n = node{Next: []node{n}}
		}
		if _, err := codec.XML.Marshal(n); (err == nil) != ok {
			t.Errorf("xml, %d deep: %v", depth, err)
		}
		if _, err := codec.JSON.Marshal(n); (err == nil) != ok {
			t.Errorf("json, %d deep: %v", 2*depth-1, err)
		}
	}
	if _, err := codec.JSON.Marshal(make([][1]string, 1000)); err != nil {
		t.Errorf("json: many shallow arrays are no depth: %v", err)
	}
	if _, err := codec.XML.Marshal(struct {
		XMLName xml.Name `xml:"wide"`
		Item    []string
	}{Item: make([]string, 1000)}); err != nil {
		t.Errorf("xml: many shallow elements are no depth: %v", err)
	}
}

func ExampleLookup() {
	c, _ := codec.Lookup("application/json; charset=utf-8")
	body, _ := c.Marshal(map[string]int{"count": 6})
	fmt.Println(string(body))
	// Output: {"count":6}
}
