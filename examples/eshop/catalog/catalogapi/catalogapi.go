// Package catalogapi is what other services may know of the catalog: its
// contracts.
package catalogapi

import "github.com/dovetail-go/dovetail"

// stock is the channel of what moves goods.
var stock = dovetail.NewChannel("catalog.stock")

// The contracts of the catalog.
var (
	// ReserveStock takes goods off the shelves: all of them, or none, and then
	// it is refused as OutOfStock.
	ReserveStock = dovetail.NewCall[Goods, Goods]("catalog.reserve-stock").On(stock).Keyed(Goods.key)

	// ReleaseStock undoes the reservation that an order has made: the
	// compensation of ReserveStock.
	ReleaseStock = dovetail.NewCommand[Goods]("catalog.release-stock").On(stock).Keyed(Goods.key)

	// ReturnStock puts goods back that were bought earlier.
	ReturnStock = dovetail.NewCommand[Goods]("catalog.return-stock").On(stock).Keyed(Goods.key)

	// SalesChanged tells every instance how much was sold by now.
	SalesChanged = dovetail.NewEvent[[]Sales]("catalog.sales-changed")

	// CacheView asks every instance what it has in its cache, to compare.
	CacheView = dovetail.NewSurvey[Everything, View]("catalog.cache-view")
)

// OutOfStock is the code of a refusal: a shelf has less than is wanted.
const OutOfStock = "out-of-stock"

// Goods are things that an order moves.
type Goods struct {
	Order string `json:"order"`
	Items []Item `json:"items,omitempty"` // each SKU once
}

// An Item is so many of one thing.
type Item struct {
	SKU   string `json:"sku"`
	Units int64  `json:"units"`
}

func (g Goods) key() string { return g.Order }

// Sales are what was sold of one thing. A higher version is newer.
type Sales struct {
	SKU     string `json:"sku"`
	Units   int64  `json:"units"`
	Version int64  `json:"version"`
}

// Everything is the one question that CacheView asks.
type Everything struct{}

// A View sums up what an instance has in its cache. Equal caches have equal
// views.
type View struct {
	SKUs  int    `json:"skus"`
	Units int64  `json:"units"`
	Hash  string `json:"hash"`
}
