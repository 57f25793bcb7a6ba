package rabbitbus

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// decode fills m from a delivery. Headers of every AMQP type become text. What
// cannot be read is returned as the fault; m then holds the rest.
func decode(m *driver.Message, channel string, d *amqp.Delivery) (fault error) {
	m.Channel, m.ContentType, m.Body = channel, foreign(d.ContentType), d.Body
	events := false
	others := 0 // headers that are no attributes
	for name, value := range d.Headers {
		attr, ok := attributeOf(name)
		if !ok {
			if !isServers(name) {
				others++
			}
			continue
		}
		known, err := driver.SetAttribute(m, attr, text(value))
		switch {
		case err != nil:
			fault = fmt.Errorf("header %s: %w", name, err)
			others++
		case !known:
			others++
		default:
			events = true
		}
	}
	if !events {
		fromProperties(m, d)
	}
	if others > 0 {
		m.Headers = appendForeign(make(driver.Headers, 0, others), d.Headers, fault != nil)
	}
	if d.ContentEncoding != "" {
		m.Headers = append(m.Headers, driver.Header{Name: "content-encoding", Value: foreign(d.ContentEncoding)})
	}
	return fault
}

// attributeOf returns the name of the attribute that a header is, by prefix.
func attributeOf(name string) (attr string, ok bool) {
	if len(name) <= len(attributePrefix) || !hasPrefixFold(name, attributePrefix) && !hasPrefixFold(name, otherPrefix) {
		return "", false
	}
	return lower(name[len(attributePrefix):]), true
}

// fromProperties takes what AMQP's own properties say of a message without
// CloudEvents attributes.
func fromProperties(m *driver.Message, d *amqp.Delivery) {
	m.ID, m.Source, m.Type = foreign(d.MessageId), foreign(d.AppId), foreign(d.Type)
	m.CorrelationID, m.ReplyTo = foreign(d.CorrelationId), foreign(d.ReplyTo)
	if !d.Timestamp.IsZero() {
		m.Time = d.Timestamp.UTC()
	}
}

// appendForeign appends the headers that are no attributes of ours, by name.
func appendForeign(dst driver.Headers, table amqp.Table, faulty bool) driver.Headers {
	for name, value := range table {
		attr, prefixed := attributeOf(name)
		switch {
		case isServers(name), prefixed && !faulty && driver.IsAttribute(attr):
			continue
		case strings.EqualFold(name, escapedHeader):
			for _, v := range listOf(value) {
				n, v, _ := strings.Cut(text(v), "=")
				dst = append(dst, driver.Header{Name: n, Value: v})
			}
			continue
		}
		for _, v := range listOf(value) {
			dst = append(dst, driver.Header{Name: foreign(name), Value: text(v)})
		}
	}
	slices.SortStableFunc(dst, func(a, b driver.Header) int { return strings.Compare(a.Name, b.Name) })
	return dst
}

// listOf returns the values of a header that is a list, which stands for one
// that occurs more than once.
func listOf(value any) []any {
	if list, ok := value.([]any); ok && len(list) > 0 {
		return list
	}
	return []any{value}
}

// text is a value of any AMQP type as text: bytes that are no text as
// driver.ForeignText has them, tables and lists as JSON.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return foreign(v)
	case []byte:
		return driver.ForeignText(v)
	case nil:
		return ""
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case amqp.Decimal:
		return decimal(v)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case amqp.Table, []any:
		b, err := json.Marshal(plain(v))
		if err != nil {
			return foreign(fmt.Sprint(v))
		}
		return string(b)
	}
	return fmt.Sprint(value) // the integers
}

// foreign is driver.ForeignText of a string of AMQP, which may hold any bytes.
func foreign(s string) string {
	if driver.ValidText(s) == nil {
		return s
	}
	return driver.ForeignText([]byte(s))
}

// plain is a value whose parts JSON has.
func plain(value any) any {
	switch v := value.(type) {
	case amqp.Table:
		m := make(map[string]any, len(v))
		for name, part := range v {
			m[name] = plain(part)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, part := range v {
			list[i] = plain(part)
		}
		return list
	case bool, int8, uint8, int16, uint16, int32, uint32, int64, nil:
		return v
	}
	return text(value)
}

// decimal is a decimal as people write it.
func decimal(d amqp.Decimal) string {
	if d.Scale == 0 {
		return strconv.FormatInt(int64(d.Value), 10)
	}
	r := new(big.Rat).SetFrac(big.NewInt(int64(d.Value)), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Scale)), nil))
	return r.FloatString(int(d.Scale))
}

// lower is strings.ToLower without a copy for what is lower case already, as
// attribute names are.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}

// attemptOf is how often a delivery was tried, from 1. Quorum queues count the
// times that it came back.
func attemptOf(d *amqp.Delivery) int {
	n := int64(0)
	switch v := d.Headers["x-delivery-count"].(type) {
	case int64:
		n = v
	case int32:
		n = int64(v)
	case int16:
		n = int64(v)
	case int8:
		n = int64(v)
	case uint8:
		n = int64(v)
	case int:
		n = int64(v)
	}
	if n == 0 && d.Redelivered {
		n = 1
	}
	return int(n) + 1
}
